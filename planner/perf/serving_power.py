"""Watts of serving rows: by the energy model where it was fitted on the GPU, by the roofline's activity elsewhere.

The energy model (`planner.perf.energy`) says what each second of a step draws; the seconds are shared out by what the
row's own demand waits for, and the step lasts as long as TPOT is predicted to. The forest that corrects it stays out:
it takes as long as all the rest, and on configurations left out it brings an H100's mean error from 8.1 to 7.6 %, a
B200's from 40 to 30 %. Intervals are those of the corrected model, on rows left out. Deployments with prefill workers
of their own keep the roofline, as none was measured.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.hardware import GPUType
from planner.perf.conformal import interval
from planner.perf.energy import fitted
from planner.perf.energy_terms import Cards, Step, Terms, cards, draw_ratio, shares, step_terms
from planner.perf.serving_physics import Demand
from planner.perf.serving_rows import Rows
from planner.power import power_w

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
    gpus, at = _gpus(rows)
    measured = np.array([card.name in model.meta["gpus"] for card in gpus])[at] & ~rows.disaggregated
    plain = _by_roofline(rows, d, tpot_s, requests_per_s, gpus, at)
    asked = _terms(rows, d, Cards(*(figure[at] for figure in cards(gpus))))
    ratio = draw_ratio(asked, shares(asked, model.coefficients, tpot_s), model.coefficients)
    each = np.clip(asked.rated_w * ratio, asked.idle_w, asked.rated_w)
    made = (asked.idle_w + _busy(rows) * (each - asked.idle_w)) * rows.gpus_used
    models, widths = frozenset(model.meta["models"]), model.meta["half_widths"]
    known = np.array([m.name in models for m in rows.models])
    kinds = np.where(measured, np.where(known, "measured", "modelled"), ROOFLINE)
    half = np.full(len(made), np.nan)
    for kind, (i, card) in product(("measured", "modelled"), enumerate(gpus)):
        half[(kinds == kind) & (at == i)] = widths.get(f"power:{kind}:{card.name}", widths[f"power:{kind}:"])
    low, high = interval(made, half)
    rest, most = asked.idle_w * rows.gpus_used, asked.rated_w * rows.gpus_used
    return Watts(np.where(measured, made, plain), np.clip(low, rest, most), np.clip(high, rest, most), kinds)


def _gpus(rows: Rows) -> tuple[list[GPUType], NDArray[np.int64]]:
    """GPUs of the rows, each once, and which of them each row has."""
    unique = {id(card): card for card in rows.gpus}
    place = {key: i for i, key in enumerate(unique)}
    return list(unique.values()), np.array([place[id(card)] for card in rows.gpus])


def _terms(rows: Rows, d: Demand, card: Cards) -> Terms:
    """What a step waits for, of requests of text: neither of the two tasks whose lengths spread in their own way."""
    each, none = d.sequences / rows.output_tokens, np.zeros(len(d.sequences))
    step = Step(
        decode=d.step,
        prompt=d.prefill,
        prompts=each,
        batch=d.sequences * rows.decode.dp,
        arrivals=each * rows.decode.dp,
        input_tokens=rows.input_tokens,
        output_tokens=rows.output_tokens,
        woken_hbm_s=d.mixed.moe_hbm,
        state_layers=(rows.table.a_count * (rows.table.a_state > 0)).sum(axis=1),
        tp=rows.decode.tp,
        ranks=rows.decode.moe_ep,
        per_token=rows.table.per_token.max(axis=1),
        gpus=rows.gpus_used,
        media=none,
        chat=none + 1,
        quiz=none,
    )
    return step_terms(step, card)


def _by_roofline(
    rows: Rows, d: Demand, tpot_s: Array, requests_per_s: Array, gpus: list[GPUType], at: NDArray[np.int64]
) -> Array:
    """By how long compute units and memory are busy; each pool by its own work."""

    def draw(compute: Array, memory: Array) -> Array:
        each = np.zeros(len(at))
        for i, card in enumerate(gpus):
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
