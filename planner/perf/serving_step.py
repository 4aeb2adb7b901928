"""TPOT of a serving engine: a decode step as a sum of terms, each work times a coefficient with a meaning.

Terms of one group overlap (a soft maximum: a matrix product is as slow as the slower of arithmetic and memory); groups
add up. A share of the steps carries the tokens of prompts that other users bring (`Demand.mixed`): their weights are
read once for both. What the engine adds per kernel, layer, collective, request, prompt and step completes the sum.

The log of a coefficient is a sum of effects: the common one, the engine's deviation, the format's, the GPU family's,
the engine version's, and that of the runs that a row belongs to. What was never seen falls back to what is common (a
hierarchical model; Gelman and Hill, "Data Analysis Using Regression and Multilevel/Hierarchical Models", 2007).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf.serving_physics import Demand
from planner.perf.serving_rows import ENGINES, Rows

Array = NDArray[np.float64]
ORDER = 3.0  # of the norm that stands for the soft maximum
# Where the fit starts, and how far (in logs) the common coefficient may lie from it. Datasheet peaks are reached to
# 1 / value; those of matrix products and the seconds of a kernel are medians over the published operator tables.
COMMON: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "gemm_hbm": (1.2, 0.25), "gemm_flops": (1.6, 0.2), "moe_hbm": (1.3, 0.25), "moe_flops": (2.0, 0.3),
        "kv": (1.2, 0.25), "attention_flops": (2.0, 0.2), "head": (1.2, 0.2), "activations": (1.0, 0.2),
        "reduce_link": (1.5, 0.2), "reduce_start": (1.0, 0.2), "reduction_s": (4e-6, 0.25), "hop_s": (1e-6, 0.25),
        "exchange_link": (2.0, 0.2), "exchange_s": (2e-5, 0.25), "layer_s": (2e-5, 0.25), "kernel_s": (6.6e-6, 0.25),
        "latent_layer_s": (1e-5, 0.25), "query_norm_s": (3e-6, 0.25), "moe_layer_s": (2e-5, 0.25),
        "request_s": (1e-5, 0.25), "step_s": (5e-4, 0.25), "prefill_attention": (2.0, 0.2),
        "mixed_layer_s": (5e-5, 0.25), "prompt_s": (2e-3, 0.25),
    }
)  # fmt: skip
# How far effects may lie from 0 by level, and by name and level where that differs.
LEVELS: Mapping[str, float] = MappingProxyType(
    {
        "engine": 0.03, "newer": 0.06, "gemm": 0.1, "moe": 0.1, "unpacked": 0.3, "version": 0.2,
        "latent_version": 0.3, "runs": 0.2,
    }
)  # fmt: skip
SPREAD: Mapping[tuple[str, str], float] = MappingProxyType(
    {(name, "engine"): 0.1 for name in COMMON if name.endswith("_s")}
    | {
        ("prefill", "engine"): 0.1, ("prefill", "runs"): 0.4, ("host", "runs"): 0.5, ("host", "version"): 0.2,
        ("layers", "newer"): 0.1, ("host", "newer"): 0.1, ("moe_layer_s", "newer"): 0.3, ("layers", "gemm"): 0.15,
        ("kernel_s", "gemm"): 0.15, ("moe_layer_s", "moe"): 0.15,
    }
)  # fmt: skip
# Medians over the published operator tables: 16-bit products come closer to their peak than 8-bit ones, 4-bit ones
# stay further away; without activations to quantise a product takes 3 us beside its traffic, not 6.6; Blackwell takes
# three fifths of Hopper's time for experts beside their traffic, and less for attention.
MEAN: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("gemm_flops", "bf16"): -0.45, ("gemm_flops", "nvfp4"): 0.3, ("kernel_s", "bf16"): -0.75,
        ("moe_layer_s", "newer"): -0.5, ("layers", "newer"): -0.15,
    }
)  # fmt: skip
# Latency of a collective, for the range where it is neither short nor limited by the link.
START_S = 5e-6
Effect = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Groups of rows that share an effect: labels, and the label of each row (-1: none)."""

    labels: tuple[str, ...]
    at: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One summand: what its coefficient multiplies, and the effects in the coefficient."""

    group: str
    work: Array
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The terms of all rows, ready for any coefficients: `whole` are effects on the sum."""

    terms: tuple[Term, ...]
    whole: tuple[Effect, ...]
    levels: Mapping[str, Level]

    def names(self, effect: Effect) -> list[str]:
        """Names of an effect's parameters, one a label."""
        return [f"{effect[0]}|{effect[1]}|{label}" for label in self.levels[effect[1]].labels]


def level(words: Sequence[Any] | NDArray[Any], used: NDArray[np.bool_] | None = None) -> Level:
    """Groups by word; rows outside `used` have none."""
    labels, at = np.unique(np.asarray(words, dtype=np.str_), return_inverse=True)
    return Level(tuple(labels.tolist()), at if used is None else np.where(used, at, -1))


