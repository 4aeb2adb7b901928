"""Predicts kernels: latency and power of GEMMs, attention, routed experts and collectives on one GPU type.

Ideal time from exact counts, times what trees learned of its inverse utilisation over the measured tables. On a GPU
that was measured, trees that know it (`measured`); on another, trees that see only how a shape fits (`extrapolated`).
Intervals are 90 % conformal, from shapes or from GPUs left out. Watts were measured on one GPU only, so they have a
`power_source` of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu as gpu_named
from planner.errors import UnknownName
from planner.hardware import GPUType
from planner.perf import collectives
from planner.perf.conformal import interval
from planner.perf.op_base import Prices, base_s
from planner.perf.op_features import HARDWARE, SECONDS_AT, Chip, Work, chip
from planner.perf.op_rows import OPERATORS, kernels, work_of
from planner.perf.shallow_trees import Shallow, unpack
from planner.perf.shallow_trees import predict as trees_predict
from planner.perf.stored import meta_of, stored
from planner.perf.tables import Columns
from planner.power import idle_w

Array = NDArray[np.float64]
ADDED = (
    "latency_s", "latency_lo_s", "latency_hi_s", "power_w", "power_lo_w", "power_hi_w", "power_source", "source",
    "refusal",
)  # fmt: skip
# Seconds of a kernel that is refused, and how many times the larger of measured ones a kernel may ask for before it
# counts as extrapolated: "larger" is where the uppermost of some 250 equally filled bins begins.
MOST_S, FAR = 60.0, 100.0


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """One operator family: prices of terms, and trees over what is left, for measured GPUs and for new ones.

    `pairs`: which library and dtype was measured on which GPU.
    """

    prices: Prices
    known: Shallow
    new: Shallow
    pairs: Array


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Seconds of each kernel with its interval, and watts where they were measured for such kernels."""

    latency_s: Array
    lo_s: Array
    hi_s: Array
    power_w: Array
    source: NDArray[Any]


def meta() -> Mapping[str, Any]:
    """What the surfaces were fitted on, and the errors of what was left out."""
    return meta_of("operators")


@cache
def surfaces(op: str) -> Surfaces:
    """The shipped surfaces of an operator family."""
    arrays = stored("operators")
    prices = Prices(*(arrays[f"{op}.{key}"] for key in ("groups", "log_prices", "unseen")))
    return Surfaces(prices, unpack(arrays, f"{op}.known"), unpack(arrays, f"{op}.new"), arrays[f"{op}.pairs"])


def pairs(known: NDArray[Any], group: Array) -> Array:
    """Which of the measured GPUs (-1: none) ran which group, as one number each."""
    found: Array = np.unique(_pair(known, group))
    return found


def _pair(known: NDArray[Any], group: Array) -> Array:
    code: Array = np.where(known < 0, -1.0, known * 1000.0 + group)
    return code


@cache
def _power(name: str) -> Shallow:
    return unpack(stored("operators"), name)


def estimate(op: str, gpu: GPUType, work: Work) -> Estimate:
    """Every kernel of a batch of work on a GPU."""
    made, held = surfaces(op), meta()["cross_validation"]
    known = np.isin(_pair(work.features[:, 0], work.group), made.pairs) & ~_beyond(made, work)
    ratio = np.zeros(len(known))
    ratio[known] = trees_predict(made.known, work.features[known])
    ratio[~known] = trees_predict(made.new, work.features[~known, HARDWARE:])
    latency_s = base_s(made.prices, work.terms, work.group) * np.exp(ratio)
    half = np.where(known, held[f"{op}:shapes"]["half_width"], held[f"{op}:gpus"]["half_width"])
    low, high = interval(latency_s, half)
    source = np.where(known, "measured", "extrapolated").astype(object)
    return Estimate(latency_s, low, high, power(op, gpu, work, latency_s), source)


def _beyond(made: Surfaces, work: Work) -> NDArray[np.bool_]:
    """Kernels that ask for far more arithmetic or memory than any that was measured."""
    most = [made.known.edges[i][-1] + np.log(FAR) for i in SECONDS_AT]
    outside: NDArray[np.bool_] = np.any(work.features[:, list(SECONDS_AT)] > np.array(most), axis=1)
    return outside


def _endless(work: Work, refusal: NDArray[Any]) -> NDArray[Any]:
    """Refuses what no engine would start: seconds of arithmetic or memory in one kernel."""
    least_s = np.maximum(work.flops_s, work.bytes_s)
    said = refusal.copy()
    for i in np.flatnonzero((least_s > MOST_S) & (refusal == "")):
        said[i] = f"takes {least_s[i]:.3g} s at the data sheet's peaks, allowed are {MOST_S:g} s"
    return said


