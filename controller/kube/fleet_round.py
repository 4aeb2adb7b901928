"""What the leader does about the fleet: one round of moving it from what runs to what is decided."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from controller import names
from controller.cluster import Action, Desired, Disruption, Live, Route, Running, Scale, Target
from controller.kube.applier import Applier
from controller.kube.cluster import KubernetesCluster
from controller.kube.known import Known
from controller.kube.planning import floor_of
from controller.kube.priorities import Priorities
from controller.kube.rest import ApiError
from controller.manifests.workload import Made
from controller.rollout import next_round
from controller.specs import key_of

Object = Mapping[str, Any]
_LOG = logging.getLogger("muster")
_ANEW_S = 1.0
_NEXT_S = 5.0  # deadlines of replicas pass without an event


class FleetRound:
    """`again`: look at a key once more in so many seconds."""

    def __init__(self, known: Known, applier: Applier, again: Callable[[str, float], None]) -> None:
        self._known, self._again = known, again
        self.cluster = KubernetesCluster(known.cache, known.served, applier, known.taken, known.clock, known.allowances)
        self._priorities = Priorities(known, applier, self.cluster.workloads)

    def run(self) -> None:
        """One round."""
        self.cluster.lost = self._known.lost
        now = self.cluster.observe()
        desired, self.cluster.made = self._desired(now.running)
        self.cluster.rates = dict(self._known.rates)
        step = next_round(desired, now)
        self._tell_unranked(self._priorities.keep())  # pods of a class that is not there are not made
        if step.actions and _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("fleet: %s", [(r.kind.name, r.replicas, r.bound, r.ready, r.leaving) for r in now.running])
        unrouted = self._route(step.actions, now)
        self._scale([one for one in step.actions if isinstance(one, Scale)], now, unrouted)
        before, self._known.held = self._known.held, step.held
        for key in before.keys() | step.held.keys():
            if before.get(key) != step.held.get(key):
                self._again(f"service/{key}", 0.0)
        if step.actions or step.held or any(one.moving for one in now.running):
            self._again("fleet", _NEXT_S)

    def _tell_unranked(self, failed: Mapping[str, str]) -> None:
        before, self._known.unranked = self._known.unranked, failed
        for key in before.keys() | failed.keys():
            if before.get(key) != failed.get(key):
                self._again(f"service/{key}", 0.0)

    def _route(self, actions: Sequence[Action], now: Live) -> set[str]:
        """Have all services routed by what serves; gives those that are not, of which nothing may be stopped."""
        changed = {one.service: one for one in actions if isinstance(one, Route)}
        keys = [key_of(obj) for obj in self._known.items("gpuservices")]
        failed: dict[str, ApiError] = {}
        for key in dict.fromkeys((*changed, *keys)):
            taken = self._known.taken.words(key)
            try:
                if key in changed:
                    self.cluster.act([changed[key]])
                else:
                    self.cluster.keep_route(key, now.weights.get(key))
            except ApiError as error:
                if error.status in (0, 429):
                    raise
                failed[key] = error
            if self._known.taken.words(key) != taken:
                self._again(f"service/{key}", 0.0)
        before = self._known.unrouted
        self._known.unrouted = {key: str(error) for key, error in failed.items() if error.status != 409}
        for key in before.keys() | self._known.unrouted.keys():
            if before.get(key) != self._known.unrouted.get(key):
                self._again(f"service/{key}", 0.0)
        if failed:
            self._again("fleet", _ANEW_S)
        return set(failed)

    def _scale(self, actions: Sequence[Scale], now: Live, unrouted: Collection[str]) -> None:
        """Do what can be done; what the server refuses is told by its service and tried again."""
        told = {one.kind.name: one.replicas for one in now.running}
        for action in actions:
            key = action.kind.service
            if key in unrouted and action.replicas <= told.get(action.kind.name, 0):
                continue  # requests are sent there still
            worse, taken = "", self._known.taken.words(key)
            _LOG.info("%s: %d replicas: %s", action.kind.name, action.replicas, action.why)
            try:
                self.cluster.act([action])
            except ApiError as error:
                if error.status == 0 or error.status >= 500 or error.status == 429:
                    raise
                worse = "" if error.status == 409 else str(error)  # it changed since it was seen
            if self._known.errors.get(key, "") != worse or self._known.taken.words(key) != taken:
                self._known.errors[key] = worse
                self._again(f"service/{key}", 0.0)

    def _desired(self, running: Sequence[Running]) -> tuple[Desired, dict[str, Made]]:
        """What is decided, as the rules of the rollout take it; a service that is paused or broken stays as it is."""
        targets: list[Target] = []
        floors: dict[str, float] = {}
        bears: dict[str, Disruption] = {}
        made: dict[str, Made] = {}
        stranded = {one.kind.name: one.stranded for one in running}  # others come up before these go
        for obj in self._known.items("gpuservices"):
            if obj["metadata"].get("deletionTimestamp"):
                continue
            key = key_of(obj)
            plan = self._known.plan(key)
            mine = self._known.made(obj, plan)
            if plan is None or self._frozen(obj, plan):
                targets += [Target(one.kind, one.replicas) for one in running if one.kind.service == key]
                continue
            made |= {one.kind.name: one for one in mine}
            targets += [
                Target(one.kind, one.replicas + (one.replicas and stranded.get(one.kind.name, 0))) for one in mine
            ]
            floors[key] = floor_of(plan["spec"])
            most = (obj["spec"].get("serving") or {}).get("maxUnavailable", 0)
            bears[key] = Disruption(int(most), self._known.priority(obj))
        return Desired("fleet", tuple(targets), floors, bears, self._known.settings.most_moving), made

    def _frozen(self, obj: Object, plan: Object) -> bool:
        if names.PAUSED in (obj["metadata"].get("annotations") or {}) or isinstance(self._known.spec(obj), list):
            return True
        return bool(self._known.unservable(obj, plan))