def runs(rows: Rows) -> NDArray[np.int64]:
    """How the published runs were made, 0 where nothing says so.

    0: the InferenceX sweep. 1: other lengths, undated. 2: dated, 3: undated lengths in round thousands.
    """
    dated, round_lengths = rows.day >= 0, np.mod(rows.input_tokens, 1000) == 0
    stated = np.array([not str(name).endswith(":") for name in rows.version])
    kind = np.where(dated, 2 * round_lengths, np.where(round_lengths, 3, 1))
    return np.where(dated | stated, kind, 0)


def levels_of(rows: Rows) -> dict[str, Level]:
    """Every grouping of the rows that coefficients depend on."""
    kind, names = runs(rows), np.array(ENGINES)[rows.engine]
    newer = np.array([card.architecture.lower().startswith("blackwell") for card in rows.gpus], dtype=bool)
    plain = np.array(["fp4" not in card.flops_per_s for card in rows.gpus], dtype=bool)
    gemm, moe = rows.gemm_format.astype(np.str_), rows.moe_format.astype(np.str_)
    return {
        "": Level(("",), np.zeros(len(kind), dtype=np.int64)),
        "engine": Level(ENGINES, rows.engine),
        "newer": Level(("newer",), np.where(newer, 0, -1)),
        "gemm": level(gemm, np.isin(gemm, ("bf16", "fp8_block", "nvfp4"))),
        "moe": level(moe, np.isin(moe, ("bf16", "fp8_block", "nvfp4", "mxfp4"))),
        "unpacked": Level(("mxfp4",), np.where(plain & (moe == "mxfp4"), 0, -1)),
        "version": level(rows.version),
        "latent_version": level(rows.version, rows.latent),
        "runs": level([f"{k}:{name}" for k, name in zip(kind, names, strict=True)], kind > 0),
    }


def measured_together(rows: Rows) -> Level:
    """What was measured together: model, GPU, engine version and format."""
    keys = zip(rows.models, rows.gpus, rows.version, rows.gemm_format, strict=True)
    return level([f"{m.name}/{g.name}/{v}/{f}" for m, g, v, f in keys])


def _effects(name: str, *more: Effect) -> tuple[Effect, ...]:
    return ((name, ""), (name, "engine"), *more)


def steps(rows: Rows, d: Demand) -> Steps:
    """The terms of each row."""
    return Steps(tuple(_terms(rows, d)), tuple(("whole", k) for k in WHOLE), levels_of(rows))


WHOLE = ("version", "latent_version", "runs")


def _terms(rows: Rows, d: Demand) -> Iterator[Term]:
    w, x, p, share, t = d.step, d.mixed, d.prefill, d.mixed_ratio, rows.table
    prompt: tuple[Effect, ...] = (("prefill", "runs"), ("prefill", "engine"))
    host: tuple[Effect, ...] = (("host", "runs"), ("host", "version"))
    layers = (*host, ("layers", "newer"), ("layers", "gemm"))
    hbm = _effects("gemm_hbm", ("gemm_hbm", "newer"), ("gemm_hbm", "gemm"))
    flops = _effects("gemm_flops", ("gemm_flops", "newer"), ("gemm_flops", "gemm"))
    yield Term("gemm", (1 - share) * w.gemm_hbm, hbm)
    yield Term("gemm", (1 - share) * w.gemm_flops, flops)
    yield Term("mixed gemm", share * x.gemm_hbm, hbm)
    yield Term("mixed gemm", share * w.gemm_flops, flops)
    yield Term("mixed gemm", share * x.gemm_flops, (*flops, *prompt))
    hbm = _effects("moe_hbm", ("moe_hbm", "newer"), ("moe_hbm", "moe"), ("moe_hbm", "unpacked"))
    flops = _effects("moe_flops", ("moe_flops", "newer"), ("moe_flops", "moe"), ("moe_flops", "unpacked"))
    yield Term("moe", (1 - share) * w.moe_hbm, hbm)
    yield Term("moe", (1 - share) * w.moe_flops, flops)
    yield Term("mixed moe", share * x.moe_hbm, hbm)
    yield Term("mixed moe", share * x.moe_flops, (*flops, *prompt))
    yield Term("kv", w.kv, _effects("kv", ("kv", "newer")))
    yield Term("kv", w.attention_flops, _effects("attention_flops", ("kv", "newer")))
    yield Term("head", w.head_roof, _effects("head"))
    yield Term("activations", w.activations, _effects("activations"))
    yield Term("prompt activations", d.per_step * p.activations, (*_effects("activations"), *prompt))
    yield Term("reduce", w.reduce_link, _effects("reduce_link"))
    more = np.maximum(x.reduce_link - w.reduce_link, 0.0)
    yield Term("prompt reduce", share * more, (*_effects("reduce_link"), *prompt))
    count = np.maximum(w.reductions, 1.0)
    middle = (1 - share) * np.sqrt(w.reduce_link / count) + share * np.sqrt(x.reduce_link / count)
    yield Term("reduce start", w.reductions * np.sqrt(START_S) * middle, _effects("reduce_start"))
    yield Term("reductions", w.reductions, _effects("reduction_s"))
    yield Term("hops", w.reductions * np.log2(np.maximum(rows.decode.tp, 1.0)), _effects("hop_s"))
    yield Term("exchange", (1 - share) * w.exchange_link + share * x.exchange_link, _effects("exchange_link"))
    yield Term("exchanges", w.exchanges, _effects("exchange_s"))
    yield Term("layers", w.layers, _effects("layer_s", *layers))
    yield Term("kernels", t.kernels[:, 0], _effects("kernel_s", *host, ("layers", "newer"), ("kernel_s", "gemm")))
    yield Term("latent layers", t.latent_layers[:, 0], _effects("latent_layer_s", *layers))
    yield Term("query norms", t.query_norms[:, 0], _effects("query_norm_s", *layers))
    family: tuple[Effect, ...] = (("moe_layer_s", "newer"), ("moe_layer_s", "moe"))
    yield Term("moe layers", w.moe_layers, _effects("moe_layer_s", *host, *family))
    yield Term("requests", w.sequences, _effects("request_s", ("host", "newer")))
    yield Term("step", np.ones(len(share)), _effects("step_s", *host, ("host", "newer")))
    yield Term("prompt attention", d.per_step * p.attention_flops, (*_effects("prefill_attention"), *prompt))
    yield Term("mixed layers", share * p.layers, (*_effects("mixed_layer_s"), *prompt))
    yield Term("prompts", d.per_step, (*_effects("prompt_s"), *prompt))


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The terms with every effect's place in a vector of coefficients: -1, a zero at its end, where it has none."""

    groups: tuple[str, ...]
    group_of: NDArray[np.int64]
    log_work: Array  # (rows, terms)
    at: tuple[tuple[NDArray[np.int64], ...], ...]  # by term, by effect: (rows,)
    whole: tuple[NDArray[np.int64], ...]


