"""Recipe -> Profile: what one replica carries of each request size within the SLO, or why it is refused.

`load[bucket]` is replicas per request/s: the inverse of the highest rate at which the bucket alone keeps its latency
at the SLO's percentile (`planner.batching`), at the mean sizes of what falls into the bucket. A mix of buckets is
carried in proportion. A prompt's own time is that of the bucket's upper edge. Watts are those of the service's own
mix: a replica that a plan gives other sizes draws more or less.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import NormalDist

import numpy as np

from planner.anchor import Anchor, Key, anchors, key_of
from planner.base import dialect
from planner.batching import (
    COMPUTED,
    LOADS,
    Factors,
    Mask,
    Replica,
    Sizes,
    Steady,
    objective,
    unloaded,
    wait_s,
)
from planner.calibration import ENGINES, HBM_RATIO
from planner.context import context_tokens, room_of
from planner.corrections import Correction
from planner.cost import Case, Cost, Degrees
from planner.dominance import undominated
from planner.errors import MissingFigure
from planner.expected import Demand, pool_profiles
from planner.hardware import GPUType, Inventory
from planner.mixing import mixed
from planner.perf.conformal import COVERAGE
from planner.plan import Profile, Recipe, Refusal, uncapped
from planner.pools import contradiction, operate_pools
from planner.power import idle_w
from planner.recipes import gpu_of, recipes
from planner.refusals import distinct, too_large, too_slow, too_slow_together
from planner.roofline import memory_bytes
from planner.search import TimeUp
from planner.service import SLO, ServiceSpec
from planner.technique import cost_of, parallelisms, sharded
from planner.techniques import techniques

# Sequences in flight that are tried, per pipeline lane; engines are seldom told to hold more (vLLM's default: 256).
_UP_TO_16 = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
_ABOVE = [step * 2**power for power in range(2, 7) for step in (5, 6, 7, 8)]
BATCHES = np.array([*_UP_TO_16, *_ABOVE], dtype=float)[None, :]
# An engine that does not split prompts takes waiting ones together up to about this many tokens.
WHOLE_PROMPT_TOKENS = 8192.0
UNLIMITED = SLO("batch")
EVEN = 0.5  # confidence of a point estimate


# Costs without techniques of one service on one grid, by degrees and dialect: few GPU types differ in them.
Known = dict[tuple[Degrees, str, str, str], Cost]
# Rows of such costs that are kept at most, so that a service with very many buckets is profiled in bounded memory.
MOST_KNOWN_ROWS = 100_000


def profiles(
    service: ServiceSpec,
    inventory: Inventory,
    running: Collection[str] = (),
    confidence: float = EVEN,
    corrections: Sequence[Correction] = (),
    over: Callable[[], bool] = lambda: False,
) -> tuple[list[Profile], list[Refusal]]:
    """Every recipe that serves at least one bucket and that no other recipe of its GPU type dominates.

    `running`: recipes as shown, of which a dominated one remains, so that the price of replacing it is seen.
    `confidence`: how likely each objective is kept, as far as the measured model's intervals tell. `corrections`: of
    that model, learnt from deployments. Raises TimeUp when the time is `over` first: a plan over some
    recipes proves nothing.
    """
    tried, refused = recipes(service, inventory)
    if not service.workload.rates_per_s:
        return [], refused
    demand = demand_of(service)
    kept: list[Profile] = []
    dominated: list[Refusal] = []
    known: Known = {}
    measured = anchored(service, tried, inventory, corrections)
    watts = bool(inventory.power_domains) or inventory.usd_per_joule > 0
    rests = {g.gpu.name: idle_w(g.gpu) for g in inventory.node_groups} if inventory.power_domains else {}
    for name, of_one_type in groupby(tried, lambda recipe: recipe.gpu):
        made: list[Profile] = []
        drawn_w: dict[Recipe, float] = {}
        for recipe in of_one_type:
            if over():
                raise TimeUp
            idle = _idle_cap(service, recipe, drawn_w)
            if idle is not None and str(recipe) not in running:
                refused.append(idle)
                continue
            anchor = measured.get(key_of(recipe))
            answer = profile(service, recipe, gpu_of(recipe, inventory), demand, known, anchor, confidence)
            if isinstance(answer, Profile):
                made.append(answer)
                if recipe.power_cap_w is None:
                    drawn_w[recipe] = answer.pools[0].power_w / recipe.gpus
            else:
                refused.append(answer)
        best, beaten = undominated(made, service.constraints.max_replicas is None, watts, running, rests.get(name, 0.0))
        kept += best
        dominated += beaten
    return kept, distinct(refused + dominated)


def _idle_cap(service: ServiceSpec, recipe: Recipe, drawn_w: Mapping[Recipe, float]) -> Refusal | None:
    """Why a power cap is not worth trying: without it, the recipe serves nothing or draws no more anyway.

    `drawn_w`: watts of a GPU of each recipe without a cap that serves something; those are tried first.
    """
    if recipe.power_cap_w is None:
        return None
    alone_w = drawn_w.get(uncapped(recipe))
    if alone_w is not None and alone_w > recipe.power_cap_w:
        return None
    reason = "cannot serve without the cap" if alone_w is None else f"draws {alone_w:.0f} W a GPU without the cap"
    return Refusal(service.name, str(recipe), reason)


def anchored(
    service: ServiceSpec, tried: Iterable[Recipe], inventory: Inventory, corrections: Sequence[Correction] = ()
) -> Mapping[Key, Anchor]:
    """What measured engines say of the recipes, at the service's mean request."""
    rates = service.workload.rates_per_s
    means = np.array([service.workload.mean_tokens.get(b, (b.input_tokens, b.output_tokens)) for b in rates], float)
    weights = np.array(list(rates.values()))
    weights = weights if weights.sum() else np.ones(len(weights))
    inputs, outputs = np.maximum(weights @ means / weights.sum(), 1.0)
    gpus = {group.gpu.name: group.gpu for group in inventory.node_groups}
    keys = list(dict.fromkeys(key_of(recipe) for recipe in tried))
    size = (float(inputs), float(outputs))
    return anchors(service.model, gpus, service.engine, keys, size, BATCHES[0], corrections)


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


