"""TTFT of a serving engine in a closed loop: what a first token waits for, and one coefficient each.

A user's prompt meets the frontend, the launch of every layer, the steps in flight, its own prefill and those of others
in the same step; the first of a run's prompts stand in one line (`planner.perf.closed_loop`). Where memory holds fewer
sequences than there are users, or prefill workers or the frontend are too slow, Little's law gives the wait: users over
throughput, less the time that tokens take.

Coefficients are exponentials of sums: a common one, near what the closed loop says, and deviations. There are two sets.
Of a campaign that was measured (engine version, model and GPU together) they are by way of measuring, engine and
campaign. Campaigns differ so much (settings that no column states) that what is common to them says little of a new
one, so that has a set of its own: few deviations, chosen for the least relative error over all campaigns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.memory import TRTLLM_FREE_RATIO, VLLM_RATIO
from planner.perf.serving_physics import Demand
from planner.perf.serving_rows import ENGINES, Rows
from planner.perf.serving_step import runs
from planner.perf.steps import kv_bytes

Array = NDArray[np.float64]
# Name: where the fit starts, and how far (in logs) the common coefficient may lie from it.
TERMS = {
    "frontend_s": (0.01, 0.5),  # request in, first token out
    "layer_s": (2e-4, 0.4),  # launches of a prefill, which runs without a CUDA graph
    "moe_layer_s": (5e-4, 0.4),
    "latent_layer_s": (2e-3, 0.7),
    "own": (1.0, 0.15),  # the prompt's own prefill
    "weights": (1.0, 0.3),  # read once for it
    "step": (2.0, 0.4),  # the step in flight and the one of the prompt
    "wave": (0.1, 0.15),  # half the prompts of those who start together: once in a run of ten requests a user
    "burst": (1 / 320, 0.5),  # the same in a run of a given number of requests, whoever many users share them
    "balance": (20.0, 0.6),  # steps that attention ranks wait to fill up together
    "full": (1.0, 0.15),  # users beyond what memory holds, by Little's law
    "host": (0.03, 0.5),  # tokens beyond what the frontend streams: in some campaigns alone
    "line": (0.01, 0.5),  # one more user than the batch admits
    "pool": (0.1, 0.5),  # prefill workers: half the line of those who start together
    "pool_full": (0.9, 0.3),  # prefill workers, by Little's law
    "user_s": (1e-4, 0.7),
}
NAMES = tuple(TERMS)
# Which coefficients deviate, and how far, by way of measuring, engine and campaign.
PROTOCOL = {
    "frontend_s": 0.3, "own": 0.3, "step": 0.3, "wave": 0.3, "line": 0.5, "layer_s": 0.3, "moe_layer_s": 0.3,
    "user_s": 0.3,
}  # fmt: skip
ENGINE = {
    "frontend_s": 0.3, "layer_s": 0.3, "moe_layer_s": 0.3, "latent_layer_s": 0.3, "own": 0.15, "step": 0.4,
    "wave": 0.15, "burst": 0.5, "balance": 0.5, "full": 0.15, "pool_full": 0.3,
}  # fmt: skip
CAMPAIGN = {
    "frontend_s": 1.2, "own": 0.5, "step": 0.5, "wave": 0.4, "burst": 0.7, "line": 1.5, "full": 0.3, "host": 1.5,
    "layer_s": 0.5,
}  # fmt: skip
PROTOCOLS = 4  # the InferenceX sweep or other runs, aggregated or disaggregated
# The same for campaigns that are new: by attention with a latent cache, and by engine and kind of run.
LATENT = {"own": 0.5, "step": 0.5, "wave": 0.5, "line": 1.0, "frontend_s": 0.5}
MANNER = {"wave": 0.5, "step": 0.5, "own": 0.3, "frontend_s": 0.5, "burst": 0.5}
MANNERS = 4 * len(ENGINES) * 2  # kinds of runs (`serving_step.runs`), engines, aggregated or disaggregated
SWEEP_MEAN_RATIO = 0.9  # lengths of the InferenceX sweep: 80 to 100 % of the stated ones (its benchmark scripts)
# The figures of SGLang, the least free memory and the streamed tokens were chosen on all rows, those that a
# cross-validation leaves out too: its errors are optimistic by that much.
# Share of GPU memory for weights and KV cache: defaults of vLLM (gpu_memory_utilization) and TensorRT-LLM
# (free_gpu_memory_fraction); SGLang's as the runs in which users waited imply it, tuned in the sweep.
MEMORY_RATIO = {"trtllm": TRTLLM_FREE_RATIO, "vllm": VLLM_RATIO, "sglang": 0.785}
SGLANG_SWEEP_RATIO = 0.82
ACTIVATION_BYTES = {"trtllm": 3e9, "vllm": 3e9, "sglang": 0.0}
LEAST_FREE_RATIO = {"sweep": 0.045, "other": 0.01}  # what ran had some room, whatever the weights seem to take
# Tokens per second that one frontend streamed at most, in runs of a small model on many GPUs outside the sweep.
STREAMED_PER_S = {"trtllm": 9200.0, "sglang": 17000.0}


@dataclass(frozen=True, slots=True, eq=False)
class Waits:
    """`parts`: what the coefficients multiply, (rows, terms), in seconds or counts; `fullness`: users over room."""

    parts: Array
    fullness: Array


@dataclass(frozen=True, slots=True, eq=False)
class FirstIndex:
    """Which deviations apply to which row; -1: none."""

    protocol: NDArray[np.int64]
    engine: NDArray[np.int64]
    campaign: NDArray[np.int64]
    latent: NDArray[np.int64]
    manner: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Deviations by group: how far each may lie from 0, how many groups there are, and the group of each row."""

    spread: Mapping[str, float]
    groups: int
    at: NDArray[np.int64]


