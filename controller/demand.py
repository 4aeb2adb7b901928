"""What planning some services needs to know of a cluster: what the others hold, and the snapshot of the rest. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import Any

import orjson

from controller import names
from controller.cluster import Node, Running
from controller.decision import snapshot
from controller.hardware import (
    PRODUCT,
    Held,
    Offer,
    free_of,
    gpus_of,
    groups_of,
    held_by_service,
    holds,
    nodes_of,
    offer,
    total_held,
)
from controller.plans import merged
from controller.quotas import limits, rows
from controller.specs import key_of
from planner.catalog import gpu as catalogue
from planner.plan import Allocation, uncapped
from planner.power import idle_w as at_rest_w

Object = Mapping[str, Any]
_AS_SAID: Mapping[str, tuple[float, float]] = MappingProxyType({})
_PRICED = ("pricePerHour", "owned", "spot", "commitment")


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the cluster has, and what runs and is decided there. `decided`: service -> its allocations in force."""

    inventories: Sequence[Object]
    domains: Sequence[Object]
    nodes: Sequence[Object]
    pods: Sequence[Object]
    running: Sequence[Running]
    decided: Mapping[str, Sequence[Allocation]]
    gpu_of_product: Callable[[str], str | None]
    without: frozenset[str] = field(default_factory=frozenset)  # nodes that are about to be taken out
    held: Held | None = None  # what the pods hold, and `nodes_of` them, where somebody counted that already
    seen: Sequence[Node] | None = None
    services: Sequence[Object] = ()  # GPUServices
    quotas: Sequence[Object] = ()  # ResourceQuotas


def taken(fleet: Fleet, planned: Collection[str]) -> dict[str, int]:
    """Node -> GPUs that other services than those to be planned hold, or will hold when what was decided is done."""
    counted = held_by_service(fleet.pods) if fleet.held is None else fleet.held
    held = total_held(counted, planned)
    seen = nodes_of(fleet.nodes, groups_of(fleet.inventories), {}) if fleet.seen is None else fleet.seen
    free = [Node(one.name, one.group, one.gpus, held.get(one.name, 0), one.open) for one in seen]
    waiting = []
    have: dict[str, list[Running]] = {}
    for one in fleet.running:
        have.setdefault(one.kind.service, []).append(one)
    for service, allocations in fleet.decided.items():
        if service not in planned:
            waiting += _waiting(allocations, have.get(service, ()))
    for node, gpus in reserved(free, waiting).items():
        held[node] = held.get(node, 0) + gpus
    return held


def _waiting(allocations: Sequence[Allocation], running: Sequence[Running]) -> list[tuple[str, int]]:
    """(node group, GPUs) of each replica that is decided and has no place yet."""
    found = []
    for one in merged(allocations):
        bound = sum(
            r.bound
            for r in running
            if (r.kind.recipe, r.kind.pool, r.kind.node_group) == (str(one.recipe), one.pool, one.node_group)
        )
        found += [(one.node_group, one.gpus_per_replica)] * max(one.replicas - bound, 0)
    return found


