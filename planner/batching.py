"""Continuous batching in closed form: what one replica carries at each batch size, and the largest load that holds.

With B sequences in flight and requests of n output tokens, B / n prefills fall on every decode step. So
    TPOT = t_decode(B) + (B / n) t_prefill,     requests/s = B / (n TPOT) = 1 / (t_prefill + n t_decode(B) / B)
where t_prefill is what one prompt adds to the replica's work. At a percentile, the prefills that fall into one
request's life are Poisson. A prompt that rides on decode steps in chunks cannot be taken in faster than a chunk a step.
TTFT adds the step in progress, the wait for a slot, the wait for prefills that came before, and the prompt's own time,
each at the percentile (an upper bound: they are not all late at once).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.calibration import MAX_UTILISATION_RATIO, PREFILL_SCV, EngineCosts
from planner.cost import Cost, Figure
from planner.hardware import GPUType
from planner.queueing import count_quantile, deviates, mean_wait_s, wait_quantile_s
from planner.roofline import StepTime, step_time
from planner.service import SLO

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
# Loads to try, as shares of what the replica could carry if requests came just in time.
LOADS = np.array([MAX_UTILISATION_RATIO, 0.9, 0.8, 0.7, 0.55, 0.4, 0.2])


class Sizes(NamedTuple):
    """Request sizes, one row a bucket: mean tokens for the load, and the largest prompt for its own TTFT."""

    input_tokens: Array
    output_tokens: Array
    largest_input_tokens: Array


class Steady(NamedTuple):
    """A replica in steady state, by (bucket, batch); seconds, and requests per second."""

    decode_s: Array
    prefill_s: Array  # what one prompt adds to the replica's work
    prompt_s: Array  # how long one largest prompt takes, alone
    prefill_slot_s: Array  # how long one prompt keeps the next one waiting
    in_flight_s: Array  # how long one request holds its place in the batch
    requests_per_s: Array
    compute_s: Array  # per request and GPU: compute units busy
    hbm_s: Array


class Factors(NamedTuple):
    """What measurements make of computed seconds: factors on a decode step (by batch) and on prefill; more TTFT."""

    decode: Figure = 1.0
    prefill: float = 1.0
    first_s: float = 0.0


COMPUTED = Factors()


class Operating(NamedTuple):
    """Chosen points, one row a bucket; `batch` 0 = none meets the objective."""

    batch: Array
    requests_per_s: Array
    utilisation_ratio: Array
    ttft_s: Array
    tpot_s: Array
    e2e_s: Array


class Replica(NamedTuple):
    """What costs become seconds on: `batch` sequences in each of `lanes` pipeline lanes, of requests of these sizes."""

    gpu: GPUType
    engine: EngineCosts
    sizes: Sizes
    batch: Array
    lanes: int
    factors: Factors = COMPUTED


def steady(cost: Cost, replica: Replica) -> Steady:
    """A replica whose prefill and decode take turns on the same GPUs."""
    gpu, engine, sizes, batch, lanes, factors = replica
    decode, prefill = cost.phases["decode"], cost.phases["prefill"]
    step = _corrected(step_time(decode, gpu, engine), factors.decode)
    own = _corrected(step_time(prefill, gpu, engine), factors.prefill)
    prompts = sizes.input_tokens / prefill.tokens  # prefill steps per prompt; below 1 where prompts share a step
    added_s = own.total_s * prompts
    yielded = decode.tokens / batch  # tokens of one sequence in a step: 1, more where a draft proposes some
    per_token_s = step.total_s / batch / yielded
    work_s = added_s + sizes.output_tokens * per_token_s
    waits_s = step.total_s if prefill.rides == "decode" else 0.0
    slot_s = prompts * (own.total_s + waits_s)
    largest = np.maximum(sizes.largest_input_tokens / prefill.tokens, 1.0)
    if prefill.rides == "decode":
        # A chunk holds no more than the prompts that are there: at least one, at most all that arrive in a step.
        arriving = np.maximum(batch / sizes.output_tokens, 1.0) * sizes.largest_input_tokens
        filled = np.minimum(arriving / prefill.tokens, 1.0)
        work_s = np.maximum(work_s, slot_s)
        prompt_s = largest * (own.total_s * filled + waits_s)
    else:
        prompt_s = largest * own.total_s
    compute_s = own.compute_s * prompts + step.compute_s / batch / yielded * sizes.output_tokens
    hbm_s = own.hbm_s * prompts + step.hbm_s / batch / yielded * sizes.output_tokens
    shape = np.broadcast_shapes(np.shape(work_s), np.shape(batch))
    in_flight_s = sizes.output_tokens * step.total_s / yielded + batch * added_s
    figures = (
        step.total_s / yielded,
        added_s,
        prompt_s + factors.first_s,
        slot_s,
        in_flight_s,
        lanes / work_s,
        compute_s / lanes,
        hbm_s / lanes,
    )
    return Steady(*(np.broadcast_to(figure, shape) for figure in figures))


def _corrected(time: StepTime, factor: Figure) -> StepTime:
    """All seconds by a factor: what keeps the units busy, and so draws power, stays the same share of them."""
    return StepTime(time.total_s * factor, time.compute_s * factor, time.hbm_s * factor)


class Objective(NamedTuple):
    """Latency limits, one row a bucket; infinite = not asked for. Percentiles that are all equal are one row."""

    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    percentile: Array
    deviates: Array  # the same, in standard deviations of a normal distribution


def objective(slos: list[SLO]) -> Objective:
    """The limits of each bucket's SLO."""

    def column(figures: Sequence[float | None]) -> Array:
        return np.array([[np.inf if figure is None else figure] for figure in figures])

    # No open queue keeps every request within a limit: "all" is read as all but one in a million.
    percentiles = [min(slo.percentile, 1 - 1e-6) for slo in slos]
    if len(set(percentiles)) == 1:
        percentiles = percentiles[:1]  # one row for all: the waits are then computed once a batch, not once a bucket
    return Objective(
        column([slo.ttft_s for slo in slos]),
        column([slo.tpot_s for slo in slos]),
        column([slo.e2e_s for slo in slos]),
        column(percentiles),
        column([deviates(percentile) for percentile in percentiles]),
    )


