"""Plans services that ask for it: a snapshot, a decision in the child process, a Plan object for each service.

Few are planned together, the most important first, and each batch takes what the ones before left. Where one does not
fit, it is planned anew together with all services of lower priority, which then may lose their places. What does not
fit as a whole gets the largest part of its load that does, or keeps what runs where that carries more, and is told why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from controller.capacity import capacity_per_s
from controller.cluster import Running
from controller.decision import decision_id
from controller.demand import Fleet, ask
from controller.facts import Facts
from controller.plan_child import PlanChild, PlanningFailed
from controller.plans import allocations, by_service, carried_for, counts, plan_object, planned, planned_row, read, rows
from controller.trigger import Planned, Reason
from controller.ways_out import as_object, nothing
from controller.when import text
from planner.plan import Allocation, Infeasible

Object = Mapping[str, Any]
TOGETHER = 4
_PARTS = (0.9, 0.75, 0.5, 0.25, 0.1)  # of the load of a service that does not fit as a whole
_FINE = 0.1  # between a part that fits and one that does not, to look no closer


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service to plan: why, for which rate (None: that of its spec), and what holds of it now.

    `stays_per_s`: what its replicas on nodes without faults carry. `quota`, `others`: as `Known.quota` and
    `waiting.others` say it.
    """

    key: str
    service: Object
    reason: Reason
    rate_per_s: float | None
    spec_rate_per_s: float
    old: Object | None  # its Plan
    priority: int
    faulty: frozenset[str]
    sizes: tuple[float, float] = (1.0, 1.0)  # of prompts and answers, over those of the spec
    quota: str = ""
    stays_per_s: float = 0.0
    others: str = ""

    @property
    def planned_per_s(self) -> float:
        """The rate to plan for."""
        return self.spec_rate_per_s if self.rate_per_s is None else self.rate_per_s


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of planning one service. `displaced`: what it held goes to one of higher priority.

    `part_per_s`: what allocations carry of a load that does not fit as a whole; 0: there are none, what runs goes on.
    """

    wanted: Wanted
    decision: str
    allocations: tuple[Allocation, ...] = ()
    infeasible: Infeasible | None = None
    displaced: bool = False
    part_per_s: float = 0.0


@dataclass
class Planner:
    """Decides for batches. `keep` is given each snapshot with its decision, for replay; `fleet` what there is now."""

    child: PlanChild
    fleet: Callable[[], Fleet]
    keep: Callable[[str, Object], None]

    def answers(self, wanted: Sequence[Wanted], others: Callable[[int], Sequence[Wanted]]) -> list[Answer]:
        """An answer for each; `others` gives the services of lower priority than a number. Raises PlanningFailed."""
        batch = sorted(wanted, key=lambda one: (-one.priority, one.key))
        fleet = self.fleet()
        found = self._decide(batch, fleet, ())
        if all(one.infeasible is None for one in found):
            return found
        if len(batch) == 1:
            return self._displacing(found[0], fleet, others)
        answers: list[Answer] = []
        for one in batch:
            done = {answer.wanted.key for answer in answers}
            if one.key not in done:
                answers += self._displacing(self._decide([one], _after(fleet, answers), ())[0], fleet, others)
        return answers

    def _displacing(self, refused: Answer, fleet: Fleet, others: Callable[[int], Sequence[Wanted]]) -> list[Answer]:
        """Give a service that does not fit the places of those of lower priority, which take what it leaves."""
        one = refused.wanted
        lower = sorted(others(one.priority), key=lambda other: (-other.priority, other.key))
        if refused.infeasible is None:
            return [refused]
        answers = self._decide([one], fleet, [other.key for other in lower]) if lower else [refused]
        if answers[0].infeasible is not None:  # their places do not help
            asks = one.service["spec"].get("approval") == "Manual"
            return [refused if asks else self._partly(refused, fleet, (), one.stays_per_s)]
        for place, other in enumerate(lower):
            later = [last.key for last in lower[place + 1 :]]
            try:
                found = self._decide([other], _after(fleet, answers), later)
            except PlanningFailed:  # one that nothing is known of keeps its places
                rest = [one for one in lower if one is not other]
                return self._displacing(refused, fleet, partial(_these, rest))
            (answer,) = found
            if answer.infeasible is not None:
                answer = replace(self._partly(answer, _after(fleet, answers), later), displaced=True)
            answers.append(answer)
        return answers

    def _partly(self, refused: Answer, fleet: Fleet, freed: Sequence[str], least_per_s: float = 0.0) -> Answer:
        """As much of the load of a service that runs as what is left carries, where that is more than a rate.

        Nobody is asked to approve it where the places go to a service of higher priority: all of them go else.
        """
        one, above = refused.wanted, 1.0
        least = least_per_s / one.planned_per_s if one.planned_per_s else 1.0
        for part in _PARTS if one.old is not None and _ran(one.old["spec"]) else ():
            best = refused if part <= least else self._part(refused, fleet, freed, part)
            if best is None:
                above = part
                continue
            part = max(part, least)
            while above - part > _FINE:
                middle = (part + above) / 2
                more = self._part(refused, fleet, freed, middle)
                best, part, above = (best, part, middle) if more is None else (more, middle, above)
            return best
        return refused

    def _part(self, refused: Answer, fleet: Fleet, freed: Sequence[str], part: float) -> Answer | None:
        """A plan for a part of a load; None where it does not fit either, or no answer comes."""
        part_per_s = part * refused.wanted.planned_per_s
        try:
            (found,) = self._decide([replace(refused.wanted, rate_per_s=part_per_s)], fleet, freed)
        except PlanningFailed:  # what is known of the whole stands, and so do the answers for others
            return None
        if found.infeasible is not None:
            return None
        return replace(refused, decision=found.decision, allocations=found.allocations, part_per_s=part_per_s)

    def _decide(self, batch: Sequence[Wanted], fleet: Fleet, freed: Sequence[str]) -> list[Answer]:
        """One decision for all of a batch."""
        sizes = {one.key: one.sizes for one in batch}
        taken, made = ask(fleet, [(one.key, one.service, one.rate_per_s) for one in batch], freed, sizes)
        decision = decision_id(taken)
        if not made.document["spec"]["nodeGroups"]:
            return [Answer(one, decision, infeasible=nothing(made)) for one in batch]
        self.keep(decision, taken)
        plan = read(self.child.decide(taken))
        if plan.status in ("optimal", "feasible"):
            found = by_service(plan, made.group_of)
            return [Answer(one, decision, found.get(one.key, ())) for one in batch]
        return [Answer(one, decision, infeasible=plan.infeasible or _UNKNOWN) for one in batch]


_UNKNOWN = Infeasible("no plan was found within the limits of the search", (), "")


def _ran(spec: Object) -> bool:
    """Whether a service runs by its Plan, or did before it lost its places."""
    return bool(spec.get("allocations")) or "floorPerSecond" in spec


def _these(services: Sequence[Wanted], _: int) -> Sequence[Wanted]:
    return services


def _after(fleet: Fleet, answers: Sequence[Answer]) -> Fleet:
    """The fleet once the answers are in force."""
    taken = [answer for answer in answers if answer.infeasible is None or answer.displaced or answer.part_per_s]
    decided = {answer.wanted.key: answer.allocations for answer in taken}
    return replace(fleet, decided={**fleet.decided, **decided})


def plan_of(answer: Answer, running: Sequence[Running], now_s: float, epoch: int, facts: Facts) -> Object:
    """The Plan object for an answer. What runs goes on where nothing better is known, or a person must approve."""
    one = answer.wanted
    old = {} if one.old is None else one.old["spec"]
    hardware = ".".join((facts.offered, facts.counted, *((one.others,) if answer.infeasible is not None else ())))
    made_for = Planned(
        one.planned_per_s, now_s, one.service["metadata"].get("generation", 1), hardware,
        facts.prices, one.faulty, facts.power, one.quota, one.sizes, _since_s(answer),
    )  # fmt: skip
    asked = planned_row(made_for, one.reason.cause, one.reason.text)
    kept = {
        key: old[key]
        for key in (
            "allocations", "usdPerHour", "decisionId", "floorPerSecond", "previous", "planned", "partPerSecond",
        )
        if key in old
    }  # fmt: skip
    spec: dict[str, Any] = {"decisionId": answer.decision, "epoch": epoch, "planned": asked, "allocations": []} | kept
    fresh = {
        "decisionId": answer.decision,
        "planned": asked,
        "allocations": rows(answer.allocations),
        "usdPerHour": sum((row.usd_per_hour for row in answer.allocations), 0.0),
        **({"partPerSecond": answer.part_per_s} if answer.part_per_s else {}),
    }
    if answer.infeasible is not None:
        spec |= {"epoch": epoch, "planned": asked}
        if answer.displaced or answer.part_per_s:
            spec = dict(enacted(fresh, old, running, epoch))
            spec.pop("previous", None)  # it does not fit
        if answer.displaced:
            spec["floorPerSecond"] = 0.0
        return plan_object(one.service, spec | {"infeasible": as_object(answer.infeasible)})
    if one.service["spec"].get("approval") == "Manual":
        return plan_object(one.service, spec | {"epoch": epoch, "proposal": fresh})
    return plan_object(one.service, enacted(fresh, old, running, epoch))


def _since_s(answer: Answer) -> float | None:
    """Since when neither replicas were moved nor more was planned for; None: since now."""
    old = answer.wanted.old
    before = None if old is None else planned(old)
    if old is None or before is None or answer.infeasible is not None:
        return None
    if answer.wanted.planned_per_s > before.rate_per_s:
        return None
    same = counts(answer.allocations) == counts(allocations(old["spec"].get("allocations") or ()))
    return (before.at_s if before.since_s is None else before.since_s) if same else None


def enacted(fresh: Object, old: Object, running: Sequence[Running], epoch: int) -> Object:
    """A Plan's spec with a new outcome in force: what ran before is kept to go back to, and a floor is set."""
    spec: dict[str, Any] = {**fresh, "epoch": epoch}
    if old.get("planned") is not None and old.get("allocations"):
        # A plan in the middle of a move must not take what is ready now for what may be: that would sink step by step.
        ready = max(capacity_per_s((one.kind, one.ready) for one in running), floor_of(old))
        spec["floorPerSecond"] = min(carried_for(old), carried_for(fresh), ready)
        if "infeasible" not in old and "partPerSecond" not in old:  # a part is nothing to go back to
            spec["previous"] = {
                key: old[key] for key in ("decisionId", "planned", "allocations", "usdPerHour") if key in old
            }
    return spec


