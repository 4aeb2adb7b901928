"""The seconds and the watts of an engine's step as sums over what it waits for, and the features of what is left.

A step takes sum(seconds x factor) over the terms; its mean draw is the mean of the terms' draws, weighted by their
seconds: each draw is a share of the rated power, as energy per byte and per operation is fixed by the silicon. The
mean approaches the rated power smoothly, for near it the clock gives way (`planner.perf.clocks`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.perf.energy_rows import Demand
from planner.power import idle_w

Array = NDArray[np.float64]
LIMIT_RATIO = 0.98  # of the rated power: H100 and B200 engines held by their limit read 0.97 to 0.99 of it
_SHARPNESS = 15.0


class Term(NamedTuple):
    """What is expected of a term before any engine is measured: the factor on its seconds, its least, and its draw.

    Seconds at datasheet peaks cannot be beaten, so their factors are at least 1.
    """

    factor: float
    least: float
    draw: float


TERMS: Mapping[str, Term] = MappingProxyType(
    {
        "step": Term(1.0, 0.3, 0.30),  # ms of host work a step
        "layers": Term(2.5, 1.0, 0.35),  # 10 us of launches and gaps a layer
        "moe_layers": Term(2.0, 0.0, 0.40),  # the same for the routing of experts
        "sequences": Term(20.0, 5.0, 0.60),  # us of scheduling and sampling a sequence
        "reductions": Term(1.0, 0.0, 0.40),  # 10 us of delay an all-reduce
        "gemm": Term(1.2, 1.05, 0.70),
        "moe": Term(1.3, 1.05, 0.70),
        "imbalance": Term(1.0, 0.0, 0.50),  # what the busiest expert rank has over the mean one
        "kv": Term(1.2, 1.0, 0.70),
        "head": Term(1.3, 1.0, 0.70),
        "activations": Term(0.7, 0.5, 0.70),
        "links": Term(1.3, 1.0, 0.50),
        "prefill": Term(1.7, 1.4, 1.00),
        "prefill_activations": Term(1.0, 0.5, 0.90),
        "mixed": Term(2.0, 0.0, 0.50),  # 10 us a layer of steps with a prompt in them, which replay no whole graph
        "arrivals": Term(1.0, 0.0, 0.50),  # ms of host work a prompt
        "routed": Term(3.0, 0.0, 0.60),  # ns a token and expert: sorting, gathering, scattering
        "media": Term(3.0, 0.0, 0.60),  # ms a prompt with images, sound or video, for their encoders
        "arithmetic": Term(0.0, 0.0, 0.60),  # adds no time: what arithmetic under memory traffic adds in watts
    }
)
TIMED = tuple(name for name in TERMS if name != "arithmetic")
_MEDIA = ("image-chat", "video-chat", "audio-chat")


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Seconds of every timed term (rows, terms), of arithmetic under memory traffic, and the rest of the features."""

    seconds: Array
    arithmetic_s: Array
    rated_w: Array
    idle_w: Array
    about: Array


def terms(demand: Demand) -> Terms:
    """The terms of the rows, in the order of `TIMED`."""
    decode, prefill, rows = demand.decode, demand.prefill, demand.rows
    batch = demand.batch
    outputs = np.array([row.output_tokens for row in rows])
    context = np.array([row.input_tokens for row in rows]) + outputs
    arrivals = batch / outputs
    per_token = np.array([row.experts_per_token for row in rows], dtype=float)
    ranks = np.array([row.moe_ep for row in rows], dtype=float)
    # Busiest of r ranks with m tokens each: m + sqrt(2 m ln r) (Raab and Steger, "Balls into Bins", 1998).
    each = np.maximum(batch * per_token / ranks, 1e-9)
    busiest = np.minimum(np.sqrt(2 * np.log(ranks) / each), ranks - 1)
    media = np.array([row.task in _MEDIA for row in rows], dtype=float)
    seconds = {
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
        "links": decode.reduce_link + prefill.reduce_link + decode.exchange_link + prefill.exchange_link,
        "prefill": prefill.gemm_flops + prefill.moe_flops + prefill.attention_flops,
        "prefill_activations": prefill.activations,
        "mixed": np.minimum(arrivals, 1.0) * decode.layers * 1e-5,
        "arrivals": arrivals * 1e-3,
        "routed": decode.moe_layers * batch * per_token * 1e-9,
        "media": media * arrivals * 1e-3,
    }
    chat = np.array([row.task == "lm-arena-chat" for row in rows], dtype=float)
    quiz = np.array([row.task == "gpqa" for row in rows], dtype=float)
    tp = np.array([row.tp for row in rows], dtype=float)
    lone = np.array([row.gpus == 1 for row in rows], dtype=float)
    about = [_log(batch), _log(context), _log(arrivals), decode.moe_layers > 0, _log(tp), _log(ranks)]
    about += [_log(decode.layers), lone, chat, quiz]
    return Terms(
        np.column_stack([seconds[name] for name in TIMED]),
        decode.gemm_flops + decode.moe_flops + decode.attention_flops,
        np.array([row.gpu.tdp_w for row in rows]),
        np.array([idle_w(row.gpu) for row in rows]),
        np.column_stack(about).astype(float),
    )


def step_s(terms: Terms, factors: Array) -> Array:
    """Seconds of a step, the prefill of arriving prompts in it, by the sum alone."""
    return terms.seconds @ factors


def shares(terms: Terms, factors: Array) -> Array:
    """The share of the step's seconds that each term has, arithmetic behind the timed ones."""
    spent = np.column_stack([terms.seconds * factors, terms.arithmetic_s])
    return spent / step_s(terms, factors)[:, None]


def draw_ratio(shares: Array, draws: Array) -> Array:
    """The mean draw of one GPU as a share of its rated power."""
    wanted = np.minimum(shares @ draws, 3.0)
    soft: Array = -np.log(np.exp(-_SHARPNESS * wanted) + np.exp(-_SHARPNESS * LIMIT_RATIO)) / _SHARPNESS
    return soft


def features(terms: Terms, factors: Array, draws: Array) -> Array:
    """What the residual forests see of a row."""
    spent = shares(terms, factors)
    return np.column_stack([terms.about, spent[:, :-1], spent @ draws])


def _log(values: Array) -> Array:
    return np.log(np.maximum(values, 1e-9))
