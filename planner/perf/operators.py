"""Predicts kernels: latency and power of GEMMs, attention, routed experts and collectives on one GPU type.

Ideal time from exact counts, times what trees learned of its inverse utilisation over the measured tables. On a GPU
that was measured, trees that know it (`measured`); on another, trees that see only how a shape fits (`extrapolated`).
Intervals are 90 % conformal, from shapes or from GPUs left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu as gpu_named
from planner.errors import UnknownName
from planner.hardware import GPUType
from planner.perf.collectives import link_work, links
from planner.perf.conformal import interval
from planner.perf.op_features import HARDWARE, Chip, Work, chip
from planner.perf.op_rows import OPERATORS, Kernels, kernels, work_of
from planner.perf.tables import Columns
from planner.perf.trees import Forest, unpack
from planner.perf.trees import predict as trees_predict
from planner.power import idle_w

Array = NDArray[np.float64]
ADDED = ("latency_s", "latency_lo_s", "latency_hi_s", "power_w", "source", "refusal")


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The shipped surfaces of one operator family, and of power."""

    known: Forest
    new: Forest
    half_known: float
    half_new: float


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Seconds of each kernel with its interval, and watts where they were measured for such kernels."""

    latency_s: Array
    lo_s: Array
    hi_s: Array
    power_w: Array
    source: str


@cache
def _stored() -> Mapping[str, NDArray[Any]]:
    path = files("planner.perf") / "data" / "operators.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return MappingProxyType(dict(stored))


@cache
def meta() -> Mapping[str, Any]:
    """What the surfaces were fitted on, and the errors of what was left out."""
    found: dict[str, Any] = json.loads(str(_stored()["meta"]))
    return MappingProxyType(found)


@cache
def fitted(op: str) -> Fitted:
    """The surfaces of an operator family."""
    held = meta()["cross_validation"]
    return Fitted(
        unpack(_stored(), f"{op}.known"),
        unpack(_stored(), f"{op}.new"),
        held[f"{op}:shapes"]["half_width"],
        held[f"{op}:gpus"]["half_width"],
    )


@cache
def _power() -> Forest:
    return unpack(_stored(), "power")


def estimate(op: str, gpu: GPUType, work: Work, known: bool) -> Estimate:
    """Every kernel of a batch of work on a GPU."""
    model = fitted(op)
    trees, half = (model.known, model.half_known) if known else (model.new, model.half_new)
    features = work.features if known else work.features[:, HARDWARE:]
    latency_s = work.reference_s * np.exp(trees_predict(trees, features))
    low, high = interval(latency_s, half)
    watts = np.full(len(latency_s), np.nan) if op == "allreduce" else power(gpu, work, latency_s)
    return Estimate(latency_s, low, high, watts, "measured" if known else "extrapolated")


def power(gpu: GPUType, work: Work, latency_s: Array) -> Array:
    """Watts of a GPU that repeats a kernel: between idle and its limit, by how busy arithmetic and memory are."""
    share = trees_predict(_power(), power_features(work, latency_s))
    limit_w = gpu.tdp_w if gpu.max_cap_w is None else min(gpu.max_cap_w, gpu.tdp_w)
    return np.minimum(idle_w(gpu) + np.clip(share, 0.0, 1.0) * (gpu.tdp_w - idle_w(gpu)), limit_w)


def power_features(work: Work, latency_s: Array) -> Array:
    """(rows, 4): shares of the peaks reached, and how long a kernel takes."""
    columns = (
        work.flops_s / latency_s,
        work.bytes_s / latency_s,
        np.log(latency_s),
        np.log(work.flops_s / work.bytes_s),
    )
    return np.stack(columns, axis=1)


def measured_gpus() -> tuple[str, ...]:
    """Names, as in the catalogue, of the GPUs whose kernels were measured."""
    return tuple(meta()["gpus"])


def gemm_s(gpu: GPUType, dtype: str, m: Array, n: Array, k: Array) -> Estimate:
    """(m x k) times (k x n); arrays of one length."""
    columns = {"gemm_dtype": _same(dtype, m), "m": m, "n": n, "k": k}
    return _direct("gemm", gpu, columns)


def context_attention_s(
    gpu: GPUType, batch: Array, tokens: Array, heads: Array, kv_heads: Array, width: Array
) -> Estimate:
    """Causal attention of prompts that meet themselves, in 16 bits."""
    columns = {
        "batch_size": batch,
        "isl": tokens,
        "num_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width,
    }
    return _direct("context_attention", gpu, columns)


def generation_attention_s(
    gpu: GPUType, batch: Array, cached: Array, heads: Array, kv_heads: Array, width: Array
) -> Estimate:
    """One new token a sequence over `cached` tokens, in 16 bits."""
    columns = {
        "batch_size": batch,
        "step": cached,
        "num_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width,
    }
    return _direct("generation_attention", gpu, columns)


def _same(word: str, like: Array) -> NDArray[Any]:
    return np.array([word] * len(like), dtype=object)


def _direct(op: str, gpu: GPUType, columns: Columns) -> Estimate:
    card = chip(gpu, measured_gpus())
    rows = kernels(op, columns)
    wrong = [str(words) for words in rows.refusal if words]
    if wrong:
        raise ValueError(wrong[0])
    return estimate(op, gpu, work_of(op, card, rows), card.known >= 0)


def predict(op: str, gpu: str, columns: Columns) -> dict[str, NDArray[Any]]:
    """The columns of `ADDED` for every row of an operator table; a refused row has words and no number.

    `op`: one of `OPERATORS`. Power of collectives is not predicted.
    """
    count = len(next(iter(columns.values())))
    card = _card(gpu)
    if isinstance(card, str) or op not in OPERATORS:
        words = card if isinstance(card, str) else f"unknown operator {op[:40]!r}: known are {', '.join(OPERATORS)}"
        return _answer(None, np.array([words] * count, dtype=object))
    work, refusal = _work(op, card, columns)
    return _answer(estimate(op, card.gpu, work, card.known >= 0), refusal)


def _card(name: str) -> Chip | str:
    for tried in (name, name.replace("_", "-")):
        try:
            return chip(gpu_named(tried), measured_gpus())
        except UnknownName:
            continue
    return f"unknown GPU {name[:80]!r}: not in the catalogue (muster catalog gpus)"


def _work(op: str, card: Chip, columns: Columns) -> tuple[Work, NDArray[Any]]:
    if op == "allreduce":
        figures, refusal = links(columns)
        return link_work(card.gpu, card.known, figures), refusal
    rows: Kernels = kernels(op, columns)
    return work_of(op, card, rows), rows.refusal


def _answer(made: Estimate | None, refusal: NDArray[Any]) -> dict[str, NDArray[Any]]:
    fine = refusal == ""
    nothing = np.full(len(refusal), np.nan)
    figures = (nothing,) * 4 if made is None else (made.latency_s, made.lo_s, made.hi_s, made.power_w)
    source = np.where(fine, "" if made is None else made.source, "")
    columns = [*(np.where(fine, values, np.nan) for values in figures), source, refusal]
    return dict(zip(ADDED, columns, strict=True))