def placed(steps_: Steps, names: Sequence[str]) -> Placed:
    """The terms for a vector whose entries have these names."""
    slot = {name: i for i, name in enumerate(names)}
    found: dict[Effect, NDArray[np.int64]] = {}

    def place(effect: Effect) -> NDArray[np.int64]:
        if effect not in found:
            slots = np.array([slot.get(name, -1) for name in steps_.names(effect)] + [-1])
            found[effect] = slots[steps_.levels[effect[1]].at]
        return found[effect]

    groups = tuple(dict.fromkeys(term.group for term in steps_.terms))
    return Placed(
        groups=groups,
        group_of=np.array([groups.index(term.group) for term in steps_.terms]),
        log_work=np.log(np.maximum(np.stack([term.work for term in steps_.terms], axis=1), 1e-30)),
        at=tuple(tuple(place(effect) for effect in term.effects) for term in steps_.terms),
        whole=tuple(place(effect) for effect in steps_.whole),
    )


def log_step_s(v: Array, p: Placed) -> tuple[Array, Array]:
    """Log seconds per output token of each row, and the share of each term, (rows, terms)."""
    padded = np.append(v, 0.0)
    logs = p.log_work.copy()
    for term, places in enumerate(p.at):
        for place in places:
            logs[:, term] += padded[place]
    powers = np.exp(ORDER * np.maximum(logs, -60.0))
    sums = np.stack([powers[:, p.group_of == g].sum(axis=1) for g in range(len(p.groups))], axis=1)
    parts = np.cbrt(sums)
    total = parts.sum(axis=1)
    shares = powers * (parts / np.maximum(sums, 1e-300))[:, p.group_of] / total[:, None]
    whole = np.sum([padded[place] for place in p.whole], axis=0)
    return np.log(total) + whole, shares


def prompt_s(v: Array, names: Sequence[str], rows: Rows, d: Demand, levels: Mapping[str, Level]) -> Array:
    """Seconds of one prompt's own prefill."""
    p = d.prefill
    family, hopper = ("newer", "gemm"), ("newer", "moe", "unpacked")
    terms = (
        Term("gemm", p.gemm_flops, _effects("gemm_flops", *(("gemm_flops", k) for k in family))),
        Term("moe", p.moe_flops, _effects("moe_flops", *(("moe_flops", k) for k in hopper))),
        Term("attention", p.attention_flops, _effects("prefill_attention")),
        Term("activations", p.activations, _effects("activations")),
        Term("reduce", p.reduce_link + p.exchange_link, _effects("reduce_link")),
        Term("layers", p.layers, _effects("mixed_layer_s")),
    )
    return np.asarray(np.exp(log_step_s(v, placed(Steps(terms, (("none", ""),), levels), names))[0]))
