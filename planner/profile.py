"""Recipe -> Profile: what one replica carries of each request size within the SLO, or why it is refused.

`load[bucket]` is replicas per request/s: the inverse of the highest rate at which the bucket alone keeps its latency
at the SLO's percentile (`planner.batching`), at the mean sizes of what falls into the bucket. A mix of buckets is
carried in proportion. A prompt's own time is that of the bucket's upper edge. Watts are those of the service's own
mix: a replica that a plan gives other sizes draws more or less.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from planner.base import dialect
from planner.batching import (
    LOADS,
    Array,
    Mask,
    Objective,
    Operating,
    Sizes,
    Steady,
    objective,
    operate,
    steady,
    unloaded,
    wait_s,
)
from planner.calibration import ENGINE_START_S, ENGINES, HBM_RATIO, KERNELS, LOAD_BYTES_PER_S
from planner.cost import Case, Cost, Degrees
from planner.dominance import undominated
from planner.errors import MissingFigure
from planner.hardware import GPUType, Inventory
from planner.plan import ClassLatency, PoolProfile, Prediction, Profile, Recipe, Refusal
from planner.power import power_w
from planner.recipes import gpu_of, recipes
from planner.refusals import distinct, too_large, too_slow, too_slow_together
from planner.roofline import memory_bytes
from planner.service import SLO, Bucket, ServiceSpec
from planner.technique import cost_of, parallelisms, sharded
from planner.techniques import techniques

# Sequences in flight that are tried, per pipeline lane; engines are seldom told to hold more (vLLM's default: 256).
_UP_TO_16 = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
_ABOVE = [step * 2**power for power in range(2, 7) for step in (5, 6, 7, 8)]
BATCHES = np.array([*_UP_TO_16, *_ABOVE], dtype=float)[None, :]
# An engine that does not split prompts takes waiting ones together up to about this many tokens.
WHOLE_PROMPT_TOKENS = 8192.0
UNLIMITED = SLO("batch")


# Costs without techniques of one service on one grid, by degrees and dialect: few GPU types differ in them.
Known = dict[tuple[Degrees, str, str, str], Cost]
# Rows of such costs that are kept at most, so that a service with very many buckets is profiled in bounded memory.
MOST_KNOWN_ROWS = 100_000


class Demand(NamedTuple):
    """A service's buckets as arrays, one row a bucket."""

    buckets: tuple[Bucket, ...]
    sizes: Sizes
    rates_per_s: Array
    limits: Objective
    loads: Array


def profiles(
    service: ServiceSpec, inventory: Inventory, running: Collection[str] = ()
) -> tuple[list[Profile], list[Refusal]]:
    """Every recipe that serves at least one bucket and that no other recipe of its GPU type dominates.

    `running`: recipes as shown, of which a dominated one remains, so that the price of replacing it is seen.
    """
    tried, refused = recipes(service, inventory)
    if not service.workload.rates_per_s:
        return [], refused
    demand = demand_of(service)
    kept: list[Profile] = []
    dominated: list[Refusal] = []
    known: Known = {}
    watts = bool(inventory.power_domains) or inventory.usd_per_joule > 0
    for _, of_one_type in groupby(tried, lambda recipe: recipe.gpu):
        made: list[Profile] = []
        for recipe in of_one_type:
            answer = profile(service, recipe, gpu_of(recipe, inventory), demand, known)
            if isinstance(answer, Profile):
                made.append(answer)
            else:
                refused.append(answer)
        best, beaten = undominated(made, service.constraints.max_replicas is None, watts, running)
        kept += best
        dominated += beaten
    return kept, distinct(refused + dominated)