def profile(
    service: ServiceSpec,
    recipe: Recipe,
    gpu: GPUType,
    demand: Demand,
    known: Known,
    anchor: Anchor | None = None,
    confidence: float = EVEN,
) -> Profile | Refusal:
    """One recipe on its (capped) GPU, judged against a service's buckets; `known` is added to."""
    chosen = [techniques()[name]() for name in recipe.techniques]
    case = case_of(service, recipe, gpu, demand.sizes)
    every = [*parallelisms(case), *chosen]
    answer: Profile | str | None = next((why for technique in every if (why := technique.objection(case))), None)
    try:
        if answer is None:
            base = _base(case, known, demand)
            cost = cost_of(case, chosen, base)
            answer = _profile(service, recipe, case, base, cost, demand, anchor, confidence)
    except MissingFigure as missing:
        answer = str(missing)
    return Refusal(service.name, str(recipe), answer) if isinstance(answer, str) else answer


def case_of(service: ServiceSpec, recipe: Recipe, gpu: GPUType, sizes: Sizes) -> Case:
    """The whole grid of buckets and batches at once. Prompts that arrive within a step are prefilled together."""
    together = np.maximum(WHOLE_PROMPT_TOKENS / sizes.input_tokens, 1.0)
    prompts = np.clip(BATCHES / sizes.output_tokens, 1.0, together)
    degrees = Degrees(recipe.tp, recipe.pp, recipe.ep, recipe.dp, recipe.cp)
    found = service.workload.prefix_hit_ratio
    return Case(service.model, gpu, BATCHES, sizes.input_tokens, sizes.output_tokens, prompts, *degrees, found)


def _base(case: Case, known: Known, demand: Demand) -> Cost:
    """The cost without techniques of the service's mix of lengths."""
    key = (case.degrees, *dialect(case.model, case.gpu))
    if key not in known:
        if (len(known) + 1) * np.size(case.input_tokens) > MOST_KNOWN_ROWS:
            known.clear()
        inputs, outputs = demand.sizes.input_tokens[:, 0], demand.sizes.output_tokens[:, 0]
        rates = demand.rates_per_s if demand.rates_per_s.any() else np.ones(len(outputs))
        in_flight = rates * outputs  # by Little's law, up to a factor
        known[key] = mixed(sharded(case), case.model, inputs + outputs / 2, in_flight, BATCHES[0])
    return known[key]


