"""Phases that do not take turns on the same GPUs: in pools of their own, or side by side on parts of each GPU.

Two pools are two queues in a row. A request waits for a prefill replica, is prefilled and sent, waits for a place in a
decode replica's batch, and gets its first token with the next step there: so both engines' proxies do it. Neither pool
delays the other, so TPOT is a decode step and what a pool carries is 1 / its own work. The TTFT objective is divided
between them where both together need the fewest GPUs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.batching import Array, Mask, Objective, Operating, Replica, Sizes, Steady, operate, steady
from planner.cost import Cost, Figure
from planner.partition import divided
from planner.roofline import StepTime, step_time

# Shares of the TTFT objective that the wait for a decode replica and its first step may take.
DECODE_SHARES = (0.05, 0.1, 0.2, 0.4, 0.7)


class PoolRun(NamedTuple):
    """A replica of one pool of a recipe in steady state, and its chosen points."""

    pool: str
    phases: tuple[str, ...]
    run: Steady
    point: Operating


class Apart(NamedTuple):
    """A prefill replica and a decode replica in steady state."""

    prefill: Steady
    decode: Steady

    @property
    def request(self) -> Steady:
        """What one request sees of both, and what a replica of each carries together."""
        prefill, decode = self
        return decode._replace(
            prompt_s=prefill.prompt_s,
            prefill_slot_s=prefill.prefill_slot_s,
            requests_per_s=np.minimum(prefill.requests_per_s, decode.requests_per_s),
            compute_s=prefill.compute_s + decode.compute_s,
            hbm_s=prefill.hbm_s + decode.hbm_s,
        )


def contradiction(cost: Cost) -> str | None:
    """Why the phases of a cost cannot run as its techniques want, in words."""
    prefill = cost.phases["prefill"]
    if prefill.rides and prefill.beside:
        return "prompts cannot both ride on decode steps in chunks and run beside them on SMs of their own"
    if len(cost.pools) == 1:
        return None
    if any("ffn" in pool for pool in cost.pools):
        return "no release of an engine runs attention and FFN on different GPUs: they are costed but not placed"
    if prefill.rides or prefill.beside:
        return "prefill has GPUs of its own: there are no decode steps for prompts to ride on or to run beside"
    return None


def operate_pools(
    cost: Cost, replica: Replica, fits: Sequence[Mask], limits: Objective, loads: Array
) -> tuple[Steady, list[PoolRun]]:
    """What a request sees of a replica of each pool, and every pool at its chosen points.

    `fits`: where (bucket, batch) stays within the memory of each pool.
    """
    sizes, batch, lanes = replica.sizes, replica.batch, replica.lanes
    if len(cost.pools) == 1:
        run = run_of(cost, replica)
        return run, [PoolRun("serve", cost.pools[0], run, operate(run, sizes, batch, lanes, fits[0], limits, loads))]
    two = apart(cost, replica)
    points = operate_apart(two, sizes, batch, lanes, (fits[0], fits[1]), limits, loads)
    names = (pool[0] for pool in cost.pools)
    return two.request, [PoolRun(*made) for made in zip(names, cost.pools, two, points, strict=True)]


def run_of(cost: Cost, replica: Replica) -> Steady:
    """A replica whose phases share GPUs, in turns or side by side."""
    if cost.phases["prefill"].beside is None:
        return steady(cost, replica)
    sizes, batch = replica.sizes, replica.batch
    prompts, yielded = _per_request(cost, sizes, batch)

    def replica_s(prefill_s: Array, decode_s: Array) -> Array:
        return np.maximum(prompts * prefill_s, sizes.output_tokens / yielded * decode_s / batch)

    cost = divided(cost, replica.gpu, replica_s)
    return apart(cost, replica).request


def apart(cost: Cost, replica: Replica) -> Apart:
    """Each phase as if the other were not there, at the share of the GPU that it has."""
    gpu, engine, sizes, batch, lanes, factors = replica
    prompts, yielded = _per_request(cost, sizes, batch)
    prefill, decode = cost.phases["prefill"], cost.phases["decode"]
    on_decode, on_prefill, first_s = factors
    own, step = step_time(prefill, gpu, engine), step_time(decode, gpu, engine)
    own_s, step_s = own.total_s * on_prefill, step.total_s * on_decode
    prompt_s = np.maximum(sizes.largest_input_tokens / prefill.tokens, 1.0) * own_s + first_s
    shape = np.broadcast_shapes(np.shape(own_s * prompts), np.shape(step_s), np.shape(batch))
    work_s, token_s = prompts * own_s, step_s / yielded
    took_s = sizes.output_tokens * token_s
    busy = _busy(own, prompts * on_prefill / lanes), _busy(step, took_s / step.total_s / batch / lanes)
    none: Figure = 0.0
    first = (none, none, prompt_s, work_s, none, lanes / work_s, *busy[0])
    then = (token_s, none, none, none, took_s, lanes * batch / took_s, *busy[1])
    return Apart(_spread(first, shape), _spread(then, shape))


def _spread(figures: Sequence[Figure], shape: tuple[int, ...]) -> Steady:
    return Steady(*(np.broadcast_to(np.asarray(figure, dtype=float), shape) for figure in figures))


def operate_apart(
    runs: Apart, sizes: Sizes, batch: Array, lanes: int, fits: tuple[Mask, Mask], limits: Objective, loads: Array
) -> tuple[Operating, Operating]:
    """The points of the prefill and of the decode pool that need the fewest replicas; latencies are of the whole way.

    `fits`: where (bucket, batch) stays within the memory of each pool.
    """
    best: tuple[Operating, Operating] | None = None
    once = sizes._replace(output_tokens=np.ones_like(sizes.output_tokens))
    for share in DECODE_SHARES:
        decode = operate(
            runs.decode, sizes, batch, lanes, fits[1], limits._replace(ttft_s=share * limits.ttft_s), loads
        )
        left_s = np.minimum(limits.ttft_s - decode.ttft_s[:, None], limits.e2e_s - decode.e2e_s[:, None])
        prefill = operate(
            runs.prefill, once, batch, lanes, fits[0], limits._replace(ttft_s=left_s, e2e_s=left_s), loads
        )
        whole = _joined(prefill, decode)
        best = whole if best is None else _better(best, whole)
    assert best is not None
    return best


def _per_request(cost: Cost, sizes: Sizes, batch: Array) -> tuple[Array, Array]:
    """Prefill steps of a prompt, and tokens that a decode step yields a sequence."""
    prompts = np.asarray(sizes.input_tokens / cost.phases["prefill"].tokens)
    return prompts, np.asarray(cost.phases["decode"].tokens / batch)


def _busy(step: StepTime, steps: Array) -> Sequence[Array]:
    return np.asarray(step.compute_s * steps), np.asarray(step.hbm_s * steps)


def _joined(prefill: Operating, decode: Operating) -> tuple[Operating, Operating]:
    """Both points where there are both, with the latencies that a request sees of the two together."""
    both = (prefill.batch > 0) & (decode.batch > 0)
    first_s = np.where(both, prefill.ttft_s + decode.ttft_s, 0.0)
    seen = {"ttft_s": first_s, "tpot_s": decode.tpot_s, "e2e_s": prefill.ttft_s + decode.e2e_s}
    one, two = (
        point._replace(
            batch=np.where(both, point.batch, 0), requests_per_s=np.where(both, point.requests_per_s, 0.0), **seen
        )
        for point in (prefill, decode)
    )
    return one, two


def _better(old: tuple[Operating, Operating], new: tuple[Operating, Operating]) -> tuple[Operating, Operating]:
    """By bucket, the pair that needs fewer replicas for a request per second."""
    with np.errstate(divide="ignore"):
        needs = [1 / prefill.requests_per_s + 1 / decode.requests_per_s for prefill, decode in (old, new)]
    wins = needs[1] < needs[0]
    one, two = (
        Operating(*(np.where(wins, b, a) for a, b in zip(before, after, strict=True)))
        for before, after in zip(old, new, strict=True)
    )
    return one, two
