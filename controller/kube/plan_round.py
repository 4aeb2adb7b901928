"""What the leader does about planning: take the services that wait, have them planned, write their Plans.

One for which planning fails is set aside, and the others go on.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from controller.capacity import Room
from controller.cluster import Kind
from controller.effect import effect
from controller.kube.applier import Applier
from controller.kube.aside import Aside
from controller.kube.known import Known
from controller.kube.planning import TOGETHER, Answer, Planner, Wanted, failed, plan_of, rate_to_plan, sizes_to_plan
from controller.kube.rest import ApiError
from controller.kube.service_round import Tell
from controller.kube.waiting import others, stays_per_s
from controller.plans import merged
from controller.rollback import worth_it
from controller.specs import key_of
from controller.trigger import Reason
from planner.errors import MusterError
from planner.service import ServiceSpec

_LOG = logging.getLogger("muster")
_CAN_WAIT = ("rate_down", "prices_changed")  # nothing but money is lost meanwhile
_SEEN_S = 5.0  # the caches show a write long before


class PlanRound:
    """`again`: look at a key once more in so many seconds. `tell`: of a decision."""

    def __init__(
        self, known: Known, applier: Applier, planner: Planner, again: Callable[[str, float], None], tell: Tell
    ) -> None:
        self._known, self._applier, self._planner, self._again, self._tell = known, applier, planner, again, tell
        self._aside = Aside(known.clock)

    def run(self) -> bool:
        """Plan the most important services that wait; whether more wait."""
        self._aside.keep({key_of(obj) for obj in self._known.items("gpuservices")})
        batch = [self._around(one) for one in self._batch()]
        if not batch:
            return False
        try:
            answers = self._planner.answers(batch, self._others)
        except Exception as error:  # whatever it was, the services that do not cause it are planned
            self._set_aside(batch, error)
            return bool(self._due())
        for answer in answers:
            self._aside.answered(answer.wanted.key)
            self._known.planning_failed.pop(answer.wanted.key, None)
        if any(self._worth_it(answer) for answer in answers):
            self._write_all(batch, answers)
        else:
            for answer in answers:
                self._keep(answer)
        self._again("fleet", 0.0)
        return bool(self._due())

    def _batch(self) -> list[Wanted]:
        """The first of those that wait; one that may have made planning fail by itself."""
        due = self._due()
        if due and self._aside.alone(due[0].key):
            return due[:1]
        return [one for one in due if not self._aside.alone(one.key)][:TOGETHER]

    def _due(self) -> list[Wanted]:
        """Services that wait and are not set aside, the most urgent first."""
        found = [one for key, reason in self._known.wanted().items() if (one := self._wanted(key, reason)) is not None]
        return sorted((one for one in found if not self._aside.waits(one.key, _generation(one))), key=urgency)

    def _set_aside(self, batch: list[Wanted], error: Exception) -> None:
        """Planning failed: find out for which service, and tell it of that one."""
        if len(batch) > 1:
            _LOG.warning("planning %s: %s; each is planned alone", ", ".join(one.key for one in batch), error)
            self._aside.one_of([one.key for one in batch])
            return
        (one,) = batch
        if isinstance(error, MusterError):
            _LOG.warning("planning %s: %s", one.key, error)
            words = str(error)
        else:
            _LOG.error("planning %s", one.key, exc_info=error)
            words = f"planning failed ({type(error).__name__}); the controller's log says more"
        self._aside.failed(one.key, _generation(one))
        self._known.planning_failed[one.key] = failed(words)
        self._again(f"service/{one.key}", 0.0)

    def _others(self, priority: int) -> list[Wanted]:
        """Services of a lower priority that have a plan."""
        reason = Reason("nodes_changed", "a service of higher priority needs its places")
        found = [self._wanted(key_of(plan), reason) for plan in self._known.items("plans")]
        lower = [one for one in found if one is not None and one.priority < priority]
        return [self._around(one) for one in lower if not self._aside.waits(one.key, _generation(one))]

    def _wanted(self, key: str, reason: Reason) -> Wanted | None:
        """What planning needs to know of a service; None for one that is gone or whose spec is refused."""
        known = self._known
        obj = known.service(key)
        spec = None if obj is None else known.spec(obj)
        if obj is None or not isinstance(spec, ServiceSpec) or obj["metadata"].get("deletionTimestamp"):
            known.answered(key)
            return None
        plan = known.plan(key)
        rate_per_s = rate_to_plan(reason, plan, obj["metadata"].get("generation", 1))
        sizes = sizes_to_plan(reason, plan, obj["metadata"].get("generation", 1))
        return Wanted(
            key, obj, reason, rate_per_s, spec.workload.rate_per_s, plan, spec.priority, known.faulty(key), sizes,
            known.quota(key),
        )  # fmt: skip

    def _around(self, one: Wanted) -> Wanted:
        """The same with what planning needs to know of it where its load does not fit."""
        return replace(one, stays_per_s=stays_per_s(self._known, one.key), others=others(self._known, one.key))

    def _write_all(self, batch: list[Wanted], answers: list[Answer]) -> None:
        """Write them all, since each took what the others leave."""
        try:
            for answer in answers:
                self._write(answer)
        except ApiError as error:
            for one in batch:
                self._known.planning_failed[one.key] = f"the plan could not be written: {error}"
                self._again(f"service/{one.key}", 0.0)
            raise

    def _worth_it(self, answer: Answer) -> bool:
        """Whether to put an answer in force."""
        old = self._known.plan(answer.wanted.key)
        if old is None or old["spec"].get("infeasible") is not None:
            return True
        usd = sum(one.usd_per_hour for one in answer.allocations) if answer.infeasible is None else math.inf
        before = float(old["spec"].get("usdPerHour") or 0.0)
        cause = answer.wanted.reason.cause
        if not worth_it(cause, before, usd, self._known.settings.laws):
            return False
        return cause != "rate_down" or self._startable(answer)

    def _startable(self, answer: Answer) -> bool:
        """Whether all that is new finds room beside what runs: a saving that waits for room is none."""
        fleet, key = self._known.fleet(), answer.wanted.key
        room = Room(self._known.nodes(), fleet.running, self._known.allowances())
        there = {
            (one.kind.recipe, one.kind.pool, one.kind.node_group): one.replicas for one in self._known.running(key)
        }
        for one in merged(answer.allocations):
            kind = Kind("", key, str(one.recipe), one.pool, one.node_group, one.gpus_per_replica, 0.0)
            new = one.replicas - there.get((kind.recipe, kind.pool, kind.node_group), 0)
            if not all(room.take(kind) for _ in range(new)):
                return False
        return True

    def _keep(self, answer: Answer) -> None:
        """Nothing is cheaper for what comes now, so what runs goes on."""
        one = answer.wanted
        if one.rate_per_s is not None:
            self._known.asked[one.key] = one.rate_per_s
        self._known.answered(one.key, one.reason)

    def _there(self, service: Mapping[str, Any]) -> bool:
        """Whether a service that was planned is still to run: a plan for one that goes would be left behind."""
        now = self._known.service(key_of(service))
        meta = {} if now is None else now["metadata"]
        return meta.get("uid") == service["metadata"].get("uid") and not meta.get("deletionTimestamp")

    def _write(self, answer: Answer) -> None:
        """Put an answer into its Plan, and wait until the caches show it: the next batch takes what this one left."""
        one, facts = answer.wanted, self._known.facts()
        if not self._there(one.service):
            self._known.answered(one.key, one.reason)
            return
        old = self._known.plan(one.key)
        mine = self._known.running(one.key)
        current = replace(answer, wanted=replace(one, old=old))
        made = plan_of(current, mine, self._known.clock(), self._applier.epoch, facts)
        try:
            stored = self._applier.replace(made, old)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return  # the service or its plan changed meanwhile, so it is looked at and planned again
        spec = self._known.spec_of(one.key)
        slos = () if spec is None else spec.slos
        if words := effect(one.reason, {} if old is None else old["spec"], stored["spec"], slos):
            self._tell(one.service, "Replanned", words)
        self._known.answered(one.key, one.reason)
        self._known.asked.pop(one.key, None)
        if one.reason.cause == "overrun":
            self._known.planned_over[one.key] = self._known.overruns.get(one.key, frozenset())
        end_s = time.monotonic() + _SEEN_S
        while time.monotonic() < end_s:
            seen = self._known.plan(one.key)
            if seen is not None and seen["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]:
                return
            time.sleep(0.005)


def urgency(one: Wanted) -> tuple[int, int, str]:
    """The order in which services are planned: faults first, what only saves money last, then by priority."""
    cause = one.reason.cause
    return 0 if cause == "fault" else 2 if cause in _CAN_WAIT else 1, -one.priority, one.key


def _generation(one: Wanted) -> int:
    return int(one.service["metadata"].get("generation") or 1)
