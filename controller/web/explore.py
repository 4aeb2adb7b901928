"""Plans that are only looked at: what a service would get, what it would cost at other rates and objectives, what one
more GPU would save. All in a child process with a limit on its time; nothing is applied.

What-ifs are planned from scratch, without the price of change: they compare where two worlds would end, not the way.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from controller.demand import Fleet, ask
from controller.hardware import Offer
from controller.plan_child import PlanChild, PlanningFailed
from controller.plans import by_service, read, rows
from controller.specs import key_of
from controller.ways_out import as_object, nothing
from controller.web.model_plans import NoPlan, Outcome, PlanDiff, diff, no_plan, outcome
from controller.web.one_by_one import Busy, Late, OneByOne
from controller.web.site import Site
from controller.web.variations import Kind, loosened, variations
from planner.errors import BadInput

Object = Mapping[str, Any]
__all__ = ["ANSWER_S", "LONGEST_S", "Busy", "Curves", "DryRun", "Explained", "Explorer", "Point", "Saving", "rate_of"]
Told = Callable[[int, int], None]
LONGEST_S = 30.0  # of one question, however many plans it takes and however many others wait
ANSWER_S = 5.0  # where nobody is told how far it is
_MOST_WAITING = 4
_RATES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
_SLOS = (0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


class Decides(Protocol):
    """What makes a plan of a snapshot, such as `controller.plan_child.PlanChild`."""

    def decide(self, snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
        """The decision as an object of kind Plan; raises PlanningFailed."""

    def stop(self) -> None:
        """End for good."""


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """A way to run a replica that was not offered to the solver, and why."""

    recipe: str
    reason: str


@dataclass(frozen=True, slots=True)
class DryRun:
    """The plan that a service would get now, after `took_s` wall-clock seconds; nothing is applied.

    `diff`: against the plan in force (None: there is none, or no plan exists). `displaces`: services of lower priority
    that would be planned anew on what is left, since it only fits in their places; `displaces_unseen`: how many more,
    in namespaces that the caller may not list.
    """

    key: str
    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    outcome: Outcome | None
    bound_usd_per_hour: float | None
    diff: PlanDiff | None
    infeasible: NoPlan | None
    displaces: tuple[str, ...]
    displaces_unseen: int
    refused: tuple[RefusalRow, ...]
    took_s: float


@dataclass(frozen=True, slots=True)
class Point:
    """What a plan costs at another rate or with all latency objectives times `slo_factor`; None: there is none.

    Latencies are the worst of all requests, as predicted.
    """

    rate_per_s: float
    slo_factor: float
    usd_per_hour: float | None
    power_w: float | None
    gpus: int | None
    ttft_s: float | None
    tpot_s: float | None


@dataclass(frozen=True, slots=True)
class Curves:
    """Cost against rate and against objectives. `complete`: whether the time sufficed for every point."""

    key: str
    by_rate: tuple[Point, ...]
    by_slo: tuple[Point, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Saving:
    """What a change of one limit would save; None: it would not make a plan exist, or there is none to compare."""

    kind: Kind
    target: str
    words: str
    usd_per_hour: float | None
    saves_usd_per_hour: float | None
    power_w: float | None


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a plan costs what it does: the best from scratch, and what each loosening would save of it."""

    key: str
    usd_per_hour: float | None
    power_w: float | None
    savings: tuple[Saving, ...]
    complete: bool


def _silent(done: int, every: int) -> None:
    """Nobody waits to be told."""


