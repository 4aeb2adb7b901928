"""One round of moving the fleet from what runs to what was decided: surge, then drain. Pure and level-triggered.

Each round looks at the whole fleet and does what may be done now; whoever is killed between two rounds loses nothing,
and a decision that changes half way is only another target. The rules, in this order:

1. A replica starts where GPUs are free and the quotas of its namespace have some left, services of higher priority
   first.
2. A replica that carries requests stops when all that was decided serves, or when a start waits for its GPUs, and then
   only while what stays ready is at least the floor of its service less what `max_unavailable` forgives.
3. A replica that does not serve may stop at any time: nothing is lost with it.
4. No more than `most_moving` replicas of the fleet are between two states.
5. The router stops sending before a replica stops, and begins when one serves.

What can't go on says why, with numbers: `Round.held`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller import routing
from controller.capacity import Room, capacity_per_s
from controller.cluster import Action, Desired, Disruption, Hold, Kind, Live, Route, Running, Scale, Weights

_TOLERANCE = 1e-9
_NOTHING = Disruption()


@dataclass(frozen=True, slots=True)
class Round:
    """What to do now; which services wait, and why; which are where they are to be."""

    actions: tuple[Action, ...] = ()
    held: Mapping[str, Hold] = field(default_factory=dict)
    done: frozenset[str] = frozenset()


class _Fleet:
    """Counts as this round changes them: what is told to run, and what will still be ready."""

    def __init__(self, desired: Desired, live: Live) -> None:
        self.desired = desired
        self.kinds = {one.kind.name: one.kind for one in live.running}
        self.kinds |= {target.kind.name: target.kind for target in desired.targets}
        self.by_service: dict[str, list[Kind]] = {}
        for _, kind in sorted(self.kinds.items()):
            self.by_service.setdefault(kind.service, []).append(kind)
        self.live = {one.kind.name: one for one in live.running}
        self.want = {target.kind.name: target.replicas for target in desired.targets}
        self.told = {name: one.replicas for name, one in self.live.items()}
        self.ready = {name: min(one.ready, one.replicas) for name, one in self.live.items()}
        self.room = Room(live.nodes, live.running, live.allowances)
        self.left = desired.most_moving - sum(one.moving for one in live.running)
        self.why: dict[str, str] = {}
        self.waiting: dict[str, list[Kind]] = {}  # by node group or quota: starts that found no room
        self.queued: set[str] = set()  # services that wait for others to have moved
        self.coming: dict[str, int] = {}  # by node group or quota: GPUs of replicas that are leaving
        for one in live.running:
            self.leaves(one.kind, one.leaving)

    def services(self) -> list[str]:
        """The most important first."""
        return sorted(self.by_service, key=lambda name: (-self.bears(name).priority, name))

    def bears(self, service: str) -> Disruption:
        return self.desired.disruption.get(service, _NOTHING)

    def of(self, service: str) -> list[Kind]:
        return self.by_service.get(service, [])

    def pools(self, kind: Kind) -> list[str]:
        """What a replica takes GPUs from: its node group, and the quotas that bind it."""
        return [kind.node_group, *self.room.quotas(kind)]

    def leaves(self, kind: Kind, replicas: int) -> None:
        for pool in self.pools(kind):
            self.coming[pool] = self.coming.get(pool, 0) + replicas * kind.gpus

    def serves(self, service: str) -> bool:
        """Whether all that was decided for a service is ready."""
        return all(self.ready.get(kind.name, 0) >= self.want.get(kind.name, 0) for kind in self.of(service))

    def surplus(self, kind: Kind) -> int:
        return self.told.get(kind.name, 0) - self.want.get(kind.name, 0)

    def spare(self, kind: Kind) -> bool:
        """Whether the service stays above its floor when one ready replica of a kind stops."""
        mine = [(one, self.ready.get(one.name, 0) - (one == kind)) for one in self.of(kind.service)]
        floor = self.desired.floor_per_s.get(kind.service, 0.0)
        forgiven = self.bears(kind.service).max_unavailable * max(one.per_s for one, _ in mine)
        return capacity_per_s(mine) >= floor - forgiven - _TOLERANCE * floor


def next_round(desired: Desired, live: Live) -> Round:
    """What to do now, in this order: routes away from what stops, stops, starts, routes to what serves."""
    fleet = _Fleet(desired, live)
    for service in fleet.services():
        _start(fleet, service)
    for service in reversed(fleet.services()):
        _stop(fleet, service)
    scales = [
        Scale(fleet.kinds[name], count, fleet.why.get(name, "as decided"))
        for name, count in sorted(fleet.told.items())
        if count != (fleet.live[name].replicas if name in fleet.live else 0)
    ]
    fewer = [scale for scale in scales if scale.kind.name in fleet.live and _falls(scale, fleet.live)]
    more = [scale for scale in scales if scale not in fewer]
    routes = [Route(name, table) for name in fleet.services() if (table := _route(fleet, live, name)) is not None]
    gone = [one.kind for one in live.running if one.replicas == 0 and one.leaving == 0 and not _wanted(fleet, one.kind)]
    removed = [Scale(kind, 0, "no longer decided") for kind in gone]
    done = frozenset(name for name in fleet.services() if _done(fleet, name))
    return Round((*routes, *fewer, *more, *removed), _held(fleet, scales), done)


def _falls(scale: Scale, live: Mapping[str, Running]) -> bool:
    return scale.replicas < live[scale.kind.name].replicas


def _wanted(fleet: _Fleet, kind: Kind) -> bool:
    return fleet.want.get(kind.name, 0) > 0


def _done(fleet: _Fleet, service: str) -> bool:
    """Everything decided is ready, and nothing else is there."""
    return all(
        fleet.told.get(kind.name, 0) == fleet.want.get(kind.name, 0) == fleet.ready.get(kind.name, 0)
        and not (kind.name in fleet.live and fleet.live[kind.name].leaving)
        for kind in fleet.of(service)
    )


def _start(fleet: _Fleet, service: str) -> None:
    for kind in sorted(fleet.of(service), key=lambda one: (-one.gpus, one.name)):
        for _ in range(-fleet.surplus(kind)):
            if fleet.left <= 0:
                fleet.queued.add(service)
                return
            if not fleet.room.take(kind):
                fleet.waiting.setdefault(fleet.room.spent(kind) or kind.node_group, []).append(kind)
                break
            fleet.told[kind.name] = fleet.told.get(kind.name, 0) + 1
            fleet.left -= 1


def _stop(fleet: _Fleet, service: str) -> None:
    """Stop what is too much: first what does not serve, then what may be spared."""
    done = fleet.serves(service)
    for kind in sorted(fleet.of(service), key=lambda one: (_wanted(fleet, one), one.name)):
        idle = fleet.told.get(kind.name, 0) - fleet.ready.get(kind.name, 0)
        for _ in range(min(max(idle, 0), max(fleet.surplus(kind), 0))):
            fleet.told[kind.name] -= 1
            fleet.why[kind.name] = "does not serve and is no longer decided"
        asked = "all that was decided serves" if done else _asked(fleet, kind)
        while fleet.surplus(kind) > 0 and asked and fleet.left > 0 and (done or fleet.spare(kind)):
            fleet.told[kind.name] -= 1
            fleet.ready[kind.name] -= 1
            fleet.left -= 1
            fleet.why[kind.name] = asked
            fleet.leaves(kind, 1)
            asked = asked if done else _asked(fleet, kind)
        if fleet.surplus(kind) > 0 and done and fleet.left <= 0:
            fleet.queued.add(service)


def _asked(fleet: _Fleet, kind: Kind) -> str:
    """Who waits for the GPUs of a kind and will not have enough by those that are leaving; empty for nobody."""
    pools = fleet.pools(kind)
    short = [one for pool in pools for one in fleet.waiting.get(pool, ()) if one.gpus > fleet.coming.get(pool, 0)]
    return f"makes room for {short[0].recipe} of {short[0].service}" if short else ""


def _route(fleet: _Fleet, live: Live, service: str) -> Weights | None:
    """The router's table for what will serve after this round; None where it is so already."""
    table = routing.weights((kind, fleet.ready.get(kind.name, 0)) for kind in fleet.of(service))
    return None if routing.same(table, live.weights.get(service, {})) else table


