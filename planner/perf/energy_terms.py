"""The seconds and the watts of an engine's step as sums over what it waits for, and the features of what is left.

A step takes sum(seconds x factor) over the terms; its mean draw is the mean of the terms' draws, weighted by their
seconds: each draw is a share of the rated power, as energy per byte and per operation is fixed by the silicon. The
mean approaches the rated power smoothly, for near it the clock gives way (`planner.perf.clocks`). The factors and draws
are those of Hopper; each group of terms has one ratio between another measured architecture and Hopper. A GPU of an
architecture that nobody measured is taken as a Hopper with its own peaks and rated power.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.hardware import GPUType
from planner.perf.steps import Work
from planner.power import idle_w

Array = NDArray[np.float64]
LIMIT_RATIO = 0.98  # of the rated power: H100 and B200 engines held by their limit read 0.97 to 0.99 of it
_SHARPNESS, _MOST = 15.0, 3.0


class Term(NamedTuple):
    """What is expected of a term before any engine is measured: the factor on its seconds, its least, and its draw.

    Seconds at datasheet peaks cannot be beaten, so their factors are at least 1. `group`: what scales with it from one
    architecture to the next.
    """

    factor: float
    least: float
    draw: float
    group: str


OTHERS = ("blackwell", "ampere")  # architectures with ratios of their own
GROUPS = ("host", "sequences", "memory", "arithmetic")
TERMS: Mapping[str, Term] = MappingProxyType(
    {
        "step": Term(1.0, 0.3, 0.30, "host"),  # ms of host work a step
        "layers": Term(2.5, 1.0, 0.35, "host"),  # 10 us of launches and gaps a layer
        "moe_layers": Term(2.0, 0.0, 0.40, "host"),  # the same for the routing of experts
        "sequences": Term(20.0, 5.0, 0.60, "sequences"),  # us of scheduling and sampling a sequence
        "reductions": Term(1.0, 0.0, 0.40, "host"),  # 10 us of delay an all-reduce
        "gemm": Term(1.2, 1.05, 0.70, "memory"),
        "moe": Term(1.3, 1.05, 0.70, "memory"),
        "imbalance": Term(1.0, 0.0, 0.50, "host"),  # what the busiest expert rank has over the mean one
        "kv": Term(1.2, 1.0, 0.70, "memory"),
        "head": Term(1.3, 1.0, 0.70, "memory"),
        "activations": Term(0.7, 0.5, 0.70, "memory"),
        "links": Term(1.3, 1.0, 0.50, "memory"),
        "prefill": Term(1.7, 1.4, 1.00, "arithmetic"),
        "prefill_moe": Term(2.5, 1.4, 0.80, "arithmetic"),  # arithmetic of experts on prompts, in ragged groups
        "prefill_imbalance": Term(0.5, 0.0, 0.40, "host"),  # the same on expert ranks that wait for the busiest
        "prefill_activations": Term(1.0, 0.5, 0.90, "arithmetic"),
        "woken": Term(1.2, 1.0, 0.80, "memory"),  # reading the experts that only a prompt's tokens reach
        "mixed": Term(2.0, 0.0, 0.50, "host"),  # 10 us a layer of steps with a prompt in them: no whole graph
        "scan": Term(50.0, 0.0, 0.70, "host"),  # 10 us a layer of fixed state (Mamba) of steps with a prompt
        "arrivals": Term(1.0, 0.0, 0.50, "host"),  # ms of host work a prompt
        "routed": Term(3.0, 0.0, 0.60, "memory"),  # ns a token and expert: sorting, gathering, scattering
        "media": Term(3.0, 0.0, 0.60, "host"),  # ms a prompt with images, sound or video, for their encoders
        "arithmetic": Term(0.0, 0.0, 0.60, "arithmetic"),  # no time: what arithmetic under memory traffic adds in watts
        "waiting": Term(0.0, 0.0, 0.25, "host"),  # no time that is known: an engine that is slower than all this
    }
)
TIMED = tuple(name for name in TERMS if name not in ("arithmetic", "waiting"))
_GROUP_OF = np.array([[term.group == group for group in GROUPS] for term in TERMS.values()], dtype=float)


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Seconds of every timed term (rows, terms), of arithmetic under memory traffic, and the rest of the features.

    `other` (rows, architectures): 1 where a row's GPU is of that one of `OTHERS`.
    """

    seconds: Array
    arithmetic_s: Array
    other: Array
    rated_w: Array
    idle_w: Array
    about: Array


