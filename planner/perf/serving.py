"""Predicts a serving engine: TTFT, TPOT, throughput, power and memory of each row, with intervals and a source.

`measured`: engine, version, model and GPU were measured together, near such sizes and in such a layout
(`serving_ranges`). `modelled`: one of these is new. `extrapolated`: the GPU is new. Where model and GPU are known,
trees add what they learned of the error of the physics. Intervals are 90 % conformal, from rows left out likewise.

The column `protocol` says how a run is made. `sweep`: ten requests a user, of 80 to 100 % of the stated lengths, as the
InferenceX sweep makes them. `steady`: requests of the stated lengths, for as long as it takes. Left out, it is the
sweep at that sweep's three pairs of lengths (1024/1024, 1024/8192, 8192/1024) and steady elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf.conformal import interval
from planner.perf.memory import beside_bytes
from planner.perf.serving_features import share_features, step_features
from planner.perf.serving_first import first_features, first_index, first_s, room_for, waits
from planner.perf.serving_physics import OTHER_BYTES, Demand, demand, index
from planner.perf.serving_power import watts
from planner.perf.serving_ranges import within
from planner.perf.serving_rows import ENGINES, Rows, parse
from planner.perf.serving_step import log_step_s, placed, prompt_s, steps
from planner.perf.stored import stored, told
from planner.perf.tables import Columns
from planner.perf.trees import Forest, predict_middle, rounded, unpack

Array = NDArray[np.float64]
ADDED = (
    "ttft_s", "tpot_s", "tokens_per_s_per_gpu", "power_w", "joules_per_token", "hbm_bytes",
    "ttft_lo_s", "ttft_hi_s", "tpot_lo_s", "tpot_hi_s", "source", "refusal", "note",
    "power_lo_w", "power_hi_w", "power_source",
)  # fmt: skip
# Trees that agree to the last digit have seen the row itself; runs repeat to 2 % and 4 % (within one engine version).
LEAST_SPREAD = {"tpot": 0.02, "ttft": 0.04}


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The shipped model."""

    step: Array
    step_names: tuple[str, ...]
    first: Array
    first_new: Array
    campaigns: tuple[str, ...]
    versions: tuple[str, ...]
    step_trees: Forest
    first_trees: Forest
    meta: Mapping[str, Any]