def demand_of(service: ServiceSpec) -> Demand:
    """The buckets of a service that has any, with the SLO of each; a batch deployment has none."""
    work = service.workload
    buckets = tuple(work.rates_per_s)
    edges = [(float(b.input_tokens), float(b.output_tokens)) for b in buckets]
    means = [work.mean_tokens.get(b, edge) for b, edge in zip(buckets, edges, strict=True)]
    batch = service.deployment == "batch"
    tokens, largest = np.maximum(np.array(means), 1.0), np.maximum(np.array(edges), 1.0)
    sizes = Sizes(tokens[:, :1], tokens[:, 1:], np.maximum(largest[:, :1], tokens[:, :1]))
    slos = [UNLIMITED if batch else service.slo(b.slo_class) for b in buckets]
    rates = np.array([work.rates_per_s[b] for b in buckets])
    return Demand(buckets, sizes, rates, objective(slos), np.ones(1) if batch else LOADS)


def profile(service: ServiceSpec, recipe: Recipe, gpu: GPUType, demand: Demand, known: Known) -> Profile | Refusal:
    """One recipe on its (capped) GPU, judged against a service's buckets; `known` is added to."""
    chosen = [techniques()[name]() for name in recipe.techniques]
    case = _case(service, recipe, gpu, demand.sizes)
    every = [*parallelisms(case), *chosen]
    answer: Profile | str | None = next((why for technique in every if (why := technique.objection(case))), None)
    try:
        answer = answer or _profile(service, recipe, case, cost_of(case, chosen, _base(case, known)), demand)
    except MissingFigure as missing:
        answer = str(missing)
    return Refusal(service.name, str(recipe), answer) if isinstance(answer, str) else answer


def _case(service: ServiceSpec, recipe: Recipe, gpu: GPUType, sizes: Sizes) -> Case:
    """The whole grid of buckets and batches at once. Prompts that arrive within a step are prefilled together."""
    together = np.maximum(WHOLE_PROMPT_TOKENS / sizes.input_tokens, 1.0)
    prompts = np.clip(BATCHES / sizes.output_tokens, 1.0, together)
    degrees = Degrees(recipe.tp, recipe.pp, recipe.ep, recipe.dp, recipe.cp)
    found = service.workload.prefix_hit_ratio
    return Case(service.model, gpu, BATCHES, sizes.input_tokens, sizes.output_tokens, prompts, *degrees, found)


def _base(case: Case, known: Known) -> Cost:
    key = (case.degrees, *dialect(case.model, case.gpu))
    if key not in known:
        if (len(known) + 1) * np.size(case.input_tokens) > MOST_KNOWN_ROWS:
            known.clear()
        known[key] = sharded(case)
    return known[key]


def _profile(service: ServiceSpec, recipe: Recipe, case: Case, cost: Cost, demand: Demand) -> Profile | str:
    pool = cost.pools[0]
    shape = (len(demand.buckets), BATCHES.size)
    used = np.broadcast_to(np.asarray(memory_bytes(cost, pool), dtype=float), shape)
    fits = used <= HBM_RATIO * case.gpu.hbm_bytes
    if not fits.any():
        return _too_large(service, recipe, case.gpu, cost)
    run = steady(cost, case.gpu, ENGINES[service.engine], demand.sizes, BATCHES, recipe.pp)
    point = operate(run, demand.sizes, BATCHES, recipe.pp, fits, demand.limits, demand.loads)
    served = point.batch > 0
    if not served.any():
        return _too_slow(run, fits, demand, recipe.pp)
    pool_profile = _pool_profile(recipe, case, cost, run, point, demand)
    run_as = replace(recipe, max_batch=int(point.batch.max()))
    return Profile(service.name, run_as, (pool_profile,), pool_profile.prediction.source)


