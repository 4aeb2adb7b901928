"""A plan checked by its own arithmetic, apart from the solver: what it says must hold, or nobody gets to see it."""

import math
from collections.abc import Collection, Mapping, Sequence

from planner.hardware import Inventory, NodeGroup
from planner.options import anywhere, site_of, zones_wanted
from planner.plan import Allocation, Plan, PoolProfile, Profile, Recipe
from planner.power import idle_w
from planner.seating import Kind, seats
from planner.service import ServiceSpec

_TOLERANCE = 1e-6

Pools = Mapping[tuple[str, Recipe, str], tuple[Profile, PoolProfile]]


def violations(
    plan: Plan,
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    profiles: Sequence[Profile],
    simulated: Collection[str] = (),
) -> list[str]:
    """Everything that the plan promises and does not keep; empty for a sound plan.

    `simulated`: names of services whose counts are put to a simulation of the whole plan instead, which tells better
    what replicas carry than the bounds of `profiles` do. No service that is to survive losses belongs there.
    """
    pools = {(p.service, p.recipe, pool.pool): (p, pool) for p in profiles for pool in p.pools}
    groups = {group.name: group for group in inventory.node_groups}
    out: list[str] = []
    for service in services:
        mine = [a for a in plan.allocations if a.service == service.name]
        out += _carried(service, mine)
        out += _served(service, mine, pools)
        out += [] if service.name in simulated else _capacity(service, mine, pools, groups)
        out += _demands(service, mine, pools, profiles)
        out += _shares(service, mine, groups)
    out += [
        f"{name}: the loss of a node takes more than is spare" for name in crowded(plan, services, inventory, profiles)
    ]
    return out + _supply(plan, inventory) + _quotas(plan, services, inventory)


def crowded(
    plan: Plan, services: Sequence[ServiceSpec], inventory: Inventory, profiles: Sequence[Profile]
) -> list[str]:
    """Names of node groups in which no placement lets every service survive the loss of a node that should."""
    pools = {(p.service, p.recipe, pool.pool): (p, pool) for p in profiles for pool in p.pools}
    groups = {group.name: group for group in inventory.node_groups}
    by_name = {s.name: s for s in services if s.constraints.survive_nodes}
    out = []
    for name in dict.fromkeys(a.node_group for a in plan.allocations if a.service in by_name):
        here = [a for a in plan.allocations if a.node_group == name]
        spare = {id(a): _spare(by_name[a.service], a, plan, pools, groups) for a in here if a.service in by_name}
        kinds = [Kind(a.gpus_per_replica, a.replicas, spare.get(id(a))) for a in here]
        if not seats(kinds, groups[name].gpus_per_node, groups[name].nodes):
            out.append(name)
    return out


def _spare(
    service: ServiceSpec, of: Allocation, plan: Plan, pools: Pools, groups: Mapping[str, NodeGroup]
) -> int | None:
    """Replicas that the pool of an allocation can lose; None if it carries nothing and may lose all."""
    site = site_of(service, groups[of.node_group])
    here = [
        a
        for a in plan.allocations
        if (a.service, a.recipe, a.pool) == (of.service, of.recipe, of.pool)
        and site_of(service, groups[a.node_group]) == site
    ]
    need = _need(service, here, pools)
    if need <= 0:
        return None
    return math.floor(sum(a.replicas for a in here) - need + _TOLERANCE * max(1.0, need))


def _need(service: ServiceSpec, here: Sequence[Allocation], pools: Pools) -> float:
    """Replicas that the shares of one pool keep busy."""
    rates = service.workload.rates_per_s
    return sum(
        rates[b] * pools[service.name, a.recipe, a.pool][1].load[b] * share
        for a in here
        for b, share in a.shares.items()
    )


def _carried(service: ServiceSpec, mine: Sequence[Allocation]) -> list[str]:
    """Pools of one recipe carry the same requests one after the other; recipes share them."""
    pools = {a.recipe: {b.pool for b in mine if b.recipe == a.recipe} for a in mine}
    out = []
    for bucket, rate in service.workload.rates_per_s.items():
        carried = sum(a.shares.get(bucket, 0.0) / len(pools[a.recipe]) for a in mine)
        if rate > 0 and abs(carried - 1.0) > _TOLERANCE:
            out.append(f"{service.name}: {carried:.6f} of {bucket} is carried, not 1")
    return out


def _served(service: ServiceSpec, mine: Sequence[Allocation], pools: Pools) -> list[str]:
    """No pool is given sizes of requests that it cannot serve."""
    given = {(a.recipe, a.pool, b): None for a in mine for b, share in a.shares.items() if share > 0}
    unserved = [row for row in given if row[2] not in pools[service.name, row[0], row[1]][1].load]
    return [f"{service.name}: {recipe} is given {bucket}, which it cannot serve" for recipe, _, bucket in unserved]


def _capacity(
    service: ServiceSpec, mine: Sequence[Allocation], pools: Pools, groups: Mapping[str, NodeGroup]
) -> list[str]:
    """Busy replicas of each pool in each site are there, also when replicas are lost."""
    out = []
    for recipe, pool, site in {(a.recipe, a.pool, site_of(service, groups[a.node_group])): None for a in mine}:
        here = [a for a in mine if (a.recipe, a.pool, site_of(service, groups[a.node_group])) == (recipe, pool, site)]
        load = pools[service.name, recipe, pool][1].load
        if any(share > 0 and b not in load for a in here for b, share in a.shares.items()):
            continue  # said already
        need = _need(service, here, pools)
        have = sum(a.replicas for a in here) - (service.constraints.survive_replicas if need > 0 else 0)
        if need > have * (1 + _TOLERANCE) + _TOLERANCE:
            out.append(f"{service.name}: {recipe} needs {need:.6f} replicas and has {have} after the loss to survive")
    return out