def reserved(nodes: Sequence[Node], starts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Node -> GPUs that replicas to start would take, the largest first, each where the least room is left over."""
    rooms: dict[str, dict[int, list[str]]] = {}  # group -> free GPUs -> a heap of nodes
    whole: dict[str, int] = {}
    for one in nodes:
        rooms.setdefault(one.group, {}).setdefault(one.free, []).append(one.name)
        whole[one.group] = max(whole.get(one.group, 0), one.gpus)
    for names_of in (heap for room in rooms.values() for heap in room.values()):
        heapify(names_of)
    got: dict[str, int] = {}
    for group, gpus in sorted(starts, key=lambda start: -start[1]):
        most = whole.get(group, 0)
        need = [gpus] if gpus <= most else [most] * -(-gpus // most) if most else []
        room = rooms.get(group, {})
        for part in need:
            free = min((free for free, there in room.items() if free >= part and there), default=None)
            if free is not None:
                name = heappop(room[free])
                heappush(room.setdefault(free - part, []), name)
                got[name] = got.get(name, 0) + part
    return got


def drawn_w(fleet: Fleet, planned: Collection[str]) -> dict[str, float]:
    """Power domain -> watts that the other services draw at full load."""
    domain = {name: group.get("powerDomain") for name, group in groups_of(fleet.inventories).items()}
    drawn: dict[str, float] = {}
    for service, allocations in fleet.decided.items():
        for one in allocations if service not in planned else ():
            if (where := domain.get(one.node_group)) is not None:
                drawn[where] = drawn.get(where, 0.0) + one.power_w
    return drawn


def idle_w(fleet: Fleet, held: Mapping[str, int]) -> dict[str, float]:
    """Power domain -> watts that GPUs draw at rest which are not offered and which no other holds or waits for.

    Budgets are of all that hangs on a domain; those that are offered the planner counts itself. Those of services to be
    planned on nodes that are not offered, as on one that is out, are left by the new plan. `held`: as `taken`.
    """
    groups = groups_of(fleet.inventories)
    types = {one["metadata"]["name"]: (one["metadata"].get("labels") or {}).get(PRODUCT, "") for one in fleet.nodes}
    found: dict[str, float] = {}
    for one in nodes_of(fleet.nodes, groups, {}) if fleet.seen is None else fleet.seen:
        group = groups.get(one.group, {})
        gpu = group.get("gpu") or fleet.gpu_of_product(types.get(one.name, ""))
        if free_of(one, held, fleet.without) or gpu is None or (where := group.get("powerDomain")) is None:
            continue
        rests = max(one.gpus - held.get(one.name, 0), 0)
        found[where] = found.get(where, 0.0) + rests * at_rest_w(catalogue(gpu))
    return found


def ask(
    fleet: Fleet,
    services: Sequence[tuple[str, Object, float | None]],
    freed: Collection[str] = (),
    sizes: Mapping[str, tuple[float, float]] = _AS_SAID,
) -> tuple[Object, Offer]:
    """The snapshot for planning services (key, object, rate) with all that the others leave, and its hardware.

    `freed`: services that may lose their places. `sizes`: service -> how many times as long prompts and answers are.
    """
    planned = {key for key, _, _ in services}
    gone = {*planned, *freed}
    held = taken(fleet, gone)
    rest, others = idle_w(fleet, held), drawn_w(fleet, gone)
    drawn = {name: rest.get(name, 0.0) + others.get(name, 0.0) for name in {**rest, **others}}
    made = offer(
        fleet.inventories, fleet.domains, fleet.nodes, held, drawn,
        fleet.gpu_of_product, fleet.without, fleet.seen,
    )  # fmt: skip
    current = _current(fleet, planned, made)
    asked = [(obj, rate, sizes.get(key, (1.0, 1.0))) for key, obj, rate in services]
    if allowed := allowed_gpus(fleet, [obj for _, obj, _ in services], gone):
        made = replace(made, document={**made.document, "spec": {**made.document["spec"], "quotas": allowed}})
    return snapshot(asked, made.document, current), made


def allowed_gpus(fleet: Fleet, planned: Sequence[Object], gone: Collection[str]) -> list[Object]:
    """The quotas of services to be planned; what all services but some hold of them is what was decided."""
    by_space, spaces = limits(fleet.quotas), sorted({key_of(one).partition("/")[0] for one in planned})
    found: list[Object] = []
    for space in spaces:
        if mine := by_space.get(space):
            others = [one for one in fleet.services if key_of(one) not in gone]
            found += rows(mine, planned, others, fleet.pods, wanted_gpus(fleet.decided, fleet.running))
    return found


def wanted_gpus(decided: Mapping[str, Sequence[Allocation]], running: Sequence[Running]) -> dict[str, int]:
    """Service -> GPUs that were decided for it, or that it runs on where nothing is decided."""
    found = {key: sum(one.replicas * one.gpus_per_replica for one in mine) for key, mine in decided.items()}
    for one in running:
        if (key := one.kind.service) not in decided:
            found[key] = found.get(key, 0) + one.replicas * one.kind.gpus
    return found


def _current(fleet: Fleet, planned: Collection[str], made: Offer) -> dict[tuple[str, str, str, str], int]:
    """Replicas that run and have a place, in the groups of the offer, so that staying is free."""
    kinds = {one.kind.name: one.kind for one in fleet.running if one.kind.service in planned}
    short = {name.rpartition("/")[2] for name in kinds}
    found: dict[tuple[str, str, str, str], float] = {}
    capped = {  # kinds know no caps, and the planner tells recipes apart by them
        (name, str(uncapped(one.recipe)), one.pool): str(one.recipe)
        for name in planned
        for one in fleet.decided.get(name, ())
    }
    for pod in fleet.pods:
        name = (pod["metadata"].get("labels") or {}).get(names.KIND, "")
        if name not in short:
            continue
        kind = kinds.get(f"{pod['metadata'].get('namespace')}/{name}")
        group = made.names.get(pod["spec"].get("nodeName", ""))
        if kind is None or group is None or not holds(pod):
            continue
        recipe = capped.get((kind.service, kind.recipe, kind.pool), kind.recipe)
        key = (kind.service, recipe, kind.pool, group)
        found[key] = found.get(key, 0.0) + gpus_of(pod) / kind.gpus  # a replica over several nodes has several pods
    return {key: round(count) for key, count in found.items() if round(count)}


def budgets(domains: Sequence[Object]) -> str:
    """A digest that changes with the budget of any power domain."""
    return _digest(sorted((one["metadata"]["name"], one["spec"]["budget"]) for one in domains))


def prices(inventories: Sequence[Object]) -> str:
    """A digest that changes with any price."""
    priced = {
        name: {key: group[key] for key in _PRICED if key in group} for name, group in groups_of(inventories).items()
    }
    energy = sorted(str(one["spec"].get("energyPrice", "")) for one in inventories)
    return _digest([priced, energy])


def hardware(fleet: Fleet, counts: bool) -> str:
    """A digest of the groups that offer GPUs; with `counts`, also of how many, for who waits for some."""
    groups = groups_of(fleet.inventories)
    seen = nodes_of(fleet.nodes, groups, {})
    offered: dict[str, int] = dict.fromkeys(groups, 0)
    for one in seen:
        offered[one.group] += one.free
    return _digest(offered if counts else sorted(name for name, gpus in offered.items() if gpus))


def faulty(out: frozenset[str], pods: Iterable[Object], known: frozenset[str]) -> frozenset[str]:
    """Nodes of `out` that hold a service's pods, or did when it was last planned."""
    mine = {pod["spec"].get("nodeName") for pod in pods if holds(pod)}
    return frozenset(out & (mine | known))


def _digest(value: object) -> str:
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
