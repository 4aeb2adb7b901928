"""Predicts a serving engine: TTFT, TPOT, throughput, power and memory of each row, with intervals and a source.

`measured`: engine, model and GPU are among those measured; physics and what trees learned of its error. `modelled`: the
model is new, physics alone. `extrapolated`: the GPU is new. Intervals are 90 % conformal, from rows left out likewise.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf.conformal import interval
from planner.perf.memory import beside_bytes
from planner.perf.serving_features import share_features, step_features
from planner.perf.serving_first import first_features, first_index, first_s, waits
from planner.perf.serving_physics import OTHER_BYTES, Demand, demand, index
from planner.perf.serving_rows import Rows, parse
from planner.perf.serving_step import log_step_s, placed, prompt_s, steps
from planner.perf.tables import Columns
from planner.perf.trees import Forest, predict_spread, rounded, unpack
from planner.power import power_w

Array = NDArray[np.float64]
FILE = "serving.npz"
ADDED = (
    "ttft_s", "tpot_s", "tokens_per_s_per_gpu", "power_w", "joules_per_token", "hbm_bytes",
    "ttft_lo_s", "ttft_hi_s", "tpot_lo_s", "tpot_hi_s", "source", "refusal",
)  # fmt: skip
# Trees that agree to the last digit have seen the row itself; runs repeat to 2 % and 4 % (within one engine version).
LEAST_SPREAD = {"tpot": 0.02, "ttft": 0.04}


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The shipped model."""

    step: Array
    step_names: tuple[str, ...]
    first: Array
    campaigns: tuple[str, ...]
    versions: tuple[str, ...]
    step_trees: Forest
    first_trees: Forest
    meta: Mapping[str, Any]


def unpacked(stored: Mapping[str, NDArray[Any]]) -> Fitted:
    """A model from its arrays."""
    meta = json.loads(str(stored["meta"])) if "meta" in stored else {}
    versions = tuple(str(name) for name in stored["versions"])
    step_trees, first_trees = unpack(stored, "step_trees"), unpack(stored, "first_trees")
    names = tuple(str(name) for name in stored["step_names"])
    campaigns = tuple(str(name) for name in stored["first_campaigns"])
    return Fitted(stored["step"], names, stored["first"], campaigns, versions, step_trees, first_trees, meta)


@cache
def fitted() -> Fitted:
    """The shipped model, read once."""
    with (files("planner.perf") / "data" / FILE).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return unpacked(dict(stored))


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
    ttft_s = first_s(model.first, found, first_index(rows, model.campaigns), len(model.campaigns))
    x = step_features(rows, d, at, tpot_s, each_s)
    z = share_features(x, rows, d, tuple(ready.groups[g] for g in ready.group_of), shares)
    tpot_more, tpot_spread = predict_spread(model.step_trees, rounded(z))
    ttft_more, ttft_spread = predict_spread(model.first_trees, rounded(first_features(x, found, ttft_s)))
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

    Throughput counts output tokens. Power is that of all GPUs of the deployment, memory that of the fullest GPU.
    """
    rows, model = parse(columns), fitted()
    d = demand(rows)
    refusal = _too_large(rows, d)
    made = _logs(rows, d, index(rows, model.versions), model)
    source, known = _source(rows, model)
    out: dict[str, NDArray[Any]] = {}
    for key in ("ttft", "tpot"):
        seconds = np.exp(np.where(known, made[key], made[f"{key}_physics"]))
        out[f"{key}_s"] = seconds
        low, high = interval(seconds, _half(key, source, made[f"{key}_spread"], model))
        out[f"{key}_lo_s"], out[f"{key}_hi_s"] = low, high
    life_s = out["ttft_s"] + (rows.output_tokens - 1) * out["tpot_s"]
    tokens_per_s = rows.concurrency * rows.output_tokens / life_s
    out["tokens_per_s_per_gpu"] = tokens_per_s / rows.gpus_used
    out["power_w"] = _watts(rows, d, out["tpot_s"])
    out["joules_per_token"] = out["power_w"] / tokens_per_s
    stage = rows.table.layers[:, 0] / rows.pp
    out["hbm_bytes"] = d.resident_bytes - OTHER_BYTES + beside_bytes(rows.models, rows.decode.tp, d.sequences, stage)
    fine = refusal == ""
    for key, values in out.items():
        out[key] = np.where(fine & np.isfinite(values), values, np.nan)
    out["source"], out["refusal"] = np.where(fine, source, ""), refusal
    return {key: out[key] for key in ADDED}


def _too_large(rows: Rows, d: Demand) -> NDArray[Any]:
    room = np.array([card.hbm_bytes for card in rows.gpus])
    words = rows.refusal.copy()
    for i in np.flatnonzero((words == "") & (d.weights_bytes > room)):
        words[i] = (
            f"weights take {d.weights_bytes[i] / 1e9:,.0f} GB a GPU, {rows.gpus[i].name} has {room[i] / 1e9:,.0f} GB"
        )
    return words


def _source(rows: Rows, model: Fitted) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    measured = parse_names(model)
    new_model = np.array([m.name not in measured[0] for m in rows.models])
    new_gpu = np.array([card.name not in measured[1] for card in rows.gpus])
    return np.where(new_gpu, "extrapolated", np.where(new_model, "modelled", "measured")), ~(new_model | new_gpu)


@cache
def parse_names(model: Fitted) -> tuple[frozenset[str], frozenset[str]]:
    """Names, as in the catalogue, of the models and GPUs that were measured."""
    names, systems = model.meta["models"], model.meta["gpus"]
    longest = max(len(names), len(systems))
    padded = {
        "model_path": np.array((names * longest)[:longest], dtype=object),
        "system": np.array((systems * longest)[:longest], dtype=object),
    }
    rows = parse(padded)
    return frozenset(m.name for m in rows.models), frozenset(card.name for card in rows.gpus)


def _half(key: str, source: NDArray[Any], spread: Array, model: Fitted) -> Array:
    held = {name: row["half_width"] for name, row in model.meta["cross_validation"].items()}
    known = held[f"configurations:{key}"] * spread
    models, gpus = held[f"models:{key}"], held[f"gpus:{key}"]
    new = np.where(source == "modelled", models, np.hypot(models, gpus))
    return np.asarray(np.where(source == "measured", known, new))


def _watts(rows: Rows, d: Demand, tpot_s: Array) -> Array:
    """Watts of all GPUs: how long their compute units and their memory are busy in a token's time."""
    w, p = d.step, d.prefill
    compute_s = w.gemm_flops + w.moe_flops + w.attention_flops
    compute_s = compute_s + d.per_step * (p.gemm_flops + p.moe_flops + p.attention_flops)
    memory_s = w.gemm_hbm + w.moe_hbm + w.kv + w.activations
    compute, memory = np.minimum(compute_s / tpot_s, 1.0), np.minimum(memory_s / tpot_s, 1.0)
    each = np.array([power_w(card, c, m) for card, c, m in zip(rows.gpus, compute, memory, strict=True)], dtype=float)
    return each * rows.gpus_used