class Explorer:
    """Answers questions about plans, each in `longest_s`. Thread-safe; `clock` is monotonic."""

    def __init__(self, child: Decides | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._child, self._clock = child or PlanChild(LONGEST_S), clock
        self._plans = OneByOne(_MOST_WAITING, "what-if", clock)

    def stop(self) -> None:
        """End the child process."""
        self._plans.stop()
        self._child.stop()

    def dry_run(
        self,
        site: Site,
        obj: Object,
        sees: Callable[[str], bool],
        rate_per_s: float | None = None,
        longest_s: float = LONGEST_S,
    ) -> DryRun:
        """The plan for a service that was checked, its defaults filled in. `sees`: whether the caller may know of the
        services of a namespace. Raises Busy, PlanningFailed."""
        with self._question(longest_s) as (began_s, end_s):
            key, fleet = key_of(obj), site.known.fleet()
            lower = self._lower(site, obj)
            found = self._found(fleet, obj, rate_per_s, (), end_s)
            displaced: tuple[str, ...] = ()
            if found.status == "infeasible" and lower:
                freed = self._found(fleet, obj, rate_per_s, lower, end_s)
                if freed.outcome is not None:
                    found, displaced = freed, tuple(lower)
            old = site.known.plan(key)
            change = None
            if old is not None and found.outcome is not None:
                change = diff(key, outcome(old["spec"]), found.outcome)
            seen = {space: sees(space) for space in {one.partition("/")[0] for one in displaced}}
            named = tuple(one for one in displaced if seen[one.partition("/")[0]])
            return DryRun(
                key, found.status, found.outcome, found.bound_usd_per_hour, change, found.infeasible, named,
                len(displaced) - len(named), found.refused, self._clock() - began_s,
            )  # fmt: skip

    def curves(
        self,
        site: Site,
        obj: Object,
        told: Told = _silent,
        rate_per_s: float | None = None,
        longest_s: float = LONGEST_S,
    ) -> Curves:
        """Cost against rate and objectives. `told`: plans made, and to be made. `rate_per_s` None: as planned, or as
        the spec says. Raises Busy, PlanningFailed."""
        with self._question(longest_s) as (_, end_s):
            plan = site.known.plan(key_of(obj))
            asked = ((plan or {"spec": {}})["spec"].get("planned") or {}).get("ratePerSecond")
            rate = float(rate_per_s or asked or rate_of(obj))
            fleet = site.known.fleet()
            every = [(rate * factor, 1.0) for factor in _RATES]
            every += [(rate, factor) for factor in (_SLOS if obj["spec"].get("slos") else ())]
            points: list[Point] = []
            for at_rate, slo_factor in every:
                told(len(points), len(every))
                try:
                    points.append(self._point(fleet, obj, at_rate, slo_factor, end_s))
                except Late:
                    break
            if not points:
                raise Late
            by_rate, by_slo = points[: len(_RATES)], points[len(_RATES) :]
            return Curves(key_of(obj), tuple(by_rate), tuple(by_slo), len(points) == len(every))

    def explain(self, site: Site, obj: Object, told: Told = _silent, longest_s: float = LONGEST_S) -> Explained:
        """What loosening each limit would save. `told`: as for `curves`. Raises Busy, PlanningFailed."""
        with self._question(longest_s) as (_, end_s):
            plan = site.known.plan(key_of(obj))
            asked = ((plan or {"spec": {}})["spec"].get("planned") or {}).get("ratePerSecond")
            rate_per_s = None if asked is None else float(asked)
            snapshot, made = ask(site.known.fleet(), [(key_of(obj), obj, rate_per_s)])
            snapshot = {**snapshot, "current": []}
            every = variations(snapshot)
            told(0, len(every) + 1)
            base = self._answer(key_of(obj), snapshot, made, end_s)
            savings: list[Saving] = []
            for kind, target, words, changed in every:
                told(len(savings) + 1, len(every) + 1)
                try:
                    then = self._answer(key_of(obj), changed, made, end_s)
                except Late:
                    break
                savings.append(_saving(kind, target, words, base, then))
            complete = len(savings) == len(every)
            best = base.outcome
            return Explained(
                key_of(obj), None if best is None else best.usd_per_hour, None if best is None else best.power_w,
                tuple(savings), complete,
            )  # fmt: skip

    @contextmanager
    def _question(self, longest_s: float) -> Iterator[tuple[float, float]]:
        """One question: when it began, and by when it is answered with what is known. Raises Busy, PlanningFailed."""
        with self._plans.question() as began_s:
            try:
                yield began_s, began_s + longest_s
            except Late:
                raise PlanningFailed(f"there was no plan in the allowed {longest_s:g} s, others' included") from None

    @staticmethod
    def _lower(site: Site, obj: Object) -> list[str]:
        """Services of lower priority that have a plan."""
        mine = site.known.priority(obj)
        found = (site.known.service(key_of(plan)) for plan in site.known.items("plans"))
        return [key_of(one) for one in found if one is not None and site.known.priority(one) < mine]

    def _found(
        self, fleet: Fleet, obj: Object, rate_per_s: float | None, freed: Sequence[str], end_s: float
    ) -> "_Found":
        snapshot, made = ask(fleet, [(key_of(obj), obj, rate_per_s)], freed)
        return self._answer(key_of(obj), snapshot, made, end_s)

    def _point(self, fleet: Fleet, obj: Object, rate_per_s: float, slo_factor: float, end_s: float) -> Point:
        snapshot, made = ask(fleet, [(key_of(obj), loosened(obj, slo_factor), rate_per_s)])
        best = self._answer(key_of(obj), {**snapshot, "current": []}, made, end_s).outcome
        if best is None:
            return Point(rate_per_s, slo_factor, None, None, None, None, None)
        ttft_s = max((row.ttft_s for row in best.allocations if row.ttft_s is not None), default=None)
        tpot_s = max((row.tpot_s for row in best.allocations if row.tpot_s is not None), default=None)
        return Point(rate_per_s, slo_factor, best.usd_per_hour, best.power_w, best.gpus, ttft_s, tpot_s)

    def _answer(self, key: str, snapshot: Object, made: Offer, end_s: float) -> "_Found":
        """What the child makes of a snapshot. Raises PlanningFailed, Late."""
        if not snapshot["hardware"]["spec"]["nodeGroups"]:
            return _Found("infeasible", None, None, no_plan(as_object(nothing(made))), ())
        document = self._plans.do(lambda: self._child.decide(snapshot), end_s)
        spec = document["spec"]
        refused = tuple(RefusalRow(row["recipe"], row["reason"]) for row in spec.get("refused") or ())
        try:
            plan = read(document)
        except BadInput as error:
            raise PlanningFailed(str(error)) from None
        if plan.status not in ("optimal", "feasible"):
            why = None if plan.infeasible is None else no_plan(as_object(plan.infeasible))
            return _Found(spec["status"], None, None, why, refused)
        mine = by_service(plan, made.group_of).get(key, ())
        return _Found(spec["status"], outcome({"allocations": rows(mine)}), spec.get("boundUsdPerHour"), None, refused)


@dataclass(frozen=True, slots=True)
class _Found:
    """What came of one decision."""

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    outcome: Outcome | None
    bound_usd_per_hour: float | None
    infeasible: NoPlan | None
    refused: tuple[RefusalRow, ...]


def rate_of(obj: Object) -> float:
    """The rate of a spec; 0 where it says none."""
    load = obj["spec"]["workload"]
    series = (load.get("rates") or {}).get("perSecond") or ()
    return float(load.get("ratePerSecond") or max(series, default=0.0))


def _saving(kind: Kind, target: str, words: str, base: _Found, then: _Found) -> Saving:
    best, other = base.outcome, then.outcome
    saves = None if best is None or other is None else best.usd_per_hour - other.usd_per_hour
    if other is None:
        return Saving(kind, target, words, None, None, None)
    return Saving(kind, target, words, other.usd_per_hour, saves, other.power_w)