def unpacked(arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    """A model from its arrays."""
    versions = tuple(str(name) for name in arrays["versions"])
    step_trees, first_trees = unpack(arrays, "step_trees"), unpack(arrays, "first_trees")
    names = tuple(str(name) for name in arrays["step_names"])
    campaigns = tuple(str(name) for name in arrays["first_campaigns"])
    first = arrays["first"], arrays["first_new"]
    return Fitted(arrays["step"], names, *first, campaigns, versions, step_trees, first_trees, told(arrays))


@cache
def fitted() -> Fitted:
    """The shipped model, read once."""
    return unpacked(stored("serving"))


def logs(rows: Rows, model: Fitted) -> dict[str, Array]:
    """Log seconds of every row by the physics alone and with the trees, and how far the trees disagree."""
    d = demand(rows)
    return _logs(rows, d, index(rows, model.versions), model)


def _logs(rows: Rows, d: Demand, at: Any, model: Fitted) -> dict[str, Array]:
    terms = steps(rows, d)
    ready = placed(terms, model.step_names)
    log_tpot, shares = log_step_s(model.step, ready)
    tpot_s, each_s = np.exp(log_tpot), prompt_s(model.step, model.step_names, rows, d, terms.levels)
    found = waits(rows, d, tpot_s, each_s)
    ttft_s = first_s(model.first, model.first_new, found, first_index(rows, model.campaigns), len(model.campaigns))
    x = step_features(rows, d, at, tpot_s, each_s)
    z = share_features(x, rows, d, tuple(ready.groups[g] for g in ready.group_of), shares)
    tpot_more, tpot_spread = predict_middle(model.step_trees, rounded(z))
    ttft_more, ttft_spread = predict_middle(model.first_trees, rounded(first_features(x, found, ttft_s)))
    return {
        "tpot_physics": np.log(tpot_s),
        "ttft_physics": np.log(ttft_s),
        "tpot": np.log(tpot_s) + tpot_more,
        "ttft": np.log(ttft_s) + ttft_more,
        "tpot_spread": LEAST_SPREAD["tpot"] + tpot_spread,
        "ttft_spread": LEAST_SPREAD["ttft"] + ttft_spread,
    }


def predict(columns: Columns) -> dict[str, NDArray[Any]]:
    """The columns of `ADDED` for every row; a row that cannot be predicted has its reason in `refusal`, and no number.

    Throughput counts output tokens, and does not fall with users who wait for memory: `note` says how many do. Of one
    output token, TPOT is the time of one step. Power is that of all GPUs of the deployment (`power_source`: the energy
    model's "measured" or "modelled", or "roofline", which has no interval); memory that of the fullest GPU.
    """
    rows, model = parse(columns), fitted()
    d = demand(rows)
    refusal = _too_large(rows, d)
    made = _logs(rows, d, index(rows, model.versions), model)
    source, known = _source(rows, model)
    out: dict[str, NDArray[Any]] = {}
    for key in ("ttft", "tpot"):
        seconds = _seconds(key, made, known)
        out[f"{key}_s"] = seconds
        low, high = interval(seconds, _half(key, rows, source, known, made[f"{key}_spread"], model))
        out[f"{key}_lo_s"], out[f"{key}_hi_s"] = low, high
    fine = refusal == ""
    held = np.minimum(rows.concurrency, np.maximum(room_for(rows, d), 1.0) * rows.decode.dp * rows.decode_workers)
    full = _without_wait(columns, held, fine & (held < rows.concurrency), known, out)
    tokens_per_s = held * rows.output_tokens / (full["ttft_s"] + (rows.output_tokens - 1) * full["tpot_s"])
    out["tokens_per_s_per_gpu"] = tokens_per_s / rows.gpus_used
    drawn = watts(rows, d, out["tpot_s"], tokens_per_s / rows.output_tokens)
    out |= {"power_w": drawn.power_w, "power_lo_w": drawn.lo_w, "power_hi_w": drawn.hi_w}
    out["joules_per_token"] = out["power_w"] / tokens_per_s
    stage = rows.table.layers[:, 0] / rows.pp
    out["hbm_bytes"] = d.resident_bytes - OTHER_BYTES + beside_bytes(rows.models, rows.decode.tp, d.sequences, stage)
    for key, values in out.items():
        out[key] = np.where(fine & np.isfinite(values), values, np.nan)
    out["source"], out["power_source"] = np.where(fine, source, ""), np.where(fine, drawn.source, "")
    out["refusal"] = refusal
    out["note"] = np.where(fine, _notes(rows, held, out["ttft_s"] - full["ttft_s"]), "")
    return {key: out[key] for key in ADDED}


def _seconds(key: str, made: Mapping[str, Array], known: NDArray[np.bool_]) -> Array:
    return np.asarray(np.exp(np.where(known, made[key], made[f"{key}_physics"])))


def _without_wait(
    columns: Columns, held: Array, over: NDArray[np.bool_], known: NDArray[np.bool_], out: Mapping[str, Array]
) -> dict[str, Array]:
    """TTFT and TPOT with no more users than memory holds: an engine that is full gets no slower by who waits."""
    found = {f"{key}_s": out[f"{key}_s"].copy() for key in ("ttft", "tpot")}
    if over.any():
        fewer = {name: np.asarray(values)[over] for name, values in columns.items()} | {"concurrency": held[over]}
        made = logs(parse(fewer), fitted())
        for key in ("ttft", "tpot"):
            found[f"{key}_s"][over] = _seconds(key, made, known[over])
    return found


def _notes(rows: Rows, held: Array, wait_s: Array) -> NDArray[Any]:
    """What a number alone does not say: overload, and weights in a format that the GPU has no units for."""
    notes = np.full(len(held), "", dtype=object)
    for i in np.flatnonzero(held < rows.concurrency).tolist():
        users = f"{rows.concurrency[i]:,.0f} users, memory holds {held[i]:,.0f}"
        notes[i] = f"overload: {users}: each waits {max(wait_s[i], 0.0):,.1f} s for a place"
    for i, card in enumerate(rows.gpus):
        form = next((f for f in (rows.gemm_format[i], rows.moe_format[i]) if f == "nvfp4"), "")
        if form and "fp4" not in card.flops_per_s:
            words = f"{card.name} has no units for {form}: only weights are kept in it"
            notes[i] = f"{notes[i]}; {words}" if notes[i] else words
    return notes


def _too_large(rows: Rows, d: Demand) -> NDArray[Any]:
    room = np.array([card.hbm_bytes for card in rows.gpus])
    words = rows.refusal.copy()
    for i in np.flatnonzero((words == "") & (d.weights_bytes > room)):
        words[i] = (
            f"weights take {d.weights_bytes[i] / 1e9:,.0f} GB a GPU, {rows.gpus[i].name} has {room[i] / 1e9:,.0f} GB"
        )
    return words


def _source(rows: Rows, model: Fitted) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The source of each row, and whether model and GPU are known, so that trees apply."""
    names = [key.split("|") for key in model.meta["ranges"]]
    models, gpus = {name for _, name, _ in names}, {name for _, _, name in names}
    new_model = np.array([m.name not in models for m in rows.models])
    new_gpu = np.array([card.name not in gpus for card in rows.gpus])
    near = within(rows, model.meta["ranges"]) & (index(rows, model.versions).version >= 0)
    return np.where(new_gpu, "extrapolated", np.where(near, "measured", "modelled")), ~(new_model | new_gpu)


def _half(key: str, rows: Rows, source: NDArray[Any], trees: NDArray[np.bool_], spread: Array, model: Fitted) -> Array:
    held = model.meta["cross_validation"]
    known = held[f"configurations:{key}"]["half_width"] * spread
    models, gpus = (
        np.array([held[f"{name}:{key}"][f"half_width_{engine}"] for engine in ENGINES])[rows.engine]
        for name in ("models", "gpus")
    )
    modelled = np.where(trees, np.maximum(models, known), models)
    new = np.where(source == "modelled", modelled, np.hypot(models, gpus))
    return np.asarray(np.where(source == "measured", known, new))