def measured_levels(at: FirstIndex, known: int) -> tuple[Level, ...]:
    """What coefficients depend on where so many campaigns were measured."""
    return (
        Level(PROTOCOL, PROTOCOLS, at.protocol),
        Level(ENGINE, len(ENGINES), at.engine),
        Level(CAMPAIGN, known, at.campaign),
    )


def new_levels(at: FirstIndex) -> tuple[Level, ...]:
    """What coefficients depend on in a campaign that is new."""
    return Level(LATENT, 1, at.latent), Level(MANNER, MANNERS, at.manner)


def campaigns(rows: Rows) -> NDArray[np.str_]:
    """What was measured together: engine version, model, GPU, and whether in the sweep."""
    sweep = rows.sweep
    names = [
        f"{version}|{model.name}|{card.name}|{'sweep' if s else 'other'}"
        for version, model, card, s in zip(rows.version, rows.models, rows.gpus, sweep, strict=True)
    ]
    return np.array(names, dtype=np.str_)


def first_index(rows: Rows, known: Sequence[str]) -> FirstIndex:
    """The deviations of each row."""
    at = {name: i for i, name in enumerate(known)}
    return FirstIndex(
        protocol=(2 * ~rows.sweep + rows.disaggregated).astype(np.int64),
        engine=rows.engine,
        campaign=np.array([at.get(str(name), -1) for name in campaigns(rows)], dtype=np.int64),
        latent=np.where(rows.latent, 0, -1),
        manner=(2 * (len(ENGINES) * runs(rows) + rows.engine) + rows.disaggregated).astype(np.int64),
    )


def _per_engine(rows: Rows, figures: dict[str, float], default: float = 0.0) -> Array:
    return np.array([figures.get(name, default) for name in ENGINES])[rows.engine]


def room_for(rows: Rows, d: Demand) -> Array:
    """Sequences that the KV memory of one attention rank holds.

    TensorRT-LLM sets aside what a request may grow to; the others admit by what is used, half the output on average.
    """
    sweep, sglang = rows.sweep, rows.engine == ENGINES.index("sglang")
    grown = np.where(rows.engine == ENGINES.index("trtllm"), 1.0, 0.5)
    tokens = (rows.input_tokens + grown * rows.output_tokens) * np.where(sweep, SWEEP_MEAN_RATIO, 1.0)
    each = np.maximum(kv_bytes(rows.table, rows.peaks, rows.decode, tokens) / rows.pp, 1.0)
    newer = np.array([card.architecture.lower().startswith("blackwell") for card in rows.gpus])
    each = np.where(sglang & rows.latent & newer, each / 2, each)  # kept in FP8 there
    ratio = np.where(sglang & sweep, SGLANG_SWEEP_RATIO, _per_engine(rows, MEMORY_RATIO))
    room = np.array([card.hbm_bytes for card in rows.gpus])
    free = ratio * room - d.weights_bytes - _per_engine(rows, ACTIVATION_BYTES)
    least = np.where(sglang & ~sweep, LEAST_FREE_RATIO["other"], LEAST_FREE_RATIO["sweep"])
    return np.asarray(np.maximum(free, least * room) / each)


