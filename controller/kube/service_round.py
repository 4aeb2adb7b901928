"""What the leader does about one service: its spec, whether to plan it again, what stands around it, and its status."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from controller import names
from controller.causes import Facts, Planning
from controller.ceilings import words
from controller.cluster import Hold, Kind, Target
from controller.conditions import status
from controller.demand import faulty
from controller.effect import in_part
from controller.events import of_change
from controller.kube.applier import Applier
from controller.kube.around import CLAIMS, Around
from controller.kube.cache import WORKLOADS
from controller.kube.known import Known
from controller.kube.planning import enacted, gone_back
from controller.kube.unmade import Unmade
from controller.kube.view import running
from controller.kube.waiting import cornered, others, stuck, try_again, unplaced
from controller.manifests.service import foreign_scalers
from controller.manifests.workload import Made
from controller.plans import planned
from controller.pods import Trouble
from controller.rollback import worse
from controller.specs import mean_tokens
from controller.status import ready_since_s
from controller.trigger import Seen, Verdict, judge
from controller.when import seconds
from planner.service import ServiceSpec

Object = Mapping[str, Any]
Tell = Callable[[Object, str, str], None]
"""Called with an object, a reason of `controller.events.REASONS`, and words."""

_CHILDREN = ("plans", *WORKLOADS, "services", "configmaps", "poddisruptionbudgets", "httproutes", CLAIMS)
_SCALERS = ("horizontalpodautoscalers", "scaledobjects")
_FINISH_S = 600.0


class ServiceRound:
    """Works on keys. `ask_plan`: a service wants planning; `again`: look at a key once more in so many seconds."""

    def __init__(
        self,
        known: Known,
        applier: Applier,
        ask_plan: Callable[[], None],
        again: Callable[[str, float], None],
        tell: Tell,
        unmade: Unmade | None = None,
    ) -> None:
        self._known, self._applier, self._ask_plan, self._again, self._tell = known, applier, ask_plan, again, tell
        self._unmade, self._around = unmade, Around(known, applier, again)
        self._begun_s: float | None = None

    def run(self, key: str) -> None:
        """Look at one service and write what differs."""
        self._begun_s = self._begun_s or self._known.clock()  # nothing is heard before somebody leads
        obj = self._known.service(key)
        if obj is None:
            self._known.forget(key)
        elif obj["metadata"].get("deletionTimestamp"):
            self._finish(key, obj)
        elif isinstance(spec := self._known.spec(obj), list):
            now = datetime.fromtimestamp(self._known.clock(), UTC)
            self._say(obj, Facts(obj, now, problems=spec))
        else:
            self._accepted(key, obj)

    def _accepted(self, key: str, obj: Object) -> None:
        plan = self._approved(key, obj)
        pods = self._known.cache.of(key, "pods")
        verdict = Verdict()
        if names.PAUSED not in (obj["metadata"].get("annotations") or {}):
            plan = self._gone_back(key, obj, plan)
            verdict = self._judged(key, obj, plan, pods)
            if verdict.reason is not None:
                self._known.want(key, verdict.reason)
        made = self._known.made(obj, plan)
        seen = self._say(obj, self._facts(key, obj, plan, pods, made, verdict))
        if verdict.reason is not None:
            self._ask_plan()
        if names.FINALIZER not in (obj["metadata"].get("finalizers") or ()):
            self._applier.finalizer(seen, present=True)
        if plan is not None:
            self._around.run(key, obj, made)

    def _gone_back(self, key: str, obj: Object, plan: Object | None) -> Object | None:
        """The plan, or what ran before it where it made the objective worse than it was predicted to be."""
        before = None if plan is None else planned(plan)
        if plan is None or before is None or plan["spec"].get("previous") is None:
            return plan
        if plan["spec"].get("infeasible") is not None:
            return plan  # it is missed since not all that is asked for fits
        seen = Seen(before.generation, before.hardware, before.prices, self._known.samples(key))
        why = worse(before, seen, self._known.clock(), self._known.settings.laws)
        was, now = plan["spec"]["previous"].get("planned") or {}, plan["spec"]["planned"]
        same = all(was.get(part) == now.get(part) for part in ("generation", "faulty", "power"))
        if not why or not same or before.generation != obj["metadata"].get("generation"):
            return plan  # what ran before was made for another spec, or with what is faulty now
        have = self._known.running(key)
        back = gone_back(obj, plan, why, have, self._known.clock(), self._applier.epoch)
        self._tell(obj, "MoveRolledBack", why)
        return self._applier.replace(back, plan)

    def _say(self, obj: Object, facts: Facts) -> Object:
        """Write the status, and tell of what changed in it."""
        said = status(facts)
        seen = self._applier.status(obj, said)
        if seen is not obj:
            for reason, note in of_change(obj.get("status"), said):
                self._tell(obj, reason, note)
        return seen

    def _judged(self, key: str, obj: Object, plan: Object | None, pods: Sequence[Object]) -> Verdict:
        """Whether to plan it again; a service that waits for room also asks when the room changes."""
        known, facts = self._known, self._known.facts()
        before = planned(plan) if plan is not None else None
        infeasible = plan is not None and plan["spec"].get("infeasible") is not None
        waits = infeasible or stuck(known, pods)
        counted = facts.counted if waits or before is None else before.hardware.partition(".")[2]
        seen = Seen(
            generation=obj["metadata"].get("generation", 1),
            hardware=f"{facts.offered}.{counted}",
            prices=facts.prices,
            samples=(samples := known.samples(key)),
            faulty=known.faulty(key),
            overruns=known.overruns.get(key, frozenset()) - known.planned_over.get(key, frozenset()),
            power=facts.power,
            quota=known.quota(key, None if waits or before is None else before.quota),
            mean_tokens=mean_tokens(spec) if isinstance(spec := known.spec(obj), ServiceSpec) else None,
            carried_per_s=known.carried(key, before.rate_per_s) if samples and before is not None else None,
            short_s=known.short.get(key, float("-inf")),
            asked_per_s=known.asked.get(key),
        )
        if infeasible and before is not None:
            return try_again(before, seen, partial(others, known, key), known.clock(), known.settings.laws)
        verdict = judge(before, seen, known.clock(), known.settings.laws)
        return cornered(known, verdict, before, pods, known.made(obj, plan)) if waits else verdict

    def _planning(self, key: str, obj: Object, plan: Object | None) -> Planning:
        reason, spec = self._known.wanted().get(key), {} if plan is None else plan["spec"]
        decided = () if plan is None else self._known.decided(plan)
        known = Planning(
            decision=str(spec.get("decisionId", "")),
            generation=(spec.get("planned") or {}).get("generation", 0),
            usd_per_hour=sum(one.usd_per_hour for one in decided),
            power_w=sum(one.power_w for one in decided),
        )
        if reason is not None and reason.cause != "rate_down":  # whose answer may be that nothing changes
            failed = self._known.planning_failed.get(key, "")
            return replace(known, state="failed" if failed else "solving", message=failed or reason.text)
        if plan is None:
            return known
        if (why := spec.get("infeasible")) is not None:
            goes_on = in_part(spec) or ("the plan before stays in force" if decided else "")
            return replace(known, state="infeasible", message=why["why"], relaxation=why["relaxation"], goes_on=goes_on)
        if (waits := spec.get("proposal")) is not None:
            asked = (waits.get("planned") or {}).get("reason", "")
            return replace(known, state="awaiting_approval", decision=waits["decisionId"], message=asked)
        return replace(known, state="solved")

    def _facts(
        self, key: str, obj: Object, plan: Object | None, pods: Sequence[Object], made: Sequence[Made], verdict: Verdict
    ) -> Facts:
        known, now_s = self._known, self._known.clock()
        by_kind: dict[str, list[Object]] = {}
        for pod in pods:
            by_kind.setdefault((pod["metadata"].get("labels") or {}).get(names.KIND, ""), []).append(pod)
        workloads = known.cache.of(key, *WORKLOADS)
        counted = [running(one, by_kind.get(one["metadata"]["name"], ()), now_s, (), known.lost) for one in workloads]
        # Where its pods are now, and not where they were when it was planned; of lost nodes their pods tell.
        out = faulty(known.facts().out, pods, frozenset()) - known.lost
        moves, (slo, missed) = known.held.get(key), self._slo(key)
        return Facts(
            service=obj,
            now=datetime.fromtimestamp(now_s, UTC),
            planning=self._planning(key, obj, plan),
            targets=tuple(Target(_bare(one.kind), one.replicas) for one in made),
            running=tuple(replace(one, kind=_bare(one.kind)) for one in counted if one is not None),
            nodes=known.nodes() if unplaced(pods) else (),
            pods=pods,
            workloads=workloads,
            unmade=self._not_made(workloads, by_kind, now_s),
            refused=self._refused(key, obj, plan),
            held=(*self._rivals(key, workloads), *((moves,) if moves else ())),
            verdict=verdict if plan is not None and not self._unheard(pods, verdict, now_s) else None,
            faults=self._faults(key, out),
            paused=names.PAUSED in (obj["metadata"].get("annotations") or {}),
            slo=slo,
            missed=missed,
            bounded=words(obj, known.settings.ceilings),
        )

    def _refused(self, key: str, obj: Object, plan: Object | None) -> str:
        """Why what is planned can't be applied."""
        known = self._known
        unfit = "" if plan is None else known.unservable(obj, plan)
        told = known.taken.words(key) or known.unrouted.get(key, "") or known.errors.get(key, "")
        return unfit or known.unranked.get(key, "") or told

    def _not_made(
        self, workloads: Sequence[Object], by_kind: Mapping[str, Sequence[Object]], now_s: float
    ) -> tuple[Trouble, ...]:
        """Why pods of workloads are not made whose status does not say."""
        if self._unmade is None:
            return ()
        asked = [self._unmade.of(one, len(by_kind.get(one["metadata"]["name"], ())), now_s) for one in workloads]
        return tuple(one for one in asked if one is not None)

    def _faults(self, key: str, out: Collection[str]) -> str:
        """Nodes of a service that are out, and what keeps its replicas there."""
        if not out:
            return ""
        space, mine = key.partition("/")[0], {one["metadata"]["name"] for one in self._known.cache.of(key, "pods")}
        here = {f"{space}/{name}" for name in mine}
        stay = [words for name, words in sorted(self._known.blocked.items()) if name in here]
        more = f" (and {len(stay) - 1} more)" if len(stay) > 1 else ""
        return f"GPUs of {', '.join(sorted(out))} are faulty" + (f"; {stay[0]}{more}" if stay else "")

    def _unheard(self, pods: Sequence[Object], verdict: Verdict, now_s: float) -> bool:
        """Whether nothing could be heard yet: nobody listens, or process or replicas just began."""
        since_s = max(self._begun_s or 0.0, ready_since_s(pods))
        settings = self._known.settings
        return not settings.hears or (verdict.stale and now_s - since_s < settings.laws.stale_s)

    def _slo(self, key: str) -> tuple[str, str]:
        """Whether the objectives were met when last heard, and how not; empty where that is long ago."""
        since_s = self._known.clock() - self._known.settings.laws.stale_s
        told = [one for one in self._known.samples(key) if one.slo_met is not None and one.at_s >= since_s]
        return ("", "") if not told else ("Met", "") if told[-1].slo_met else ("Missed", told[-1].missed)

    def _rivals(self, key: str, workloads: Sequence[Object]) -> list[Hold]:
        """Autoscalers that set replicas which Muster owns."""
        space = key.partition("/")[0]
        ours = [one["metadata"]["name"] for one in workloads]
        there = [
            one for plural in _SCALERS for one in self._known.items(plural) if one["metadata"]["namespace"] == space
        ]
        found = foreign_scalers(ours, there)
        return [Hold("RivalAutoscaler", f"{one}, whose replicas Muster owns") for one in found]

    def _approved(self, key: str, obj: Object) -> Object | None:
        """The plan, with its proposal in force if a person approved that very one."""
        plan = self._known.plan(key)
        waits = None if plan is None else plan["spec"].get("proposal")
        if plan is None or waits is None:
            return plan
        notes = obj["metadata"].get("annotations") or {}
        if notes.get(names.APPROVED) != waits["decisionId"] and obj["spec"].get("approval") == "Manual":
            return plan
        have = self._known.running(key)
        spec = enacted(waits, plan["spec"], have, self._applier.epoch)
        meta = {part: plan["metadata"][part] for part in ("name", "namespace", "labels", "ownerReferences")}
        wanted = {
            "apiVersion": plan["apiVersion"],
            "kind": plan["kind"],
            "metadata": meta,
            "spec": {"service": plan["spec"]["service"], **spec},
        }
        return self._applier.replace(wanted, plan)

    def _finish(self, key: str, obj: Object) -> None:
        """Take away what a deleted service left; let it go once all is gone, or after a deadline."""
        cache = self._known.cache
        children = cache.of(key, *_CHILDREN)
        for one in children:
            if not one["metadata"].get("deletionTimestamp"):
                self._applier.delete(one)
        if names.FINALIZER not in (obj["metadata"].get("finalizers") or ()):
            return
        since_s = self._known.clock() - seconds(obj["metadata"]["deletionTimestamp"])
        if (children or cache.of(key, "pods")) and since_s < _FINISH_S:
            self._again(f"service/{key}", 2.0)
        else:
            self._applier.finalizer(obj, present=False)


def _bare(kind: Kind) -> Kind:
    """A kind by its name in its namespace, as its pods' labels have it."""
    return replace(kind, name=kind.name.rpartition("/")[2])
