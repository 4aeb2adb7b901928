"""Counts of replicas by what simulation shows: the cheapest in which kinds that share every size alike hold.

A plan for means gives each kind the sizes that it is best at, and fills it by bounds that are further from the truth
for some kinds than for others. Percentiles ask for other counts: what a replica of each kind carries is learnt from one
simulation to the next, beginning at the bounds of the planner. Those take a request at the upper edge of its range of
sizes, so that simulation may show a replica to carry more; every plan that is handed out was simulated whole.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from math import ceil, inf, sqrt
from operator import mul
from types import MappingProxyType
from typing import NamedTuple

from planner.check import violations
from planner.hardware import Inventory
from planner.options import busy_buckets
from planner.plan import Allocation, Plan, Profile, Status
from planner.service import ServiceSpec
from planner.simulation.bench import MOST_STRAIN, SAME_USD, Bench, Outcomes, confirming, pools_of, simulated, strain
from planner.simulation.routing import movable, worst_of
from planner.simulation.run import kind_of, serves

_TRIES = 12
_CHECKED = 200  # of the cheapest counts, by the planner's own check
_MOST_COUNTS = 20_000  # that are looked through for one try
_STEEP = 2.0  # strain grows about with this power of load
_LEAST, _MOST = 0.8, 1.25  # of what it was thought to carry that a replica is thought to carry after one try
_DUST = 1e-6


class Kind(NamedTuple):
    """Equal replicas that serve every size. `most`: what one carries of the service's load, by the planner's bounds."""

    of: Allocation
    usd_per_hour: float
    most: float
    limit: int


class Sized(NamedTuple):
    """A plan with other counts that holds, and what came of it.

    `beyond`: kind -> how many times what the planner's bounds let it carry it does; empty where the bounds are kept.
    """

    plan: Plan
    outcomes: Outcomes
    beyond: Mapping[str, float] = MappingProxyType({})


def sized(bench: Bench, plan: Plan, bound_usd_per_hour: float) -> Sized | None:
    """A plan that costs less than one that holds, and holds as well; None where none was found.

    The planner's own check finds nothing in it that it does not find in the plan, but that simulation shows what
    replicas carry. No plan within the planner's bounds, for means, costs less than `bound_usd_per_hour`.
    """
    if bench.profiled is None or any(one.commitment for one in bench.inventory.node_groups):
        return None  # commitments are paid for anyway: counts do not tell what a plan costs
    profiles = [profile for one in bench.services for profile in bench.profiled(one)]
    known = {(one.service, one.recipe, pool.pool) for one in profiles for pool in one.pools}
    if any((one.service, one.recipe, one.pool) not in known for one in plan.allocations):
        return None
    found: Sized | None = None
    for service in bench.services:
        found = _sized(bench, service, plan if found is None else found.plan, profiles) or found
    if found is None:
        return None
    beyond = beyond_bounds(bench.services, found.plan.allocations, profiles)
    return found._replace(plan=proved(found.plan, bound_usd_per_hour), beyond=beyond)


def _sized(bench: Bench, service: ServiceSpec, plan: Plan, profiles: Sequence[Profile]) -> Sized | None:
    kinds = kinds_of(service, plan.allocations, bench.inventory, profiles)
    carries, seen, best = [one.most for one in kinds], [0.0] * len(kinds), None
    alone: dict[str, int] = {}  # kind -> so many of it alone were too few
    for turn in range(_TRIES if kinds else 0):
        made = _cheapest(bench, service, plan if best is None else best.plan, profiles, kinds, carries, alone)
        if made is None and turn == 0:  # the bounds leave nothing cheaper, but simulation was not asked yet
            carries = [_MOST * one for one in carries]
            made = _cheapest(bench, service, plan, profiles, kinds, carries, alone)
        if made is None:
            break
        bench.progress(f"sizing {service.name}")
        outcomes = simulated(bench, made.allocations, bench.trials)
        worst, other = strain(outcomes), 0.0
        if worst <= MOST_STRAIN:
            other = confirming(bench, made.allocations)
            best = Sized(made, outcomes) if other <= 1 else best
        harder = max(other, worst) / worst if other > 1 else 1.0
        pools = [harder * one for one in worst_of(pools_of(service, outcomes))]
        mine = harder * strain(outcomes, service)
        used = [one for one in made.allocations if serves(one, service)]
        if len(used) == 1 and mine > 1:
            alone[kind_of(used[0])] = used[0].replicas
        seen = seen_to_carry(service, made.allocations, kinds, seen, pools, mine)
        carries = learnt(service, made.allocations, kinds, carries, pools, mine, seen)
    return best


def _cheapest(
    bench: Bench,
    service: ServiceSpec,
    plan: Plan,
    profiles: Sequence[Profile],
    kinds: Sequence[Kind],
    carries: Sequence[float],
    alone: Mapping[str, int],
) -> Plan | None:
    """The cheapest plan that costs less, should hold, and is as sound."""
    simulated_too = {service.name}
    known = set(violations(plan, bench.services, bench.inventory, profiles, simulated_too))
    usd = sum(one.usd_per_hour for one in plan.allocations if serves(one, service)) - SAME_USD
    names = [kind_of(one.of) for one in kinds]
    for counts in cheapest_counts(kinds, carries, usd)[:_CHECKED]:
        used = [(name, many) for name, many in zip(names, counts, strict=True) if many]
        if len(used) == 1 and used[0][1] <= alone.get(used[0][0], 0):
            continue
        made = resized(service, plan, kinds, carries, counts)
        if known.issuperset(violations(made, bench.services, bench.inventory, profiles, simulated_too)):
            return made
    return None


def kinds_of(
    service: ServiceSpec, allocations: Sequence[Allocation], inventory: Inventory, profiles: Sequence[Profile]
) -> list[Kind]:
    """The kinds of a service; none where load may not move between them, or one cannot serve every size."""
    rates, busy = service.workload.rates_per_s, busy_buckets(service)
    loads = {
        (one.recipe, pool.pool): pool.load for one in profiles if one.service == service.name for pool in one.pools
    }
    groups = {one.name: one for one in inventory.node_groups}
    found = []
    for one in allocations if movable(service, allocations) else ():
        if not serves(one, service):
            continue
        load, group = loads[one.recipe, one.pool], groups[one.node_group]
        if one.usd_per_hour <= 0 or not busy or not all(bucket in load for bucket in busy):
            return []
        most = 1 / sum(rates[bucket] * load[bucket] for bucket in busy)
        limit = group.gpus_per_node // one.gpus_per_replica * group.nodes
        found.append(Kind(one, one.usd_per_hour / one.replicas, most, limit))
    return sorted(found, key=lambda kind: -kind.usd_per_hour)


def cheapest_counts(kinds: Sequence[Kind], carries: Sequence[float], usd_per_hour: float) -> list[tuple[int, ...]]:
    """Counts that carry the whole load for no more money, the cheapest first. `carries`: what one of each kind does."""
    looks = count()
    found = list(_counts(kinds, carries, 1.0, usd_per_hour, lambda: next(looks) < _MOST_COUNTS))
    prices = [one.usd_per_hour for one in kinds]
    return sorted(found, key=lambda counts: (sum(map(mul, counts, prices)), -sum(map(mul, counts, carries))))


def _counts(
    kinds: Sequence[Kind], carries: Sequence[float], left: float, usd: float, go_on: Callable[[], bool]
) -> Iterator[tuple[int, ...]]:
    """`left`: of the load; `usd`: that may be spent on these kinds; `go_on`: asked once a look."""
    if not go_on() or _least_usd(kinds, carries, left) > usd + SAME_USD:
        return
    first, needed = kinds[0], max(ceil(left / carries[0] - _DUST), 0)
    afford = min(first.limit, int(usd / first.usd_per_hour + _DUST))
    if len(kinds) == 1:
        if needed <= afford:
            yield (needed,)
        return
    for many in range(min(needed, afford) + 1):
        spent = usd - many * first.usd_per_hour
        for others in _counts(kinds[1:], carries[1:], max(left - many * carries[0], 0.0), spent, go_on):
            yield (many, *others)


def _least_usd(kinds: Sequence[Kind], carries: Sequence[float], left: float) -> float:
    """What so much of the load costs at least, by parts of replicas; infinity where there are not enough."""
    usd = 0.0
    for kind, carried in sorted(zip(kinds, carries, strict=True), key=lambda row: row[0].usd_per_hour / row[1]):
        part = min(left / carried, kind.limit)
        usd, left = usd + part * kind.usd_per_hour, left - part * carried
    return usd if left <= _DUST else inf


def resized(
    service: ServiceSpec, plan: Plan, kinds: Sequence[Kind], carries: Sequence[float], counts: Sequence[int]
) -> Plan:
    """A plan with so many of each kind, all of which share every size as they carry the load."""
    whole = sum(map(mul, counts, carries))
    made = []
    for kind, carried, many in zip(kinds, carries, counts, strict=True):
        share = many * carried / whole
        if many:
            made.append(
                replace(
                    kind.of,
                    replicas=many,
                    usd_per_hour=many * kind.usd_per_hour,
                    power_w=many * kind.of.power_w / kind.of.replicas,
                    shares=dict.fromkeys(busy_buckets(service), share),
                    busy_ratio=min(share / (many * kind.most), 1.0),
                )
            )
    allocations = (*(one for one in plan.allocations if not serves(one, service)), *made)
    return replace(
        plan,
        allocations=allocations,
        usd_per_hour=sum(one.usd_per_hour for one in allocations),
        power_w=sum(one.power_w for one in allocations),
    )


def learnt(
    service: ServiceSpec,
    allocations: Sequence[Allocation],
    kinds: Sequence[Kind],
    carries: Sequence[float],
    strains: Sequence[float],
    worst: float,
    seen: Sequence[float],
) -> list[float]:
    """What replicas carry, after a try. `strains`: of the service's allocations; `worst`: of all its requests.

    Where replicas were seen to carry less, no more than half of what is between is given up: near what they can carry
    strain grows without bound, and says little of how far beyond it they are.
    """
    found = []
    for carried, held, one in zip(carries, seen, _tried(service, allocations, kinds, strains, worst), strict=True):
        if one is None:
            found.append(carried)
            continue
        had, hard = one
        now = min(max(had * (MOST_STRAIN / hard) ** (1 / _STEEP), _LEAST * carried), _MOST * carried)
        found.append(max(now, sqrt(held * had)) if held and hard > MOST_STRAIN else now)
    return found


def seen_to_carry(
    service: ServiceSpec,
    allocations: Sequence[Allocation],
    kinds: Sequence[Kind],
    seen: Sequence[float],
    strains: Sequence[float],
    worst: float,
) -> list[float]:
    """The most that one of each kind carried in time, after a try; 0 where that is not known, or no longer holds."""
    found = []
    for held, one in zip(seen, _tried(service, allocations, kinds, strains, worst), strict=True):
        had, hard = one or (0.0, 0.0)
        found.append(max(held, had) if hard <= MOST_STRAIN else held if held < had - _DUST else 0.0)
    return found


def _tried(
    service: ServiceSpec,
    allocations: Sequence[Allocation],
    kinds: Sequence[Kind],
    strains: Sequence[float],
    worst: float,
) -> list[tuple[float, float] | None]:
    """What one of each kind was given of the load, and how hard it was; None where there was none.

    A kind may be under more strain than all requests together are: what is asked for is asked of all.
    """
    mine = [one for one in allocations if serves(one, service)]
    hard = [worst if worst == inf else max(min(by, worst), _DUST) for by in strains]
    tried = {
        (one.recipe, one.node_group): (max(one.shares.values()) / one.replicas, by)
        for one, by in zip(mine, hard, strict=True)
    }
    return [tried.get((kind.of.recipe, kind.of.node_group)) for kind in kinds]


def beyond_bounds(
    services: Sequence[ServiceSpec], allocations: Sequence[Allocation], profiles: Sequence[Profile]
) -> dict[str, float]:
    """Kinds that carry more than the planner's bounds let them -> how many times as much."""
    load = {(one.service, one.recipe, pool.pool): pool.load for one in profiles for pool in one.pools}
    found = {}
    for service in services:
        rates = service.workload.rates_per_s
        for one in allocations:
            if serves(one, service):
                of = load[one.service, one.recipe, one.pool]
                ratio = sum(rates[bucket] * of[bucket] * share for bucket, share in one.shares.items()) / one.replicas
                if ratio > 1 + _DUST:
                    found[kind_of(one)] = ratio
    return found


def proved(plan: Plan, bound_usd_per_hour: float) -> Plan:
    """The plan as far from the bound as it is; a plan that costs less shows that it bounds nothing here."""
    usd_per_hour = plan.usd_per_hour or 0.0
    bound = min(bound_usd_per_hour, usd_per_hour) if usd_per_hour >= bound_usd_per_hour - SAME_USD else 0.0
    gap_ratio = (usd_per_hour - bound) / usd_per_hour if usd_per_hour else 0.0
    status: Status = "feasible" if gap_ratio > _DUST else "optimal"
    return replace(plan, status=status, bound_usd_per_hour=bound, gap_ratio=gap_ratio)
