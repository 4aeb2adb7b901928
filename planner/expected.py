"""What is expected of a replica at the points that were chosen for it: latencies, power, and how well it is used."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from planner.anchor import Anchor, source_of
from planner.batching import Array, Objective, Operating, Sizes, Steady, typical_s
from planner.calibration import ENGINE_START_S, LOAD_BYTES_PER_S
from planner.catalog import recovery
from planner.cost import Case, Cost
from planner.model import Model
from planner.plan import ClassLatency, PoolProfile, Prediction, Recipe
from planner.pools import PoolRun
from planner.power import power_w
from planner.roofline import memory_bytes
from planner.service import Bucket


class Demand(NamedTuple):
    """A service's buckets as arrays, one row a bucket."""

    buckets: tuple[Bucket, ...]
    sizes: Sizes
    rates_per_s: Array
    limits: Objective
    loads: Array


def pool_profiles(
    recipe: Recipe,
    case: Case,
    base: Cost,
    cost: Cost,
    pools: Sequence[PoolRun],
    demand: Demand,
    anchor: Anchor | None,
) -> tuple[PoolProfile, ...]:
    """Every pool of a recipe; a request's mean time is that in all of them."""
    made = [_pool_profile(recipe, case, base, cost, pool, demand, anchor) for pool in pools]
    mean_s = sum(one.prediction.mean_latency_s for one in made)
    return tuple(replace(one, prediction=replace(one.prediction, mean_latency_s=mean_s)) for one in made)


def _pool_profile(
    recipe: Recipe, case: Case, base: Cost, cost: Cost, pool: PoolRun, demand: Demand, anchor: Anchor | None
) -> PoolProfile:
    """What the solver needs of the chosen points, and what is expected at full load of the service's own mix."""
    run, point = pool.run, pool.point
    rows = np.flatnonzero(point.batch)
    batches = np.ravel(case.batch)
    columns = np.searchsorted(batches * recipe.pp, point.batch[rows])
    load = 1 / point.requests_per_s[rows]
    busy = demand.rates_per_s[rows] * load
    share = busy / busy.sum() if busy.sum() else np.full(len(rows), 1 / len(rows))  # of the replica's time

    def at(figure: object) -> Array:
        return np.broadcast_to(np.asarray(figure, dtype=float), (len(demand.buckets), batches.size))[rows, columns]

    rate = point.requests_per_s[rows]
    written = demand.sizes.output_tokens[rows, 0] if "decode" in pool.phases else 0.0
    # Steps follow one another while any request is in flight: HBM is as busy at a low load as at the highest.
    watts = power_w(case.gpu, rate * at(run.compute_s), rate / point.utilisation_ratio[rows] * at(run.hbm_s))
    held = {item: np.asarray(amount, dtype=float) for item, amount in cost.resident(pool.phases).items()}
    weights_bytes = float(held["weights"] + held["embeddings"]) * recipe.gpus
    chosen = Operating(*(figure[rows] for figure in point))
    sizes = Sizes(*(figure[rows] for figure in demand.sizes))
    mean_s = typical_s(Steady(*(at(figure)[:, None] for figure in run)), sizes, chosen, recipe.pp)
    # On average a request has half of its answer, and so much of the batch is there as is used of the capacity.
    lived = (sizes.input_tokens + sizes.output_tokens / 2) / (sizes.input_tokens + sizes.output_tokens)
    empty = at(held["kv"]) * (1 - lived[:, 0] * chosen.utilisation_ratio)
    occupied = (at(memory_bytes(cost, pool.phases)) - empty) / case.gpu.hbm_bytes
    expected = Prediction(
        ttft_s=float(chosen.ttft_s.max()),
        tpot_s=float(chosen.tpot_s.max()),
        e2e_s=float(chosen.e2e_s.max()),
        tokens_per_s=float((share * rate * written).sum()),
        utilisation_ratio=float((share * chosen.utilisation_ratio).sum()),
        kv_cache_bytes=float(at(held["kv"]).max()) * recipe.gpus,
        weights_bytes=weights_bytes,
        power_w=float((share * watts).sum()) * recipe.gpus,
        cold_start_s=weights_bytes / LOAD_BYTES_PER_S + ENGINE_START_S,
        by_class=_by_class([demand.buckets[row] for row in rows], chosen),
        source=source_of(anchor, recipe, case.gpu),
        mean_latency_s=float((share * rate * mean_s).sum() / (share * rate).sum()),
        memory_utilisation_ratio=float((share * occupied).sum()),
        compute_utilisation_ratio=float((share * rate * at(_ideal_s(cost, case, pool.phases)) / recipe.pp).sum()),
        compression_ratio=_compression(recipe, case.model, base, cost),
        **_interval(chosen, columns, anchor),
    )
    loads = {demand.buckets[row]: float(value) for row, value in zip(rows, load, strict=True)}
    return PoolProfile(pool.pool, recipe.gpus, loads, expected.power_w, expected)


def _interval(chosen: Operating, columns: np.ndarray, anchor: Anchor | None) -> dict[str, float]:
    """90 % intervals of the worst TTFT and TPOT; none where no measured model stands behind them."""
    if anchor is None:
        return {}
    out: dict[str, float] = {}
    for name, figure, half in (("ttft", chosen.ttft_s, anchor.ttft_half), ("tpot", chosen.tpot_s, anchor.tpot_half)):
        worst = int(figure.argmax())
        factor = math.exp(float(half[columns[worst]]))
        out |= {f"{name}_lo_s": float(figure[worst]) / factor, f"{name}_hi_s": float(figure[worst]) * factor}
    return out


def _ideal_s(cost: Cost, case: Case, phases: Sequence[str]) -> Array:
    """Seconds per request in which one GPU would do its arithmetic at the datasheet's peak."""
    total: Array = np.zeros((1, 1))
    yielded = cost.phases["decode"].tokens / case.batch
    per_request = {
        "prefill": case.input_tokens / cost.phases["prefill"].tokens,
        "decode": case.output_tokens / case.batch / yielded,
    }
    for name in phases:
        by_engine: dict[str, Array] = {}
        for op in cost.phases[name].ops:
            if np.any(op.flops):
                by_engine[op.engine] = by_engine.get(op.engine, 0.0) + np.asarray(op.flops)
        for engine, flops in by_engine.items():
            total = total + flops / case.gpu.flops(engine) * per_request[name]
    return total


def _compression(recipe: Recipe, model: Model, base: Cost, cost: Cost) -> float:
    """Bytes of weights as published over those held, times the share of accuracy that is kept."""
    sizes = []
    for one in (base, cost):
        held = one.resident(one.pools[0])
        sizes.append(float(np.asarray(held["weights"] + held["embeddings"])))
    known = (recovery(name, model) for name in recipe.techniques)
    kept = math.prod(one.kept_ratio for one in known if one is not None)
    return sizes[0] / sizes[1] * kept


def _by_class(buckets: Sequence[Bucket], point: Operating) -> tuple[ClassLatency, ...]:
    """The worst of each class, in order of first bucket."""
    found = []
    for name in dict.fromkeys(bucket.slo_class for bucket in buckets):
        mine = np.array([bucket.slo_class == name for bucket in buckets])
        worst = (float(figure[mine].max()) for figure in (point.ttft_s, point.tpot_s, point.e2e_s))
        found.append(ClassLatency(name, *worst))
    return tuple(found)
