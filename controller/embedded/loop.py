"""The controller's rounds on the embedded cluster, one after the other, at the times that are given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.embedded.api import EmbeddedApi
from controller.embedded.cache import EmbeddedCache
from controller.embedded.paths import SERVED
from controller.events import Events
from controller.facts import OF_ALL, matters
from controller.identity import Identities
from controller.kube.applier import Applier
from controller.kube.desk import KubernetesDesk
from controller.kube.fleet_round import FleetRound
from controller.kube.known import Known, Settings
from controller.kube.listening import Hear, Listening
from controller.kube.node_round import NodeRound, NodeSettings
from controller.kube.plan_round import PlanRound
from controller.kube.planning import Answer, Planner, Wanted
from controller.kube.rest import ApiError
from controller.kube.service_round import ServiceRound
from controller.kube.supply_round import tell_caps, tell_supply
from controller.plan_child import PlanChild, PlanningFailed
from controller.snapshots import Snapshots
from controller.specs import key_of, service_of

Object = Mapping[str, Any]
EVERY_S = 15.0  # everything is looked at again so often, without any event
_FLEET, _PLAN, _NODES = "fleet", "plan", "nodes"
_RETRY_S = 5.0
_MOST_PASSES = 20  # of what follows from one another at one moment


@dataclass(frozen=True)
class Alone:
    """This process leads: the store lets in no other."""

    epoch: int | None

    def may_write(self) -> bool:
        """Always."""
        return True


@dataclass
class Thinking(Planner):
    """A planner during whose seconds the cluster goes on: what it answers comes late, as it does to a real one."""

    passing: Callable[[], Callable[[], None]] = field(default=lambda: lambda: None)

    def answers(self, wanted: Sequence[Wanted], others: Callable[[int], Sequence[Wanted]]) -> list[Answer]:
        """As a Planner's."""
        end = self.passing()
        try:
            return super().answers(wanted, others)
        finally:
            end()


class Loop:
    """`clock` is Unix time in the cluster. `passing` is called when planning begins; what it gives, when it ended."""

    def __init__(
        self,
        api: EmbeddedApi,
        clock: Callable[[], float],
        hear: Hear,
        *,
        settings: Settings | None = None,
        nodes: NodeSettings | None = None,
        snapshots: Path | None = None,
        passing: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        epoch = int(api.store.said("epoch") or 0) + 1
        api.store.say("epoch", epoch)
        leader = Alone(epoch)
        self.known = Known(EmbeddedCache(api.store), SERVED, clock, replace(settings or Settings(), hears=True))
        self.events = Events(api, SERVED, "embedded", clock=clock, wall=lambda: datetime.fromtimestamp(clock(), UTC))
        self.child = PlanChild()
        applier = self._applier = Applier(api, SERVED, leader)
        tell = self.events.tell
        self._services = ServiceRound(self.known, applier, lambda: self._again(_PLAN, 0.0), self._again, tell)
        self._fleet = FleetRound(self.known, applier, self._again)
        planner = Thinking(self.child, self.known.fleet, Snapshots(snapshots).keep, passing)
        self._planning = PlanRound(self.known, applier, planner, self._again, tell)
        self.rounds = NodeRound(
            self.known, api, SERVED, leader, nodes or NodeSettings(), lambda: self._again(_NODES, 0.0), tell
        )
        self.desk = KubernetesDesk(self.known, self.rounds, Identities(api, (), ""), lambda: True, lambda: True)
        self._listening = Listening(self.known, hear)
        self._looked_s = float("-inf")
        self.troubles: list[str] = []
        api.store.listeners.append(self._changed)

    def close(self) -> None:
        """End the planner's process."""
        self.child.stop()

    def step(self) -> None:
        """Do what is due now, and what follows from it at this moment."""
        now_s = self._clock()
        if now_s - self._looked_s >= EVERY_S:
            self._looked_s = now_s
            self._listening.listen()
            self._all()
            tell_supply(self.known, self._applier, self.rounds.kept, self.desk.grants, self.events.tell)
            tell_caps(self.known, self.rounds, self.desk.grants, self.events.tell)
        for _ in range(_MOST_PASSES):
            due = [key for key, at_s in self._due.items() if at_s <= self._clock()]
            if not due:
                break
            for key in sorted(due, key=_order):
                self._due.pop(key, None)
                self._tried(key)
                self.events.flush()  # before anything else: a kill must not leave a decision that nobody is told of
        self.events.flush()

    def _tried(self, key: str) -> None:
        try:
            self._one(key)
        except (ApiError, PlanningFailed) as error:
            self.troubles = [*self.troubles[-9:], f"{key}: {error}"]
            self._again(key, _RETRY_S)

    def _one(self, key: str) -> None:
        if key == _FLEET:
            self._fleet.run()
        elif key == _NODES:
            lost = self.known.lost
            self.rounds.run()
            if self.known.lost != lost:
                self._all()
        elif key == _PLAN:
            if self._planning.run():
                self._again(_PLAN, 0.0)
        else:
            self._services.run(key.partition("/")[2])

    def _all(self) -> None:
        for obj in self.known.items("gpuservices"):
            self._again(f"service/{key_of(obj)}", 0.0)
        self._again(_FLEET, 0.0)
        self._again(_NODES, 0.0)

    def _again(self, key: str, delay_s: float) -> None:
        at_s = self._clock() + delay_s
        self._due[key] = min(self._due.get(key, at_s), at_s)

    def _changed(self, plural: str, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None:
            return
        if plural in OF_ALL:
            if matters(plural, old, new):
                self.known.changed_hardware()
                self._all()
        elif plural in ("gpuservices", "plans"):
            self._again(f"service/{key_of(obj)}", 0.0)
            self._again(_FLEET, 0.0)
        elif plural != "events" and (service := service_of(obj)):
            self._again(f"service/{service}", 0.0)
            self._again(_FLEET, 0.0)


def _order(key: str) -> int:
    """Nodes first: what is faulty should not be planned on."""
    return {_NODES: 0, _PLAN: 2, _FLEET: 3}.get(key, 1)