def _held(fleet: _Fleet, scales: Sequence[Scale]) -> dict[str, Hold]:
    """Services that wait for others to have moved, or for room while nothing of the fleet moves that could bring it."""
    moving = {scale.kind.service for scale in scales}
    moving |= {one.kind.service for one in fleet.live.values() if one.moving}
    most = fleet.desired.most_moving
    text = f"other services move {most} replicas, as many as the fleet may have between two states"
    held = {service: Hold("FleetBudgetSpent", text) for service in fleet.queued - moving}
    if moving:
        return held
    for pool, kinds in fleet.waiting.items():
        for kind in kinds:
            short = fleet.want.get(kind.name, 0) - fleet.told.get(kind.name, 0)
            text = f"{short} x {kind.recipe} wait for {_lacks(fleet, kind, pool)}"
            held[kind.service] = Hold("NoSpareCapacity", text)
    return held


def _lacks(fleet: _Fleet, kind: Kind, pool: str) -> str:
    """What a replica waits for, what there is of it, and why its service does not make room itself."""
    mine = fleet.of(kind.service)
    if pool == kind.node_group:
        has = f"{kind.gpus} free GPUs in one node of {pool}; the most that a node has is {fleet.room.largest(pool)}"
        return has + _floor(fleet, mine, "add a node")
    has = f"{kind.gpus} GPUs of the ResourceQuota {pool}, which has {fleet.room.left(pool)} left"
    return has + _floor(fleet, mine, "raise the quota")


def _floor(fleet: _Fleet, mine: Sequence[Kind], more: str) -> str:
    """Why the service does not make room itself, if it holds any."""
    if not any(fleet.surplus(kind) > 0 for kind in mine):
        return ""
    service = mine[0].service
    ready = capacity_per_s((kind, fleet.ready.get(kind.name, 0)) for kind in mine)
    floor = fleet.desired.floor_per_s.get(service, 0.0)
    return f", and {ready:.3g} requests/s are ready of which {floor:.3g} must stay: allow maxUnavailable, or {more}"