def power(op: str, gpu: GPUType, work: Work, latency_s: Array) -> Array:
    """Watts of a GPU that repeats a kernel: a share of the limit, between idle and the limit.

    Measured on a B200. On other GPUs the share follows from how busy arithmetic and memory are, as long as they are as
    hungry for their limit as a B200.
    """
    general = power_features(op, work, latency_s)
    measured = _power_measured(op, gpu)
    x = np.concatenate([work.features, general], axis=1) if measured else general
    share = np.exp(trees_predict(_power(f"power.{op}" if measured else "power"), x))
    return _drawn(gpu, share * gpu.tdp_w)


def _drawn(gpu: GPUType, power_w: Array) -> Array:
    """What a GPU can draw: no less than at rest, no more than its limit."""
    limit_w = gpu.tdp_w if gpu.max_cap_w is None else min(gpu.max_cap_w, gpu.tdp_w)
    return np.clip(power_w, idle_w(gpu), limit_w)


def _power_measured(op: str, gpu: GPUType) -> bool:
    return gpu.name == meta()["power_gpu"] and f"power.{op}.value" in stored("operators")


def _watts(op: str, gpu: GPUType, made: Estimate) -> tuple[Array, Array, NDArray[Any]]:
    """Ends of the intervals of watts, and their source.

    Measured are kernels like those that were measured, on the GPU whose watts were; others get twice the half width
    that its shapes needed.
    """
    held = meta()["cross_validation"]
    measured = (made.source == "measured") & _power_measured(op, gpu)
    near = held[f"power:{op}"]["half_width"] if measured.any() else 0.0
    low, high = interval(made.power_w, np.where(measured, near, 2 * held["power:other"]["half_width"]))
    source = np.where(measured, "measured", "extrapolated").astype(object)
    return _drawn(gpu, low), _drawn(gpu, high), source


def power_features(op: str, work: Work, latency_s: Array) -> Array:
    """Shares of the peaks reached, how long a kernel takes, what kind it is."""
    columns = (
        work.flops_s / latency_s,
        work.bytes_s / latency_s,
        np.log(latency_s),
        np.log(work.flops_s / work.bytes_s),
        np.log(work.terms[:, 2] / latency_s),
        np.log(work.terms[:, 4] / latency_s),
        work.group,
        np.full(len(latency_s), float(OPERATORS.index(op))),
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
    return estimate(op, gpu, work_of(op, card, rows))


def predict(op: str, gpu: str, columns: Columns) -> dict[str, NDArray[Any]]:
    """The columns of `ADDED` for every row of an operator table; a refused row has words and no number.

    `op`: one of `OPERATORS`. Power of collectives is not predicted.
    """
    count = len(next(iter(columns.values())))
    card = _card(gpu)
    if isinstance(card, str) or op not in OPERATORS:
        words = card if isinstance(card, str) else f"unknown operator {op[:40]!r}: known are {', '.join(OPERATORS)}"
        return _answer(None, np.array([words] * count, dtype=object))
    if op == "allreduce":
        figures, refusal = collectives.links(columns)
        return _answer(_collective(card.gpu, figures), refusal)
    rows = kernels(op, columns)
    work = work_of(op, card, rows)
    made = estimate(op, card.gpu, work)
    return _answer(made, _endless(work, rows.refusal), _watts(op, card.gpu, made))


def _card(name: str) -> Chip | str:
    for tried in (name, name.replace("_", "-")):
        try:
            return chip(gpu_named(tried), measured_gpus())
        except UnknownName:
            continue
    return f"unknown GPU {name[:80]!r}: not in the catalogue (muster catalog gpus)"


def _collective(gpu: GPUType, figures: Mapping[str, Array]) -> Estimate:
    """Collectives go by measured curves. Power was not measured for them."""
    specs = {name: gpu_named(name) for name in collectives.meta()["gpus"]}
    times = collectives.collective_s(gpu, figures, collectives.curves(), specs)
    held = collectives.meta()["cross_validation"]
    halves = (held[f"allreduce:{name}"]["half_width"] for name in ("shapes", "gpus"))
    low, high = interval(times.time_s, np.where(times.measured, *halves))
    source = np.where(times.measured, "measured", "extrapolated").astype(object)
    return Estimate(times.time_s, low, high, np.full(len(source), np.nan), source)


def _answer(
    made: Estimate | None, refusal: NDArray[Any], watts: tuple[Array, Array, NDArray[Any]] | None = None
) -> dict[str, NDArray[Any]]:
    fine = refusal == ""
    nothing = np.full(len(refusal), np.nan)
    figures, (low_w, high_w, power_source) = (nothing,) * 4, watts or (nothing, nothing, "")
    if made is not None:
        figures = (made.latency_s, made.lo_s, made.hi_s, made.power_w)
    numbers = (np.where(fine, values, np.nan) for values in (*figures, low_w, high_w))
    sources = (np.where(fine, values, "") for values in (power_source, "" if made is None else made.source))
    return dict(zip(ADDED, (*numbers, *sources, refusal), strict=True))
