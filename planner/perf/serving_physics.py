"""TPOT and TTFT of a serving engine from operation counts and a few dozen coefficients with a meaning each.

A decode step is the sum of its operators, each the slower of arithmetic and memory (softly), plus what the engine adds
per layer, collective, request and step; prefills that fall into a sequence's life add their share. TTFT in a closed
loop is the frontend, one step, the prompt's own prefill, those of the users who start together, and the queue that
forms where KV memory or prefill workers run short.

Coefficients are exponentials of sums: a common one, the engine's deviation, the format's, the GPU family's, and the
engine version's, so that what was never seen falls back to what is common (a hierarchical model; Gelman and Hill,
"Data Analysis Using Regression and Multilevel/Hierarchical Models", 2007).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.perf.serving_rows import ENGINES, Rows
from planner.perf.steps import Layout, Work, held_bytes, kv_bytes, work

Array = NDArray[np.float64]
# Name, what it multiplies, and where the fit starts: datasheet peaks are reached to 1 / value.
STEP_TERMS = {
    "gemm_hbm": 1.3, "gemm_flops": 1.5, "moe_hbm": 1.4, "moe_flops": 2.5, "kv": 1.2, "attention_flops": 2.0,
    "head": 1.2, "activations": 1.0, "reduce_link": 1.5, "reduction_s": 6e-6, "exchange_link": 2.0,
    "exchange_s": 2e-5, "layer_s": 2e-5, "moe_layer_s": 1e-5, "request_s": 1e-5, "step_s": 5e-4,
    "prefill_gemm": 1.4, "prefill_moe": 2.0, "prefill_attention": 2.0, "prefill_link": 1.3, "prefill_layer_s": 2e-5,
}  # fmt: skip
HOST_TERMS = ("layer_s", "moe_layer_s", "request_s", "step_s", "prefill_layer_s", "reduction_s", "exchange_s")
FIRST_TERMS = {
    "frontend_s": 0.03, "layer_s": 2e-4, "own": 1.2, "step": 1.0, "together": 0.1, "busy": 0.5, "full": 0.5,
    "workers": 0.7, "user_s": 2e-4,
}  # fmt: skip
FORMAT_EFFECTS = ("gemm:bf16", "gemm:fp8_block", "gemm:nvfp4", "moe:fp8_block", "moe:nvfp4", "moe:mxfp4", "moe:bf16")
FAMILY_EFFECTS = ("gemm", "moe", "kv", "layers", "prefill", "host")  # of GPUs newer than Hopper
# A prompt shares its step with others up to this many tokens.
STEP_TOKENS = 8192.0
MEMORY_RATIO = 0.9
OTHER_BYTES = 3e9


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What the coefficients multiply: the work of a decode step and of prefills, and who waits for whom."""

    step: Work
    prefill: Work
    prompts: Array  # that share a prefill step
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
    free = np.maximum(MEMORY_RATIO * room - weights - OTHER_BYTES, 0.02 * room)
    each = np.maximum(kv_bytes(rows.table, rows.peaks, rows.decode, middle) / rows.pp, 1.0)
    sequences = np.minimum(users, np.maximum(free / each / rows.pp, 1.0))
    prompts = np.maximum(STEP_TOKENS / rows.input_tokens, 1.0)
    return Demand(
        step=work(rows.table, rows.peaks, rows.decode, sequences, one, middle),
        prefill=work(rows.table, rows.peaks, rows.prefill, prompts, rows.input_tokens, None),
        prompts=prompts,
        sequences=sequences,
        crowding=users / sequences,
        per_step=np.where(rows.disaggregated, 0.0, sequences / rows.output_tokens),
        resident_bytes=weights + sequences * rows.pp * each + OTHER_BYTES,
        weights_bytes=weights,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Which effects apply to which row: columns of the parameter vectors."""

    engine: NDArray[np.int64]
    version: NDArray[np.int64]  # -1: never seen
    formats: Array
    newer: NDArray[np.bool_]
    latent: NDArray[np.bool_]
    round_lengths: Array


def index(rows: Rows, versions: Sequence[str]) -> Index:
    """The effects of each row; lengths in round thousands mark another load generator in the published runs."""
    known = {name: i for i, name in enumerate(versions)}
    columns = [
        (rows.gemm_format if kind == "gemm" else rows.moe_format) == form
        for kind, form in (effect.split(":") for effect in FORMAT_EFFECTS)
    ]
    return Index(
        engine=rows.engine,
        version=np.array([known.get(str(name), -1) for name in rows.version]),
        formats=np.stack(columns, axis=1).astype(float),
        newer=np.array([card.architecture.lower().startswith("blackwell") for card in rows.gpus]),
        latent=rows.latent,
        round_lengths=(np.mod(rows.input_tokens, 1000) == 0).astype(float),
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """Where each group of parameters lies in the vector of the step model or of the first-token model."""

    versions: int

    @property
    def step_size(self) -> int:
        """Length of the step model's vector."""
        k, e = len(STEP_TERMS), len(ENGINES)
        return k + e * k + len(FORMAT_EFFECTS) + len(FAMILY_EFFECTS) + 2 * self.versions + 2 * e

    @property
    def first_size(self) -> int:
        """Length of the first-token model's vector."""
        k, e = len(FIRST_TERMS), len(ENGINES)
        return k + e * k + self.versions + e


def _of(effects: Array, at: NDArray[np.int64]) -> Array:
    return np.where(at >= 0, np.append(effects, 0.0)[at], 0.0)


def _soft(one: Array, other: Array) -> Array:
    return np.cbrt(one**3 + other**3)


def step_s(v: Array, d: Demand, at: Index, shape: Shape) -> tuple[Array, Array]:
    """Seconds per output token, and of one prompt's prefill among others, of each row."""
    k, e = len(STEP_TERMS), len(ENGINES)
    cuts = np.cumsum([k, e * k, len(FORMAT_EFFECTS), len(FAMILY_EFFECTS), shape.versions, shape.versions, e])
    base, own, formats, family, version, latent, generator, prefills = np.split(v, cuts)
    c = dict(zip(STEP_TERMS, np.exp(base + own.reshape(e, k)[at.engine]).T, strict=True))
    newer = dict(zip(FAMILY_EFFECTS, np.exp(np.where(at.newer, family[:, None], 0.0)), strict=True))
    gemm, moe = np.exp(at.formats[:, :3] @ formats[:3]), np.exp(at.formats[:, 3:] @ formats[3:])
    w, p = d.step, d.prefill
    step = newer["gemm"] * _soft(c["gemm_hbm"] * w.gemm_hbm, gemm * c["gemm_flops"] * w.gemm_flops)
    step = step + newer["moe"] * moe * _soft(c["moe_hbm"] * w.moe_hbm, c["moe_flops"] * w.moe_flops)
    step = step + newer["kv"] * _soft(c["kv"] * w.kv, c["attention_flops"] * w.attention_flops)
    step = step + c["head"] * w.head_roof + c["activations"] * w.activations
    step = step + c["reduce_link"] * w.reduce_link + c["reduction_s"] * w.reductions
    step = step + c["exchange_link"] * w.exchange_link + c["exchange_s"] * w.exchanges
    step = step + newer["layers"] * (c["layer_s"] * w.layers + c["moe_layer_s"] * w.moe_layers)
    step = step + newer["host"] * (c["request_s"] * w.sequences + c["step_s"])
    prompt = gemm * c["prefill_gemm"] * p.gemm_flops + moe * c["prefill_moe"] * p.moe_roof
    prompt = prompt + c["prefill_attention"] * p.attention_flops + c["activations"] * p.activations
    prompt = prompt + c["prefill_link"] * (p.reduce_link + p.exchange_link)
    prompt = (newer["prefill"] * prompt + c["prefill_layer_s"] * p.layers) / d.prompts
    prompt = prompt * np.exp(at.round_lengths * prefills[at.engine])
    slower = _of(version, at.version) + np.where(at.latent, _of(latent, at.version), 0.0)
    slower = slower + at.round_lengths * generator[at.engine]
    return np.exp(slower) * step + d.per_step * prompt, prompt


def first_parts(rows: Rows, d: Demand, tpot_s: Array, prompt_s: Array) -> Array:
    """What the coefficients of the first token multiply, (rows, terms), in the order of `FIRST_TERMS`."""
    together = np.where(rows.disaggregated, 0.0, d.sequences * prompt_s)
    busy = np.minimum(together / (rows.output_tokens * tpot_s), 0.95)
    life_s = rows.output_tokens * tpot_s
    per_worker = rows.concurrency * prompt_s / (rows.prefill_workers * rows.prefill.dp)
    queue = np.maximum(per_worker - life_s, 0.0) + 0.1 * per_worker
    parts = (
        np.ones(len(tpot_s)),
        d.step.layers,
        prompt_s,
        tpot_s,
        together,
        busy / (1 - busy) * prompt_s,
        np.maximum(d.crowding - 1, 0.0) * life_s,
        np.where(rows.disaggregated, queue, 0.0),
        rows.concurrency,
    )
    return np.stack(parts, axis=1)


def first_s(v: Array, parts: Array, at: Index, shape: Shape) -> Array:
    """Seconds to the first token of each row."""
    k, e = len(FIRST_TERMS), len(ENGINES)
    base, own, version, generator = np.split(v, np.cumsum([k, e * k, shape.versions]))
    c = np.exp(base + own.reshape(e, k)[at.engine])
    return np.asarray((parts * c).sum(axis=1)) * np.exp(
        _of(version, at.version) + at.round_lengths * generator[at.engine]
    )


def layout_gpus(layout: Layout) -> Array:
    """GPUs of one worker."""
    return layout.tp * layout.dp