@dataclass(frozen=True, slots=True, eq=False)
class Coefficients:
    """Of the sums: a factor and a draw for each term; ratios to Hopper (`OTHERS`, `GROUPS`) of seconds and draws."""

    factors: Array
    slower: Array
    draws: Array
    hotter: Array


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of every row: `decode`, and `prompts` times `prompt` of one attention rank's arriving prompts.

    `batch`, `arrivals`: sequences and prompts of all ranks. `woken_hbm_s`: experts' weights in a step with a whole
    prompt. `ranks`, `per_token`: of experts. `media`, `chat`, `quiz`: 1 where the task is such a one.
    """

    decode: Work
    prompt: Work
    prompts: Array
    batch: Array
    arrivals: Array
    input_tokens: Array
    output_tokens: Array
    woken_hbm_s: Array
    state_layers: Array
    tp: Array
    ranks: Array
    per_token: Array
    gpus: Array
    media: Array
    chat: Array
    quiz: Array


class Cards(NamedTuple):
    """GPU of every row: rated and idle watts, and which of `OTHERS` its architecture is (rows, architectures)."""

    rated_w: Array
    idle_w: Array
    other: Array


def cards(gpus: Sequence[GPUType]) -> Cards:
    """One row for each."""
    return Cards(
        np.array([gpu.tdp_w for gpu in gpus]),
        np.array([idle_w(gpu) for gpu in gpus]),
        np.array([[gpu.architecture == name for name in OTHERS] for gpu in gpus], dtype=float),
    )


def step_terms(step: Step, card: Cards) -> Terms:
    """The terms of steps, in the order of `TIMED`."""
    decode = step.decode
    seconds = _decode(step) | _prompts(step)
    about = [_log(step.batch), _log(step.input_tokens + step.output_tokens), _log(step.batch / step.output_tokens)]
    about += [(decode.moe_layers > 0).astype(float), _log(step.tp), _log(step.ranks), _log(decode.layers)]
    about += [step.gpus == 1, step.chat, step.quiz, _log(card.rated_w)]
    return Terms(
        np.column_stack([seconds[name] for name in TIMED]),
        decode.gemm_flops + decode.moe_flops + decode.attention_flops,
        card.other,
        card.rated_w,
        card.idle_w,
        np.column_stack(about).astype(float),
    )


def _decode(step: Step) -> dict[str, Array]:
    """Terms of the sequences that write."""
    decode, batch = step.decode, step.batch
    # Busiest of r ranks with m tokens each: m + sqrt(2 m ln r) (Raab and Steger, "Balls into Bins", 1998).
    each = np.maximum(batch * step.per_token / step.ranks, 1e-9)
    busiest = np.minimum(np.sqrt(2 * np.log(step.ranks) / each), step.ranks - 1)
    return {
        "step": np.full(len(batch), 1e-3),
        "layers": decode.layers * 1e-5,
        "moe_layers": decode.moe_layers * 1e-5,
        "sequences": batch * 1e-6,
        "reductions": decode.reductions * 1e-5,
        "gemm": decode.gemm_roof,
        "moe": decode.moe_roof,
        "imbalance": decode.moe_roof * busiest,
        "kv": decode.kv,
        "head": decode.head_roof,
        "activations": decode.activations,
    }


def _prompts(step: Step) -> dict[str, Array]:
    """Terms of the prompts that arrive during a step, and of both."""
    decode, prompt, prompts = step.decode, step.prompt, step.prompts
    mixed = -np.expm1(-step.arrivals)  # share of steps with a prompt in them, arrivals being independent
    moe_s = prompts * prompt.moe_flops
    return {
        "links": decode.reduce_link + decode.exchange_link + prompts * (prompt.reduce_link + prompt.exchange_link),
        "prefill": prompts * (prompt.gemm_flops + prompt.attention_flops),
        "prefill_moe": moe_s,
        "prefill_imbalance": moe_s * (step.ranks > 1),
        "prefill_activations": prompts * prompt.activations,
        "woken": mixed * np.maximum(step.woken_hbm_s - decode.moe_hbm, 0.0),
        "mixed": mixed * decode.layers * 1e-5,
        "scan": mixed * step.state_layers * 1e-5,
        "arrivals": step.arrivals * 1e-3,
        "routed": decode.moe_layers * (step.batch + step.arrivals * step.input_tokens) * step.per_token * 1e-9,
        "media": step.media * step.arrivals * 1e-3,
    }


def spent_s(terms: Terms, coefficients: Coefficients) -> Array:
    """Seconds that each timed term takes of a step (rows, terms)."""
    ratio: Array = np.exp(terms.other @ np.log(coefficients.slower))
    out: Array = terms.seconds * coefficients.factors * (ratio @ _GROUP_OF[: len(TIMED)].T)
    return out


def step_s(terms: Terms, coefficients: Coefficients) -> Array:
    """Seconds of a step, the prefill of arriving prompts in it, by the sum alone."""
    return np.asarray(spent_s(terms, coefficients).sum(axis=1))


def shares(terms: Terms, coefficients: Coefficients, measured_s: Array | None = None) -> Array:
    """The share of the step's seconds that each of `TERMS` has; where a step took longer, it waited."""
    spent = spent_s(terms, coefficients)
    sum_s = spent.sum(axis=1)
    whole_s = sum_s if measured_s is None else np.maximum(sum_s, measured_s)
    return np.asarray(np.column_stack([spent, terms.arithmetic_s, whole_s - sum_s]) / whole_s[:, None])