def _profile(
    service: ServiceSpec,
    recipe: Recipe,
    case: Case,
    base: Cost,
    cost: Cost,
    demand: Demand,
    anchor: Anchor | None,
    confidence: float,
) -> Profile | str:
    if words := contradiction(cost):
        return words
    shape = (len(demand.buckets), BATCHES.size)
    used = [np.broadcast_to(np.asarray(memory_bytes(cost, pool), dtype=float), shape) for pool in cost.pools]
    room = room_of(case, cost, used)
    edges = np.array([[bucket.input_tokens + bucket.output_tokens] for bucket in demand.buckets], dtype=float)
    # Not only requests of mean size: the largest must fit too, alone.
    fits = [a <= HBM_RATIO * case.gpu.hbm_bytes for a in used]
    fits = [a & b for a, b in zip(fits, room.holds(edges), strict=True)]
    if not all(each.any() for each in fits):
        return _too_large(service, recipe, case.gpu, cost)
    factors = COMPUTED if anchor is None else Factors(anchor.decode[None, :], anchor.prefill, anchor.first_s)
    margin = _margin(anchor, confidence)
    limits = demand.limits._replace(**{name: getattr(demand.limits, name) / most for name, most in margin.items()})
    replica = Replica(case.gpu, ENGINES[service.engine], demand.sizes, BATCHES, recipe.pp, factors)
    run, pools = operate_pools(cost, replica, fits, limits, demand.loads)
    point = pools[-1].point
    if not (point.batch > 0).any():
        return _too_slow(run, fits[-1], demand, recipe.pp, margin)
    made = pool_profiles(recipe, case, base, cost, pools, demand, anchor)
    run_as = replace(recipe, max_batch=int(point.batch.max()))
    column = int(np.searchsorted(BATCHES[0] * recipe.pp, run_as.max_batch))
    context = context_tokens(room, edges, np.flatnonzero(point.batch).tolist(), column)
    return Profile(service.name, run_as, made, made[0].prediction.source, context)


def _margin(anchor: Anchor | None, confidence: float) -> dict[str, float]:
    """How much below each objective to plan, so that the error of the measured model stays within it.

    The error is taken as normal in log space, and as wide as at the batch where the model knows least.
    """
    if anchor is None or confidence == EVEN:
        return {"ttft_s": 1.0, "tpot_s": 1.0, "e2e_s": 1.0}
    deviates = NormalDist().inv_cdf(confidence) / NormalDist().inv_cdf((1 + COVERAGE) / 2)
    ttft, tpot = (math.exp(deviates * float(half.max())) for half in (anchor.ttft_half, anchor.tpot_half))
    return {"ttft_s": ttft, "tpot_s": tpot, "e2e_s": max(ttft, tpot)}


def _too_large(service: ServiceSpec, recipe: Recipe, gpu: GPUType, cost: Cost) -> str:
    """The memory that is missing, in words."""
    held = {item: float(np.min(amount)) * recipe.gpus for item, amount in cost.resident(cost.pools[0]).items()}
    weights = held["weights"] + held["embeddings"]
    room = HBM_RATIO * gpu.hbm_bytes * recipe.gpus
    return too_large(service.model.name, recipe, weights, sum(held.values()) - weights, room)


def _too_slow(run: Steady, fits: Mask, demand: Demand, lanes: int, margin: Mapping[str, float]) -> str:
    """The limit that binds even in the best case: one request size, any batch that fits, the lightest load."""
    ttft_s, tpot_s = unloaded(run, demand.sizes, BATCHES, demand.limits)
    ttft_s = ttft_s + wait_s(run, BATCHES, lanes, demand.limits, float(demand.loads[-1]))
    e2e_s = ttft_s + (demand.sizes.output_tokens - 1) * tpot_s
    figures = ("TTFT", "ttft_s", ttft_s), ("TPOT", "tpot_s", tpot_s), ("end-to-end time", "e2e_s", e2e_s)
    for name, key, value_s in figures:
        sure_s, limit_s = value_s * margin[key], getattr(demand.limits, key)
        over = np.where(fits, sure_s / limit_s, np.inf).min(axis=1)
        if (over > 1).all():
            row = int(over.argmin())
            best_s = float(np.where(fits, sure_s, np.inf)[row].min())
            return too_slow(name, best_s, float(limit_s[row, 0]), demand.buckets[row])
    return too_slow_together()
