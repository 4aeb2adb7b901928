"""Why a row of a serving table cannot be predicted, in words."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from planner.hardware import GPUType
from planner.model import Model
from planner.perf.formats import FORMATS

Array = NDArray[np.float64]
ENGINES = ("trtllm", "vllm", "sglang")
MOST = {"isl": 4e6, "osl": 1e6, "tp_size": 72, "pp_size": 64, "attention_dp_size": 1024, "batch_size": 1e5}
MOST_CONCURRENCY = 1e6
MOST_WORKERS = 4096.0


def _most(key: str) -> float:
    return MOST.get(key, MOST_CONCURRENCY if key == "concurrency" else MOST_WORKERS)


def sound_rows(
    models: Sequence[Model | None],
    gpus: Sequence[GPUType | None],
    backends: Sequence[str],
    modes: Sequence[str],
    figures: Mapping[str, Array],
    formats: Sequence[tuple[str, str]],
) -> NDArray[np.bool_]:
    """Rows that `refusal_of` has nothing to say of, found all at once."""
    longest = np.array([np.nan if found is None else 4.0 * found.max_context for found in models])
    with np.errstate(invalid="ignore"):  # endless tokens of both signs
        fine = figures["isl"] + figures["osl"] <= longest
    for key, values in figures.items():
        fine &= ((values >= 1) & (values <= _most(key))) | ((key == "batch_size") & np.isnan(values))
    known = [
        card is not None and backend in ENGINES and mode in ("agg", "disagg") and all(f in FORMATS for f in form)
        for card, backend, mode, form in zip(gpus, backends, modes, formats, strict=True)
    ]
    # By identity: to hash an architecture takes longer than to look through its layers.
    tps = np.where(fine, figures["tp_size"], 1.0).astype(int).tolist()
    kinds = {(id(found), tp): found for found, tp in zip(models, tps, strict=True)}
    divided = {key: found is not None and not _undivided(found, key[1]) for key, found in kinds.items()}
    whole = [divided[id(found), tp] for found, tp in zip(models, tps, strict=True)]
    return np.asarray(fine & np.array(known) & np.array(whole))


def _undivided(found: Model, tp: int) -> int:
    """Heads of a layer that a tensor-parallel degree does not divide; 0 where it divides all."""
    odd = (b.attention.heads for b in found.blocks if b.attention is not None and b.attention.heads % tp)
    return next(odd, 0)


def refusal_of(
    i: int,
    name: str,
    found: Model | None,
    system: str,
    card: GPUType | None,
    backend: str,
    mode: str,
    figures: Mapping[str, Array],
    formats: tuple[str, str],
) -> str:
    """Why row `i` cannot be predicted, in words; "" where it can."""
    if not name or not system:
        return f"no {'model_path' if not name else 'system'} given"
    if found is None:
        return f"unknown model {name[:80]!r}: not in the catalogue (muster catalog models)"
    if card is None:
        return f"unknown GPU {system[:80]!r}: not in the catalogue (muster catalog gpus)"
    if backend not in ENGINES:
        return f"unknown engine {backend[:40]!r}: known are {', '.join(ENGINES)}"
    if mode not in ("agg", "disagg"):
        return f"unknown mode {mode[:40]!r}: agg or disagg"
    for form in formats:
        if form not in FORMATS:
            return f"unknown weight format {form[:40]!r}: known are {', '.join(FORMATS)}"
    for key, values in figures.items():
        value, most = float(values[i]), _most(key)
        if key == "batch_size" and np.isnan(value):
            continue
        if not 1 <= value <= most:
            shown = "no number" if not np.isfinite(value) else f"{value:g}"
            return f"{key} is {shown}, allowed are 1 to {most:g}"
    heads = _undivided(found, int(figures["tp_size"][i]))
    if heads:
        return f"tp={int(figures['tp_size'][i])} does not divide {heads} heads of {found.name}"
    total = figures["isl"][i] + figures["osl"][i]
    if total > 4 * found.max_context:
        return f"{total:,.0f} tokens a request, {found.name} is made for {found.max_context:,}"
    return ""
