"""A plan checked by its own arithmetic, apart from the solver: what it says must hold, or nobody gets to see it."""

from collections.abc import Mapping, Sequence

from planner.demands import capacity_weight
from planner.hardware import Inventory
from planner.options import Option
from planner.plan import Allocation, Plan, PoolProfile, Profile, Recipe
from planner.service import ServiceSpec

_TOLERANCE = 1e-6

Pools = Mapping[tuple[str, Recipe, str], tuple[Profile, PoolProfile]]


def violations(
    plan: Plan, services: Sequence[ServiceSpec], inventory: Inventory, profiles: Sequence[Profile]
) -> list[str]:
    """Everything that the plan promises and does not keep; empty for a sound plan."""
    pools = {(p.service, p.recipe, pool.pool): (p, pool) for p in profiles for pool in p.pools}
    out: list[str] = []
    for service in services:
        mine = [a for a in plan.allocations if a.service == service.name]
        out += _carried(service, mine)
        out += _capacity(service, mine, pools, inventory)
        out += _demands(service, mine)
        out += _shares(service, mine, pools, inventory)
    return out + _supply(plan, inventory)


def _carried(service: ServiceSpec, mine: Sequence[Allocation]) -> list[str]:
    """Pools of one recipe carry the same requests one after the other; recipes share them."""
    pools = {a.recipe: {b.pool for b in mine if b.recipe == a.recipe} for a in mine}
    out = []
    for bucket, rate in service.workload.rates_per_s.items():
        carried = sum(a.shares.get(bucket, 0.0) / len(pools[a.recipe]) for a in mine)
        if rate > 0 and abs(carried - 1.0) > _TOLERANCE:
            out.append(f"{service.name}: {carried:.6f} of {bucket} is carried, not 1")
    return out


def _capacity(service: ServiceSpec, mine: Sequence[Allocation], pools: Pools, inventory: Inventory) -> list[str]:
    """Busy replicas of each pool are there, also when replicas or a node are lost."""
    nodes = {group.name: group.nodes for group in inventory.node_groups}
    rates, demands, out = service.workload.rates_per_s, service.constraints, []
    for recipe, pool in {(a.recipe, a.pool): None for a in mine}:
        here = [a for a in mine if (a.recipe, a.pool) == (recipe, pool)]
        load = pools[service.name, recipe, pool][1].load
        given = [(b, share) for a in here for b, share in a.shares.items() if share > 0]
        unserved = [b for b, _ in given if b not in load]
        if unserved:
            out.append(f"{service.name}: {recipe} is given {unserved[0]}, which it cannot serve")
            continue
        need = sum(rates[b] * load[b] * share for b, share in given)
        a_node = max(-(-a.replicas // nodes[a.node_group]) for a in here) if demands.survive_nodes else 0
        have = sum(a.replicas for a in here) - (max(demands.survive_replicas, a_node) if given else 0)
        if need > have * (1 + _TOLERANCE) + _TOLERANCE:
            out.append(f"{service.name}: {recipe} needs {need:.6f} replicas and has {have} after the loss to survive")
    return out


def _demands(service: ServiceSpec, mine: Sequence[Allocation]) -> list[str]:
    demands, replicas = service.constraints, sum(a.replicas for a in mine)
    out = []
    if demands.usd_per_hour is not None and sum(a.usd_per_hour for a in mine) > demands.usd_per_hour + _TOLERANCE:
        out.append(f"{service.name}: over its budget of ${demands.usd_per_hour}/h")
    if demands.max_replicas is not None and replicas > demands.max_replicas:
        out.append(f"{service.name}: {replicas} replicas, at most {demands.max_replicas} allowed")
    if replicas < demands.min_replicas:
        out.append(f"{service.name}: {replicas} replicas, at least {demands.min_replicas} asked for")
    if mine and len({a.zone for a in mine}) < demands.min_zones:
        out.append(f"{service.name}: in {len({a.zone for a in mine})} zones, at least {demands.min_zones} asked for")
    return out


def _shares(service: ServiceSpec, mine: Sequence[Allocation], pools: Pools, inventory: Inventory) -> list[str]:
    """Capacity on spot nodes and in one zone."""
    demands, groups = service.constraints, {group.name: group for group in inventory.node_groups}
    if demands.max_spot_share >= 1 and demands.max_zone_share >= 1:
        return []
    spot, by_zone, whole = 0.0, dict.fromkeys((a.zone for a in mine), 0.0), 0.0
    for a in mine:
        group = groups[a.node_group]
        option = Option(service.name, *pools[service.name, a.recipe, a.pool], group)
        weight = capacity_weight(option, service) * a.replicas
        spot, whole = spot + weight * group.spot, whole + weight
        by_zone[a.zone] += weight
    out = []
    if spot > demands.max_spot_share * whole * (1 + _TOLERANCE) + _TOLERANCE:
        out.append(f"{service.name}: {spot / whole:.1%} of its capacity is on spot nodes")
    for zone, weight in by_zone.items():
        if weight > demands.max_zone_share * whole * (1 + _TOLERANCE) + _TOLERANCE:
            out.append(f"{service.name}: {weight / whole:.1%} of its capacity is in zone {zone}")
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
        drawn = sum(a.power_w for a in plan.allocations if groups[a.node_group].power_domain == domain.name)
        if drawn > domain.budget_w * (1 + _TOLERANCE):
            out.append(f"{domain.name}: {drawn:.0f} W planned, {domain.budget_w:.0f} W allowed")
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
