"""Tiny fleet problems, drawn by a seed: small enough to try every plan, with every kind of constraint now and then."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.hardware import Commitment, Inventory, NodeGroup, PowerDomain, Quota
from planner.options import Objective
from planner.plan import Change, PoolProfile, Profile, Recipe
from planner.service import Bucket, ServiceSpec
from tests.planner.factories import LARGE, SMALL, group, inventory, prediction, profile, service

Key = tuple[str, str, str, str]  # service, recipe, pool, node group

_KINDS = ("G1", "G2")
_LOADS = (0.1, 0.23, 0.37, 0.5, 1.01)  # replicas per request/s
_MOST_GPUS = 8  # of a group


@dataclass(frozen=True, slots=True)
class Problem:
    """What `decide` is asked. `current`: replicas that run now."""

    services: tuple[ServiceSpec, ...]
    profiles: tuple[Profile, ...]
    inventory: Inventory
    objective: Objective = field(default_factory=Objective)
    current: Mapping[Key, int] = field(default_factory=dict)


def problem(
    services: Sequence[ServiceSpec], profiles: Sequence[Profile], *groups: NodeGroup, objective: Objective | None = None
) -> Problem:
    """A problem made by hand, without power domains and with nothing running."""
    return Problem(tuple(services), tuple(profiles), inventory(*groups), objective or Objective())


def drawn(seed: int) -> Problem:
    """1-2 services, 1-2 busy sizes, 1-3 groups of 1-3 nodes, at most 2 recipes a service and GPU type."""
    draw = random.Random(seed)
    count = draw.choice((1, 1, 2))
    groups = [_group(draw, f"g{i}") for i in range(draw.choice((1, 2, 2, 3) if count == 1 else (1, 2, 2)))]
    budget_w = draw.choice((400.0, 700.0, 1000.0, 1500.0))
    if draw.random() < 0.4:
        groups = [replace(g, power_domain="rack") if draw.random() < 0.7 else g for g in groups]
    rest_w = random.Random(f"rest {seed}").choice((0.0, 10.0, 20.0))
    groups = [replace(g, gpu=replace(g.gpu, idle_w=rest_w)) for g in groups]
    domains = (PowerDomain("rack", budget_w),) if any(g.power_domain for g in groups) else ()
    services, profiles = [], []
    for number in range(count):
        asked, offers = _service(draw, f"s{number}", groups)
        services.append(asked)
        profiles += offers
    objective, current = _change(draw, profiles, groups)
    return Problem(tuple(services), tuple(profiles), inventory(*groups, domains=domains), objective, current)


def rationed(seed: int) -> Problem:
    """A problem of one or two tenants, who may have a few GPUs each."""
    draw = random.Random(-1 - seed)
    asked = drawn(seed)
    services = tuple(replace(s, namespace=draw.choice(("a", "a", "b"))) for s in asked.services)
    quotas = [Quota("all", space, draw.choice((1, 2, 3, 4, 6)), draw.choice((0, 0, 1, 2))) for space in ("a", "b")]
    if draw.random() < 0.3:
        quotas.append(Quota("some", "a", draw.choice((1, 2, 3)), services=("s1",)))
    return replace(asked, services=services, inventory=replace(asked.inventory, quotas=tuple(quotas)))


def within_quotas(asked: Problem, used: Sequence[tuple[ServiceSpec, int]]) -> bool:
    """Whether no quota has more GPUs taken of it than others leave."""
    return all(
        sum(gpus for s, gpus in used if s.namespace == q.namespace and s.name in (q.services or (s.name,)))
        <= max(0, q.gpus - q.held_gpus)
        for q in asked.inventory.quotas
    )


def crowded(seed: int) -> Problem:
    """A service that must survive a node, with wide replicas of another, wanted too, in its way."""
    draw = random.Random(seed)
    groups = [
        group(name, gpus_per_node=draw.choice((2, 3, 4)), nodes=draw.choice((2, 2, 3)), zone=zone, usd=usd)
        for name, zone, usd in (("a", "z1", 1.0), ("b", "z2", 1.37))[: draw.choice((1, 1, 2))]
    ]
    rate = draw.choice((1.0, 2.0, 3.0, 4.0))
    wide = service("wide", {SMALL: draw.choice((1.0, 2.0, 3.0))}, survive_nodes=draw.choice((0, 0, 1)))
    narrow = service("narrow", {SMALL: rate}, survive_nodes=1, survive_replicas=draw.choice((0, 0, 1, 2)))
    room = max(g.gpus_per_node for g in groups)
    size = draw.choice([s for s in (2, 2, 4) if s <= room])
    offers = [profile("wide", load={SMALL: 0.6}, gpus=size), profile("narrow", load={SMALL: draw.choice((0.5, 0.9))})]
    if draw.random() < 0.4:
        offers.append(profile("narrow", load={SMALL: 0.3}, gpus=2, techniques=("pair",)))
    return problem([wide, narrow], offers, *groups)


def _group(draw: random.Random, name: str) -> NodeGroup:
    per_node = draw.choice((1, 2, 2, 3, 4))
    nodes = min(draw.choice((1, 2, 2, 3)), _MOST_GPUS // per_node)
    usd = draw.choice((0.5, 1.0, 1.37, 2.0, 4.0))
    made = group(
        name, draw.choice(_KINDS), gpus_per_node=per_node, nodes=nodes, zone=draw.choice(("z1", "z2")), usd=usd
    )
    match draw.choice(("spot", "owned", "committed", "committed", "", "", "")):
        case "spot":
            return replace(made, spot=True)
        case "owned":
            return replace(made, owned=True, usd_per_gpu_hour=0.0)
        case "committed":  # at a price below and above the list price
            usd_per_gpu_hour = usd * draw.choice((0.4, 0.7, 1.0, 1.5))
            return replace(made, commitment=Commitment(draw.randint(1, made.gpus), usd_per_gpu_hour))
    return made


def _service(draw: random.Random, name: str, groups: Sequence[NodeGroup]) -> tuple[ServiceSpec, list[Profile]]:
    """A service and its recipes: each has a place, and each busy size a recipe."""
    idle = draw.random() < 0.06
    rates = {SMALL: 0.0, LARGE: 0.0} if idle else {SMALL: draw.choice((0.0, 1.0, 2.0, 4.0)), LARGE: 1.0}
    kinds = sorted({g.gpu.name for g in groups})
    offers = []
    for kind in kinds:
        rooms = [g.gpus_per_node for g in groups if g.gpu.name == kind]
        for number in range(draw.choice((1, 1, 2)) if len(groups) < 3 else 1):
            size = draw.choice([s for s in (1, 1, 2, 4) if s <= max(rooms)])
            served = [b for b in (SMALL, LARGE) if idle or draw.random() < 0.8] or [LARGE]
            offers.append(_profile(draw, name, kind, size, number, served))
    for bucket in (SMALL, LARGE):
        if not any(all(bucket in pool.load for pool in offer.pools) for offer in offers):
            rates[bucket] = 0.0  # nothing serves it
    return service(name, rates, **_constraints(draw, idle or not any(rates.values()))), offers


def _profile(draw: random.Random, name: str, kind: str, size: int, number: int, served: Sequence[Bucket]) -> Profile:
    power_w = draw.choice((100.0, 200.0, 300.0))
    made = profile(
        name, kind, {b: draw.choice(_LOADS) for b in served}, gpus=size, power_w=power_w, techniques=(f"t{number}",)
    )
    if draw.random() > 0.12:
        return made
    first, second = (
        PoolProfile(pool, size, {b: draw.choice(_LOADS) for b in served}, power_w, prediction(power_w))
        for pool in ("prefill", "decode")
    )
    return replace(made, recipe=Recipe(kind, tp=size, techniques=("split", f"t{number}")), pools=(first, second))


def _constraints(draw: random.Random, idle: bool) -> dict[str, object]:
    out: dict[str, object] = {}
    if draw.random() < 0.2:
        out["survive_replicas"] = draw.choice((1, 1, 2))
    if draw.random() < 0.25:
        out["survive_nodes"] = 1
    if draw.random() < 0.15:
        out["max_zone_share"] = draw.choice((0.5, 0.6, 0.8))
    if draw.random() < 0.15 and not idle:  # whether a service at rest must be in two zones is left open
        out["min_zones"] = 2
    if draw.random() < 0.15:
        out["max_spot_share"] = draw.choice((0.0, 0.3, 0.5))
    if draw.random() < 0.2:
        out["min_replicas"] = draw.choice((1, 2, 3))
    if draw.random() < 0.2:
        out["max_replicas"] = draw.choice((3, 4, 6))
    if draw.random() < 0.3:
        out["usd_per_hour"] = draw.choice((1.0, 2.5, 4.0, 7.5, 12.0))
    return out


def _change(
    draw: random.Random, profiles: Sequence[Profile], groups: Sequence[NodeGroup]
) -> tuple[Objective, dict[Key, int]]:
    """Prices of energy and of change, and what runs now (of one pool a recipe, as after a half-done roll-out)."""
    usd_per_joule, everywhere = draw.choice((0.0, 0.0, 1e-7, 1e-6)), draw.random() < 0.3
    if draw.random() < 0.75:
        return Objective(usd_per_joule, everywhere), {}
    places = [(p, g) for p in profiles for g in groups if g.gpu.name == p.recipe.gpu and draw.random() < 0.5]
    current = {(p.service, str(p.recipe), p.pools[0].pool, g.name): draw.choice((1, 2)) for p, g in places}
    start_usd, stop_usd = draw.choice((0.0, 0.3, 2.0)), draw.choice((0.0, 0.4))
    return Objective(usd_per_joule, everywhere, start_usd, stop_usd, draw.choice((3600.0, 7200.0))), current


def changed(asked: Problem, change: Change) -> Problem:
    """The problem with one constraint set to the value that an infeasible answer proposes."""
    kind, value = str(change.kind), change.value
    if kind == "nodes":
        _known(change, [g.name for g in asked.inventory.node_groups])
        _whole(change)
        groups = tuple(
            replace(g, nodes=int(value)) if g.name == change.target else g for g in asked.inventory.node_groups
        )
        return replace(asked, inventory=replace(asked.inventory, node_groups=groups))
    if kind == "power":
        _known(change, [d.name for d in asked.inventory.power_domains])
        domains = tuple(
            replace(d, budget_w=value) if d.name == change.target else d for d in asked.inventory.power_domains
        )
        return replace(asked, inventory=replace(asked.inventory, power_domains=domains))
    if kind == "quota":
        _known(change, [f"{q.namespace}/{q.name}" for q in asked.inventory.quotas])
        _whole(change)
        quotas = tuple(
            replace(q, gpus=int(value)) if f"{q.namespace}/{q.name}" == change.target else q
            for q in asked.inventory.quotas
        )
        return replace(asked, inventory=replace(asked.inventory, quotas=quotas))
    _known(change, [s.name for s in asked.services])
    return replace(
        asked, services=tuple(_demanded(s, change) if s.name == change.target else s for s in asked.services)
    )


def _demanded(service: ServiceSpec, change: Change) -> ServiceSpec:
    kind, value = str(change.kind), change.value
    if kind == "rate":  # requests/s in all, of the same mix
        workload = service.workload
        rates = {b: rate * value / workload.rate_per_s for b, rate in workload.rates_per_s.items()}
        return replace(service, workload=replace(workload, rates_per_s=rates))
    demands = service.constraints
    match kind:
        case "budget":
            return replace(service, constraints=replace(demands, usd_per_hour=value))
        case "max_zone_share":
            return replace(service, constraints=replace(demands, max_zone_share=value))
        case "max_spot_share":
            return replace(service, constraints=replace(demands, max_spot_share=value))
    _whole(change)
    whole = int(value)
    match kind:
        case "max_replicas":
            return replace(service, constraints=replace(demands, max_replicas=whole))
        case "min_replicas":
            return replace(service, constraints=replace(demands, min_replicas=whole))
        case "min_zones":
            return replace(service, constraints=replace(demands, min_zones=whole))
        case "survive_replicas":
            return replace(service, constraints=replace(demands, survive_replicas=whole))
        case "survive_nodes":
            return replace(service, constraints=replace(demands, survive_nodes=whole))
    raise AssertionError(f"no such kind of change: {change}")


def _known(change: Change, names: Sequence[str]) -> None:
    assert change.target in names, f"{change} names none of {names}"


def _whole(change: Change) -> None:
    assert change.value == int(change.value), f"{change} is not a whole number"
