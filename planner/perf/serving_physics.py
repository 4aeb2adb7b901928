"""What rows ask of an engine, before any coefficient; TPOT is in `serving_step`, TTFT in `serving_first`.

A decode step advances every sequence in flight by a token; some steps carry prompts of other users too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.memory import VLLM_RATIO
from planner.perf.serving_rows import Rows
from planner.perf.steps import Work, held_bytes, kv_bytes, work

Array = NDArray[np.float64]
OTHER_BYTES = 3e9


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What the coefficients multiply: the work of a decode step and of prefills, and who waits for whom."""

    step: Work  # of steps without a prompt
    mixed: Work  # matrix products and collectives of steps with prompts, whose tokens are in it
    mixed_ratio: Array  # share of such steps
    prefill: Work  # of one prompt
    sequences: Array  # in flight on one attention rank
    crowding: Array  # users per sequence that memory holds, at least 1
    per_step: Array  # prefills that fall on one decode step of a rank
    resident_bytes: Array
    weights_bytes: Array


def demand(rows: Rows) -> Demand:
    """Everything about the rows that no coefficient enters."""
    one = np.ones(len(rows.concurrency))
    ranks = rows.decode.dp * rows.decode_workers
    users = np.maximum(rows.concurrency / ranks / rows.pp, 1.0)
    middle = rows.input_tokens + rows.output_tokens / 2
    weights = held_bytes(rows.table, rows.peaks, rows.decode) / rows.pp
    room = np.array([card.hbm_bytes for card in rows.gpus])
    free = np.maximum(VLLM_RATIO * room - weights - OTHER_BYTES, 0.05 * room)
    each = np.maximum(kv_bytes(rows.table, rows.peaks, rows.decode, middle) / rows.pp, 1.0)
    sequences = np.minimum(users, np.maximum(free / each / rows.pp, 1.0))
    # Others' prompts: a user's own prefill ends before its first token. Arrivals are taken as independent, so a step
    # is spared them with the chance that a Poisson count is 0.
    others = np.maximum(sequences * ranks - 1, 0.0) / ranks
    per_step = np.where(rows.disaggregated, 0.0, others / rows.output_tokens)
    ratio = np.maximum(-np.expm1(-per_step), 1e-9)
    prompt_tokens = np.where(per_step > 0, per_step / ratio * rows.input_tokens, 1.0)
    return Demand(
        step=work(rows.table, rows.peaks, rows.decode, sequences, one, middle),
        mixed=work(rows.table, rows.peaks, rows.decode, sequences + prompt_tokens, one, middle),
        mixed_ratio=ratio,
        prefill=work(rows.table, rows.peaks, rows.prefill, one, rows.input_tokens, None),
        sequences=sequences,
        crowding=users / sequences,
        per_step=per_step,
        resident_bytes=weights + sequences * rows.pp * each + OTHER_BYTES,
        weights_bytes=weights,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Which effects apply to which row: columns of the parameter vectors."""

    engine: NDArray[np.int64]
    version: NDArray[np.int64]  # -1: never seen
    newer: NDArray[np.bool_]
    round_lengths: Array


def index(rows: Rows, versions: Sequence[str]) -> Index:
    """The effects of each row; lengths in round thousands mark another load generator in published runs alone."""
    known = {name: i for i, name in enumerate(versions)}
    published = (rows.day >= 0) | np.array([not str(name).endswith(":") for name in rows.version])
    return Index(
        engine=rows.engine,
        version=np.array([known.get(str(name), -1) for name in rows.version]),
        newer=np.array([card.architecture.lower().startswith("blackwell") for card in rows.gpus]),
        round_lengths=(published & (np.mod(rows.input_tokens, 1000) == 0)).astype(float),
    )
