"""Watts of serving rows: by the energy model where it was fitted on the GPU, by the roofline's activity elsewhere.

The energy model (`planner.perf.energy`) says what each second of a step draws; the seconds are shared out by what the
row's own demand waits for, and the step lasts as long as TPOT is predicted to. The forest that corrects it on the
leaderboard's own configurations stays out: on other rows it adds nothing, and it takes as long as all the rest.
Deployments with prefill workers of their own keep the roofline, as none was measured.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.hardware import GPUType
from planner.perf.conformal import interval
from planner.perf.energy import fitted
from planner.perf.energy_terms import OTHERS, TIMED, Terms, draw_ratio, shares
from planner.perf.serving_physics import Demand
from planner.perf.serving_rows import Rows
from planner.power import idle_w, power_w

Array = NDArray[np.float64]
ROOFLINE = "roofline"


@dataclass(frozen=True, slots=True, eq=False)
class Watts:
    """Of all GPUs of each row, with the ends of 90 % intervals (NaN: the roofline has none), and from what."""

    power_w: Array
    lo_w: Array
    hi_w: Array
    source: NDArray[Any]


def watts(rows: Rows, d: Demand, tpot_s: Array, requests_per_s: Array) -> Watts:
    """Watts of every row at a step's seconds and a rate of requests."""
    model = fitted()
    cards, at = _cards(rows)
    measured = np.array([card.name in model.meta["gpus"] for card in cards])[at] & ~rows.disaggregated
    plain = _by_roofline(rows, d, tpot_s, requests_per_s, cards, at)
    asked = _terms(rows, d, cards, at)
    ratio = draw_ratio(asked, shares(asked, model.coefficients, tpot_s), model.coefficients)
    each = np.clip(asked.rated_w * ratio, asked.idle_w, asked.rated_w)
    made = (asked.idle_w + _busy(rows) * (each - asked.idle_w)) * rows.gpus_used
    models, widths = frozenset(model.meta["models"]), model.meta["half_widths"]
    known = np.array([m.name in models for m in rows.models])
    kinds = np.where(measured, np.where(known, "measured", "modelled"), ROOFLINE)
    half = np.full(len(made), np.nan)
    for kind, (i, card) in product(("measured", "modelled"), enumerate(cards)):
        half[(kinds == kind) & (at == i)] = widths.get(f"power:{kind}:{card.name}", widths[f"power:{kind}:"])
    low, high = interval(made, half)
    rest, most = asked.idle_w * rows.gpus_used, asked.rated_w * rows.gpus_used
    return Watts(np.where(measured, made, plain), np.clip(low, rest, most), np.clip(high, rest, most), kinds)


def _cards(rows: Rows) -> tuple[list[GPUType], NDArray[np.int64]]:
    """GPUs of the rows, each once, and which of them each row has."""
    unique = {id(card): card for card in rows.gpus}
    place = {key: i for i, key in enumerate(unique)}
    return list(unique.values()), np.array([place[id(card)] for card in rows.gpus])


def _terms(rows: Rows, d: Demand, cards: list[GPUType], at: NDArray[np.int64]) -> Terms:
    """What a step waits for, as `planner.perf.energy_terms` counts it."""
    step, prompt = d.step, d.prefill
    each = d.sequences / rows.output_tokens  # prompts a step on one rank
    batch, arrivals = d.sequences * rows.decode.dp, each * rows.decode.dp
    mixed = -np.expm1(-arrivals)  # share of steps with a prompt in them, arrivals being independent
    ranks, per_token = rows.decode.moe_ep, rows.table.per_token.max(axis=1)
    held = np.maximum(batch * per_token / ranks, 1e-9)
    busiest = np.minimum(np.sqrt(2 * np.log(ranks) / held), ranks - 1)
    state_layers = (rows.table.a_count * (rows.table.a_state > 0)).sum(axis=1)
    seconds = {
        "step": np.full(len(batch), 1e-3),
        "layers": step.layers * 1e-5,
        "moe_layers": step.moe_layers * 1e-5,
        "sequences": batch * 1e-6,
        "reductions": step.reductions * 1e-5,
        "gemm": step.gemm_roof,
        "moe": step.moe_roof,
        "imbalance": step.moe_roof * busiest,
        "kv": step.kv,
        "head": step.head_roof,
        "activations": step.activations,
        "links": step.reduce_link + step.exchange_link + each * (prompt.reduce_link + prompt.exchange_link),
        "prefill": each * (prompt.gemm_flops + prompt.attention_flops),
        "prefill_moe": each * prompt.moe_flops,
        "prefill_imbalance": each * prompt.moe_flops * (ranks > 1),
        "prefill_activations": each * prompt.activations,
        "woken": mixed * np.maximum(d.mixed.moe_hbm - step.moe_hbm, 0.0),
        "mixed": mixed * step.layers * 1e-5,
        "scan": mixed * state_layers * 1e-5,
        "arrivals": arrivals * 1e-3,
        "routed": step.moe_layers * (batch + arrivals * rows.input_tokens) * per_token * 1e-9,
        "media": np.zeros(len(batch)),
    }
    rated = np.array([card.tdp_w for card in cards])[at]
    context = rows.input_tokens + rows.output_tokens
    sizes = (batch, context, batch / rows.output_tokens, None, rows.decode.tp, ranks, step.layers)
    about = [step.moe_layers > 0 if x is None else np.log(np.maximum(x, 1e-9)) for x in sizes]
    # Requests of text, neither of the two tasks whose lengths spread in a way of their own.
    about += [rows.gpus_used == 1, np.ones(len(batch)), np.zeros(len(batch)), np.log(rated)]
    return Terms(
        np.column_stack([seconds[name] for name in TIMED]),
        step.gemm_flops + step.moe_flops + step.attention_flops,
        np.array([[card.architecture == name for name in OTHERS] for card in cards], dtype=float)[at],
        rated,
        np.array([idle_w(card) for card in cards])[at],
        np.column_stack(about).astype(float),
    )


def _by_roofline(
    rows: Rows, d: Demand, tpot_s: Array, requests_per_s: Array, cards: list[GPUType], at: NDArray[np.int64]
) -> Array:
    """By how long compute units and memory are busy; each pool by its own work."""

    def draw(compute: Array, memory: Array) -> Array:
        each = np.zeros(len(at))
        for i, card in enumerate(cards):
            here = at == i
            each[here] = power_w(card, np.minimum(compute[here], 1.0), np.minimum(memory[here], 1.0))
        return each

    w, p = d.step, d.prefill
    prompt_compute_s = p.gemm_flops + p.moe_flops + p.attention_flops
    compute_s = w.gemm_flops + w.moe_flops + w.attention_flops + d.per_step * prompt_compute_s
    memory_s = w.gemm_hbm + w.moe_hbm + w.kv + w.activations
    busy = _busy(rows)
    decode = draw(busy * compute_s / tpot_s, busy * memory_s / tpot_s)
    rate = requests_per_s / (rows.prefill.dp * rows.prefill_workers)
    prefill = draw(rate * prompt_compute_s, rate * (p.gemm_hbm + p.moe_hbm + p.activations))
    prefill_gpus = rows.prefill.tp * rows.prefill.dp * rows.pp * rows.prefill_workers
    prefill_gpus = np.where(rows.disaggregated, prefill_gpus, 0.0)
    return decode * (rows.gpus_used - prefill_gpus) + prefill * prefill_gpus


def _busy(rows: Rows) -> Array:
    """Of the workers, those with users; the others stand idle."""
    return np.minimum(rows.concurrency / (rows.decode.dp * rows.decode_workers), 1.0)