def waits(rows: Rows, d: Demand, tpot_s: Array, prompt_s: Array) -> Waits:
    """What a first token waits for, from seconds per output token and per prompt."""
    one, apart = np.ones(len(tpot_s)), rows.disaggregated
    life_s = rows.output_tokens * tpot_s
    users = np.maximum(rows.concurrency / (rows.decode.dp * rows.decode_workers), 1.0)
    room = room_for(rows, d)
    pooled_s = rows.concurrency * prompt_s / (rows.prefill_workers * rows.prefill.dp)
    together_s = np.where(apart, 0.0, np.minimum(users, room) * prompt_s / 2)
    streamed = np.where(rows.sweep, np.inf, _per_engine(rows, STREAMED_PER_S, np.inf))
    parts = {
        "frontend_s": one,
        "layer_s": d.step.layers,
        "moe_layer_s": d.step.moe_layers,
        "latent_layer_s": d.step.layers * rows.latent,
        "own": prompt_s,
        "weights": d.prefill.gemm_hbm + d.prefill.moe_hbm,
        "step": tpot_s,
        "wave": together_s,
        # Only published runs end after so many requests; what is asked of a steady engine goes on.
        "burst": np.where(rows.sweep | (runs(rows) == 0), 0.0, users * together_s),
        "balance": np.where(rows.decode.dp > 1, tpot_s, 0.0),
        # Decode workers that are full hold up the second token of a disaggregated request, not the first.
        "full": np.where(apart, 0.0, np.maximum(users / room - 1, 0.0) * life_s),
        "host": np.maximum(rows.concurrency * rows.output_tokens / streamed - life_s, 0.0),
        "line": life_s / users,
        "pool": np.where(apart, pooled_s / 2, 0.0),
        "pool_full": np.where(apart, np.maximum(pooled_s - life_s, 0.0), 0.0),
        "user_s": rows.concurrency,
    }
    return Waits(np.stack([parts[name] for name in NAMES], axis=1), users / room)


def columns_of(level: Level) -> NDArray[np.int64]:
    """Where a level's coefficients stand among all."""
    return np.array([NAMES.index(name) for name in level.spread], dtype=np.int64)


def log_coefficients(v: Array, rows: int, levels: Sequence[Level]) -> Array:
    """(rows, terms): the common coefficients and what each row's groups add to them, level by level in `v`."""
    out = np.tile(v[: len(NAMES)], (rows, 1))
    start = len(NAMES)
    for level in levels:
        width = len(level.spread)
        # One more group, of zeros, for those never seen: index -1 finds it.
        table = np.append(v[start : start + width * level.groups], np.zeros(width)).reshape(-1, width)
        out[:, columns_of(level)] += table[level.at]
        start += width * level.groups
    return out


def first_s(measured: Array, new: Array, found: Waits, at: FirstIndex, known: int) -> Array:
    """Seconds to the first token of each row, by the coefficients of measured campaigns and those of new ones."""
    count = len(at.engine)
    logs = np.where(
        (at.campaign >= 0)[:, None],
        log_coefficients(measured, count, measured_levels(at, known)),
        log_coefficients(new, count, new_levels(at)),
    )
    return np.asarray((found.parts * np.exp(logs)).sum(axis=1))


def first_features(step: Array, found: Waits, ttft_s: Array) -> Array:
    """(rows, features) for the residual of TTFT: those of TPOT, and what fills the engine."""
    own_s, token_s, line_s = (found.parts[:, NAMES.index(name)] for name in ("own", "step", "line"))
    more = (found.fullness, line_s / ttft_s + 1e-3, own_s / token_s, own_s, ttft_s)
    return np.concatenate([step, np.stack([np.log(np.maximum(x, 1e-12)) for x in more], axis=1)], axis=1)