def gone_back(service: Object, plan: Object, why: str, running: Sequence[Running], now_s: float, epoch: int) -> Object:
    """The Plan with what ran before in force again, as if it had been planned now for what is asked."""
    spec, before = plan["spec"], plan["spec"]["previous"]
    asked = {**spec["planned"], "at": text(now_s), "cause": "slo_missed", "reason": f"went back: {why}"[:4096]}
    asked.pop("since", None)
    back = {**enacted({**before, "planned": asked}, spec, running, epoch)}
    back.pop("previous", None)  # once: what was left is not gone back to
    return plan_object(service, back)


def floor_of(spec: Object) -> float:
    """Requests/s that must stay ready by a Plan: what was said with the decision, or all that it was made for."""
    if (said := spec.get("floorPerSecond")) is not None:
        return float(said)
    return carried_for(spec)


def rate_to_plan(reason: Reason, old: Object | None, generation: int) -> float | None:
    """The rate to plan for: what was observed, if anything was; None for that of the spec, as when it is new."""
    if reason.rate_per_s is not None:
        return reason.rate_per_s
    before = planned(old) if old is not None else None
    return before.rate_per_s if before is not None and before.generation == generation else None


def sizes_to_plan(reason: Reason, old: Object | None, generation: int) -> tuple[float, float]:
    """The sizes to plan for, over those of the spec: what was observed, if anything was."""
    if reason.sizes is not None:
        return reason.sizes
    before = planned(old) if old is not None else None
    return before.sizes if before is not None and before.generation == generation else (1.0, 1.0)


def failed(words: str) -> str:
    """What to say of a service for which planning failed."""
    return f"{words}; what runs goes on, and planning is tried again"