def unloaded(run: Steady, sizes: Sizes, batch: Array, limits: Objective) -> tuple[Array, Array]:
    """TTFT without any wait, and TPOT with `batch` in flight, in seconds at the limits' percentile."""
    met = count_quantile(batch, limits.deviates)
    between_s = run.decode_s + met / sizes.output_tokens * run.prefill_s
    return run.decode_s + run.prompt_s, np.where(sizes.output_tokens > 1, between_s, 0.0)  # one token has no next


def wait_s(run: Steady, batch: Array, lanes: int, limits: Objective, load: float) -> Figure:
    """Wait for a slot and then for the prefills ahead, of a replica at a share `load` of its capacity."""
    if load >= 1:  # no steady state: a batch job, all of whose requests are there from the start
        return 0.0
    slot_s = wait_quantile_s(load, batch * lanes, run.in_flight_s, limits.percentile)
    busy = load * run.requests_per_s * run.prefill_slot_s / lanes
    return slot_s + wait_quantile_s(busy, 1.0, run.prefill_slot_s, limits.percentile, PREFILL_SCV)


def operate(
    run: Steady, sizes: Sizes, batch: Array, lanes: int, fits: Mask, limits: Objective, loads: Array
) -> Operating:
    """The batch and load that carry most requests per second within the limits, for each bucket.

    `fits`: where (bucket, batch) stays within memory. Loads are tried from the highest down.
    """
    ttft_s, tpot_s = unloaded(run, sizes, batch, limits)
    left = fits & (tpot_s <= limits.tpot_s)
    # Larger batches than any bucket can use are not looked at again.
    width = int(np.flatnonzero(left.any(axis=0)).max(initial=0)) + 1
    run, batch = Steady(*(figure[:, :width] for figure in run)), batch[:, :width]
    left, ttft_s, tpot_s = left[:, :width], ttft_s[:, :width], tpot_s[:, :width]
    decoding_s = (sizes.output_tokens - 1) * tpot_s
    slack_s = np.minimum(limits.ttft_s, limits.e2e_s - decoding_s) - ttft_s  # what may be spent waiting
    left &= wait_s(run, batch, lanes, limits, loads[-1]) <= slack_s  # the rest waits too long at any load
    rows = np.arange(len(left))
    rate, load_at, waits_s, column = (np.zeros(len(left)) for _ in range(4))
    for load in loads:
        offered = load * run.requests_per_s
        left &= offered > rate[:, None]
        if not left.any():
            break
        waited_s = np.broadcast_to(wait_s(run, batch, lanes, limits, load), left.shape)
        met = left & (waited_s <= slack_s)
        offered = np.where(met, offered, 0.0)
        pick = offered.argmax(axis=1)
        better = offered[rows, pick] > rate
        rate, load_at = np.where(better, offered[rows, pick], rate), np.where(better, load, load_at)
        waits_s, column = np.where(better, waited_s[rows, pick], waits_s), np.where(better, pick, column)
        left &= ~met
    at = (rows, column.astype(int))
    first_s = ttft_s[at] + waits_s
    return Operating(
        np.where(rate > 0, batch[0, at[1]] * lanes, 0), rate, load_at, first_s, tpot_s[at], first_s + decoding_s[at]
    )


def typical_s(run: Steady, sizes: Sizes, point: Operating, lanes: int) -> Array:
    """Mean seconds from request to last token at chosen points, one row a bucket: `run` is that of each point alone."""
    batch, load = point.batch[:, None] / lanes, point.utilisation_ratio[:, None]
    between_s = run.decode_s + batch / sizes.output_tokens * run.prefill_s
    own_s = run.decode_s + run.prompt_s * sizes.input_tokens / np.maximum(sizes.largest_input_tokens, 1.0)
    slot_s = mean_wait_s(load, batch * lanes, run.in_flight_s)
    prefill_s = mean_wait_s(
        load * run.requests_per_s * run.prefill_slot_s / lanes, 1.0, run.prefill_slot_s, PREFILL_SCV
    )
    waits_s = np.where(load < 1, slot_s + prefill_s, 0.0)
    return np.asarray(own_s + waits_s + (sizes.output_tokens - 1) * between_s)[:, 0]