def _demands(service: ServiceSpec, mine: Sequence[Allocation], pools: Pools, profiles: Sequence[Profile]) -> list[str]:
    demands, replicas = service.constraints, sum(a.replicas for a in mine)
    whole = anywhere(service, profiles)
    full = [a for a in mine if id(pools[service.name, a.recipe, a.pool][0]) in whole]
    zones = len({a.zone for a in full})
    ready = sum(a.replicas for a in full)
    out = []
    if demands.usd_per_hour is not None and sum(a.usd_per_hour for a in mine) > demands.usd_per_hour + _TOLERANCE:
        out.append(f"{service.name}: over its budget of ${demands.usd_per_hour}/h")
    if demands.max_replicas is not None and replicas > demands.max_replicas:
        out.append(f"{service.name}: {replicas} replicas, at most {demands.max_replicas} allowed")
    if ready < demands.min_replicas:
        out.append(f"{service.name}: {ready} whole replicas, at least {demands.min_replicas} asked for")
    if zones_wanted(service) > 1 and zones < zones_wanted(service):
        out.append(f"{service.name}: whole replicas in {zones} zones, at least {zones_wanted(service)} asked for")
    return out


def _shares(service: ServiceSpec, mine: Sequence[Allocation], groups: Mapping[str, NodeGroup]) -> list[str]:
    """Requests carried on spot nodes and in one zone."""
    demands, rates, total = service.constraints, service.workload.rates_per_s, service.workload.rate_per_s
    pools = {a.recipe: {b.pool for b in mine if b.recipe == a.recipe} for a in mine}
    spot, by_zone = 0.0, dict.fromkeys((a.zone for a in mine), 0.0)
    for a in mine:
        part = sum(rates[b] * share for b, share in a.shares.items()) / len(pools[a.recipe]) / total if total else 0.0
        spot += part * groups[a.node_group].spot
        by_zone[a.zone] += part
    out = []
    if spot > demands.max_spot_share + _TOLERANCE:
        out.append(f"{service.name}: {spot:.1%} of its requests are on spot nodes")
    for zone, part in by_zone.items():
        if part > demands.max_zone_share + _TOLERANCE:
            out.append(f"{service.name}: {part:.1%} of its requests are in zone {zone}")
    return out


def _supply(plan: Plan, inventory: Inventory) -> list[str]:
    """GPUs and nodes of each group, watts of each power domain."""
    out = []
    for group in inventory.node_groups:
        free = {group.gpus_per_node: group.nodes}  # GPUs left in a node -> nodes
        here = [a for a in plan.allocations if a.node_group == group.name]
        for a in sorted(here, key=lambda a: -a.gpus_per_replica):
            left = _seat(free, a.gpus_per_replica, a.replicas)
            if left:
                out.append(f"{group.name}: no node has room for {left} of {a.replicas} replicas of {a.recipe}")
    groups = {group.name: group for group in inventory.node_groups}
    for domain in inventory.power_domains:
        here = [a for a in plan.allocations if groups[a.node_group].power_domain == domain.name]
        drawn = sum(a.power_w for a in here)
        rest = sum(g.gpus * idle_w(g.gpu) for g in inventory.node_groups if g.power_domain == domain.name)
        rest -= sum(a.replicas * a.gpus_per_replica * idle_w(groups[a.node_group].gpu) for a in here)
        if here and drawn + rest > domain.budget_w * (1 + _TOLERANCE):
            words = f"{drawn:.0f} W planned and {rest:.0f} W of the other GPUs at rest"
            out.append(f"{domain.name}: {words}, {domain.budget_w:.0f} W allowed")
    return out


def _quotas(plan: Plan, services: Sequence[ServiceSpec], inventory: Inventory) -> list[str]:
    """GPUs that the services of a namespace have between them, beside what is held already."""
    out = []
    spaces = {service.name: service.namespace for service in services}
    for quota in inventory.quotas:
        gpus = sum(
            a.replicas * a.gpus_per_replica
            for a in plan.allocations
            if spaces[a.service] == quota.namespace and (quota.services is None or a.service in quota.services)
        )
        if gpus and quota.held_gpus + gpus > quota.gpus:
            beside = f" beside {quota.held_gpus} that are held" if quota.held_gpus else ""
            out.append(f"{quota.namespace}: {gpus} GPUs{beside}, quota {quota.name} allows {quota.gpus}")
    return out


def _seat(free: dict[int, int], size: int, replicas: int) -> int:
    """Put replicas of `size` GPUs into nodes, fullest first; returns how many find no node."""
    while replicas and (rooms := [room for room, nodes in free.items() if room >= size and nodes]):
        room = min(rooms)
        each = min(room // size, replicas)
        nodes = min(free[room], replicas // each)
        free[room] -= nodes
        free[room - each * size] = free.get(room - each * size, 0) + nodes
        replicas -= nodes * each
    return replicas