def wanted(terms: Terms, shares: Array, coefficients: Coefficients) -> Array:
    """What each of `TERMS` adds to the draw of one GPU that no limit holds, as a share of its rated power."""
    ratio: Array = np.exp(terms.other @ np.log(coefficients.hotter))
    out: Array = shares * coefficients.draws * (ratio @ _GROUP_OF.T)
    return out


def limited(wanted: Array) -> Array:
    """The draw under the rated power, both as shares of it."""
    most = np.minimum(wanted, _MOST)
    soft: Array = -np.log(np.exp(-_SHARPNESS * most) + np.exp(-_SHARPNESS * LIMIT_RATIO)) / _SHARPNESS
    return soft


def limited_slope(wanted: Array) -> Array:
    """The derivative of `limited`."""
    slope: Array = 1 / (1 + np.exp(_SHARPNESS * (np.minimum(wanted, _MOST) - LIMIT_RATIO)))
    return np.where(wanted < _MOST, slope, 0.0)


def draw_ratio(terms: Terms, shares: Array, coefficients: Coefficients) -> Array:
    """The mean draw of one GPU as a share of its rated power."""
    return limited(wanted(terms, shares, coefficients).sum(axis=1))


def features(terms: Terms, coefficients: Coefficients) -> Array:
    """What the residual forests see of a row."""
    spent = shares(terms, coefficients)
    drawn = draw_ratio(terms, spent, coefficients)
    return np.column_stack([terms.about, spent[:, : len(TIMED)], np.log(drawn)])


def group_of() -> Array:
    """Which of `GROUPS` each of `TERMS` belongs to (terms, groups), 0 or 1."""
    return _GROUP_OF


def _log(values: Array) -> Array:
    return np.log(np.maximum(values, 1e-9))
