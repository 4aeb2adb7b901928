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
MOST_CONCURRENCY = 1e5
MOST_WORKERS = 4096.0
# "": the sweep where its lengths are given, steady elsewhere.
PROTOCOLS = ("", "sweep", "steady")
RANKS = ("attention_dp_size", "prefill_attention_dp_size")
# Sizes that may be means: lengths, and by Little's law users.
MEANS = ("isl", "osl", "batch_size", "concurrency")


def _most(key: str) -> float:
    return MOST.get(key.removeprefix("prefill_"), MOST_CONCURRENCY if key == "concurrency" else MOST_WORKERS)


def sound_rows(
    models: Sequence[Model | None],
    gpus: Sequence[GPUType | None],
    backends: Sequence[str],
    modes: Sequence[str],
    figures: Mapping[str, Array],
    formats: Sequence[tuple[str, ...]],
    protocols: Sequence[str],
) -> NDArray[np.bool_]:
    """Rows that `refusal_of` has nothing to say of, found all at once."""
    longest = np.array([np.nan if found is None else found.max_context for found in models])
    with np.errstate(invalid="ignore"):  # endless tokens of both signs
        fine = figures["isl"] + figures["osl"] <= longest
    fine &= np.isin(np.array(protocols, dtype=np.str_), PROTOCOLS)
    for key, values in figures.items():
        fine &= ((values >= 1) & (values <= _most(key))) | ((key == "batch_size") & np.isnan(values))
        if key not in MEANS:
            fine &= values == np.rint(values)
    fine &= _fits(models, figures)
    known = [
        card is not None and backend in ENGINES and mode in ("agg", "disagg") and all(f in FORMATS for f in form)
        for card, backend, mode, form in zip(gpus, backends, modes, formats, strict=True)
    ]
    return np.asarray(fine & np.array(known))


def refusal_of(
    i: int,
    name: str,
    found: Model | None,
    system: str,
    card: GPUType | None,
    backend: str,
    mode: str,
    figures: Mapping[str, Array],
    formats: tuple[str, ...],
    protocol: str,
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
    if protocol not in PROTOCOLS:
        return f"unknown protocol {protocol[:40]!r}: sweep or steady"
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
        if key not in MEANS and value != round(value):
            return f"{key} is {value:g}, allowed are whole numbers"
    total = figures["isl"][i] + figures["osl"][i]
    if total > found.max_context:
        return f"{total:,.0f} tokens a request, {found.name} is made for {found.max_context:,}"
    return _misfit(found, figures, i)


def _fits(models: Sequence[Model | None], figures: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Rows that `_misfit` has nothing to say of."""
    # By identity: to hash an architecture takes longer than to predict it.
    ids, fine = np.array([id(found) for found in models]), np.ones(len(models), dtype=bool)
    for found in {id(found): found for found in models if found is not None}.values():
        here = ids == id(found)
        names = ("tp_size", "prefill_tp_size", "pp_size", "moe_ep_size", "prefill_moe_ep_size", *RANKS)
        degrees = np.stack([figures[name][here] for name in names])
        kinds, at = np.unique(degrees, axis=1, return_inverse=True)
        sizes = dict(zip(names, kinds, strict=True))
        usable = ((kinds >= 1) & (kinds <= MOST_WORKERS)).all(axis=0)
        sound = [bool(ok) and not _misfit(found, sizes, i) for i, ok in enumerate(np.atleast_1d(usable))]
        fine[here] = np.array(sound)[at.reshape(-1)]
    return fine


def _misfit(found: Model, figures: Mapping[str, Array], i: int) -> str:
    """Degrees that the model cannot be split by."""
    for key in ("tp_size", "prefill_tp_size"):
        tp = int(figures[key][i])
        for heads in {block.attention.heads for block in found.blocks if block.attention is not None}:
            if heads % tp:
                return f"{key.removesuffix('_size')}={tp} does not divide {heads} heads of {found.name}"
    layers, pp = sum(block.count for block in found.blocks), int(figures["pp_size"][i])
    if pp > layers:
        return f"pp_size={pp} is more than {layers} layers of {found.name}"
    dense = not any(block.ffn and block.ffn.experts for block in found.blocks)
    if dense and max(figures["moe_ep_size"][i], figures["prefill_moe_ep_size"][i]) > 1:
        return f"moe_ep_size is more than 1, and {found.name} has no experts"
    for first in ("", "prefill_"):
        gpus = figures[f"{first}tp_size"][i] * figures[f"{first}attention_dp_size"][i]
        ep = figures[f"{first}moe_ep_size"][i]
        if not dense and gpus % ep and ep % gpus:
            return f"{first}moe_ep_size={ep:g} does not share {gpus:g} GPUs out evenly"
    return ""