def _pool_profile(recipe: Recipe, case: Case, cost: Cost, run: Steady, point: Operating, demand: Demand) -> PoolProfile:
    """What the solver needs of the chosen points, and what is expected at full load of the service's own mix."""
    rows = np.flatnonzero(point.batch)
    columns = np.searchsorted(BATCHES[0] * recipe.pp, point.batch[rows])
    load = 1 / point.requests_per_s[rows]
    busy = demand.rates_per_s[rows] * load
    share = busy / busy.sum() if busy.sum() else np.full(len(rows), 1 / len(rows))  # of the replica's time

    def at(figure: Array) -> Array:
        return np.broadcast_to(figure, (len(demand.buckets), BATCHES.size))[rows, columns]

    rate = point.requests_per_s[rows]
    # Steps follow one another while any request is in flight: HBM is as busy at a low load as at the highest.
    watts = power_w(case.gpu, rate * at(run.compute_s), rate / point.utilisation_ratio[rows] * at(run.hbm_s))
    held = {item: np.asarray(amount, dtype=float) for item, amount in cost.resident(cost.pools[0]).items()}
    weights_bytes = float(held["weights"] + held["embeddings"]) * recipe.gpus
    expected = Prediction(
        ttft_s=float(point.ttft_s[rows].max()),
        tpot_s=float(point.tpot_s[rows].max()),
        e2e_s=float(point.e2e_s[rows].max()),
        tokens_per_s=float((share * rate * demand.sizes.output_tokens[rows, 0]).sum()),
        utilisation_ratio=float((share * point.utilisation_ratio[rows]).sum()),
        kv_cache_bytes=float(at(held["kv"]).max()) * recipe.gpus,
        weights_bytes=weights_bytes,
        power_w=float((share * watts).sum()) * recipe.gpus,
        cold_start_s=weights_bytes / LOAD_BYTES_PER_S + ENGINE_START_S,
        by_class=_by_class([demand.buckets[row] for row in rows], Operating(*(figure[rows] for figure in point))),
        source="modelled" if case.gpu.architecture.lower() in KERNELS else "extrapolated",
    )
    loads = {demand.buckets[row]: float(value) for row, value in zip(rows, load, strict=True)}
    return PoolProfile("serve", recipe.gpus, loads, expected.power_w, expected)


def _by_class(buckets: Sequence[Bucket], point: Operating) -> tuple[ClassLatency, ...]:
    """The worst of each class, in order of first bucket."""
    found = []
    for name in dict.fromkeys(bucket.slo_class for bucket in buckets):
        mine = np.array([bucket.slo_class == name for bucket in buckets])
        worst = (float(figure[mine].max()) for figure in (point.ttft_s, point.tpot_s, point.e2e_s))
        found.append(ClassLatency(name, *worst))
    return tuple(found)


def _too_large(service: ServiceSpec, recipe: Recipe, gpu: GPUType, cost: Cost) -> str:
    """The memory that is missing, in words."""
    held = {item: float(np.min(amount)) * recipe.gpus for item, amount in cost.resident(cost.pools[0]).items()}
    weights = held["weights"] + held["embeddings"]
    room = HBM_RATIO * gpu.hbm_bytes * recipe.gpus
    return too_large(service.model.name, recipe, weights, sum(held.values()) - weights, room)


def _too_slow(run: Steady, fits: Mask, demand: Demand, lanes: int) -> str:
    """The limit that binds even in the best case: one request size, any batch that fits, the lightest load."""
    ttft_s, tpot_s = unloaded(run, demand.sizes, BATCHES, demand.limits)
    ttft_s = ttft_s + wait_s(run, BATCHES, lanes, demand.limits, float(demand.loads[-1]))
    e2e_s = ttft_s + (demand.sizes.output_tokens - 1) * tpot_s
    limits = demand.limits
    figures = ("TTFT", ttft_s, limits.ttft_s), ("TPOT", tpot_s, limits.tpot_s), ("end-to-end time", e2e_s, limits.e2e_s)
    for name, value_s, limit_s in figures:
        over = np.where(fits, value_s / limit_s, np.inf).min(axis=1)
        if (over > 1).all():
            row = int(over.argmin())
            best_s = float(np.where(fits, value_s, np.inf)[row].min())
            return too_slow(name, best_s, float(limit_s[row, 0]), demand.buckets[row])
    return too_slow_together()
