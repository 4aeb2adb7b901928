"""A plan checked by its own arithmetic, apart from the solver: what it says must hold, or nobody gets to see it."""

from collections.abc import Mapping, Sequence

from planner.hardware import Inventory
from planner.plan import Allocation, Plan, Profile
from planner.service import Bucket, ServiceSpec

_TOLERANCE = 1e-6


def violations(
    plan: Plan, services: Sequence[ServiceSpec], inventory: Inventory, profiles: Sequence[Profile]
) -> list[str]:
    """Everything that the plan promises and does not keep; empty for a sound plan."""
    loads = {(p.service, p.recipe, pool.pool): pool.load for p in profiles for pool in p.pools}
    out: list[str] = []
    for service in services:
        mine = [a for a in plan.allocations if a.service == service.name]
        out += _carried(service, mine)
        out += _capacity(service, mine, loads)
        out += _demands(service, mine)
    return out + _supply(plan, inventory)


def _carried(service: ServiceSpec, mine: Sequence[Allocation]) -> list[str]:
    out = []
    for bucket, rate in service.workload.rates_per_s.items():
        if rate <= 0:
            continue
        by_pool: dict[str, float] = {}
        for a in mine:
            by_pool[a.pool] = by_pool.get(a.pool, 0.0) + a.shares.get(bucket, 0.0)
        # Pools of one recipe carry the same requests one after the other; recipes share them.
        whole = sum(by_pool.values())
        pools = {a.recipe: {b.pool for b in mine if b.recipe == a.recipe} for a in mine}
        counted = sum(a.shares.get(bucket, 0.0) / len(pools[a.recipe]) for a in mine)
        if abs(counted - 1.0) > _TOLERANCE:
            out.append(f"{service.name}: {counted:.6f} of {bucket} is carried (sum over pools {whole:.6f}), not 1")
    return out


def _capacity(
    service: ServiceSpec,
    mine: Sequence[Allocation],
    loads: Mapping[tuple[str, object, str], Mapping[Bucket, float]],
) -> list[str]:
    busy: dict[tuple[object, str], float] = {}
    there: dict[tuple[object, str], int] = {}
    out = []
    for a in mine:
        load = loads[service.name, a.recipe, a.pool]
        key = (a.recipe, a.pool)
        unserved = [b for b, share in a.shares.items() if share > 0 and b not in load]
        if unserved:
            out.append(f"{service.name}: {a.recipe} is given {unserved[0]}, which it cannot serve")
            continue
        rates = service.workload.rates_per_s
        busy[key] = busy.get(key, 0.0) + sum(rates[b] * load[b] * share for b, share in a.shares.items())
        there[key] = there.get(key, 0) + a.replicas
    spare = service.constraints.survive_replicas
    for key, need in busy.items():
        have = there[key] - spare
        if need > have * (1 + _TOLERANCE) + _TOLERANCE:
            out.append(f"{service.name}: {key[0]} needs {need:.6f} replicas and has {have} (reserve {spare})")
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


def _supply(plan: Plan, inventory: Inventory) -> list[str]:
    out = []
    for group in inventory.node_groups:
        gpus = sum(a.replicas * a.gpus_per_replica for a in plan.allocations if a.node_group == group.name)
        if gpus > group.gpus:
            out.append(f"{group.name}: {gpus} GPUs planned, {group.gpus} there")
    groups = {group.name: group for group in inventory.node_groups}
    for domain in inventory.power_domains:
        drawn = sum(a.power_w for a in plan.allocations if groups[a.node_group].power_domain == domain.name)
        if drawn > domain.budget_w * (1 + _TOLERANCE):
            out.append(f"{domain.name}: {drawn:.0f} W planned, {domain.budget_w:.0f} W allowed")
    return out
