"""What the leader does about one service: its spec, whether to plan it again, what stands around it, and its status."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller import names
from controller.conditions import Planning, State, status
from controller.kube.applier import Applier
from controller.kube.cache import WORKLOADS
from controller.kube.known import Known
from controller.kube.planning import enacted
from controller.kube.view import running
from controller.manifests.pod import unservable
from controller.manifests.service import around, foreign_scalers
from controller.manifests.workload import Made
from controller.plans import planned
from controller.pods import refused, trouble, worst
from controller.trigger import Reason, Seen, Verdict, judge
from controller.when import seconds

Object = Mapping[str, Any]
_CHILDREN = (*WORKLOADS, "services", "configmaps", "poddisruptionbudgets", "httproutes")
_SCALERS = ("horizontalpodautoscalers", "scaledobjects")
_STUCK_S = 60.0
_FINISH_S = 600.0


class ServiceRound:
    """Works on keys. `ask_plan`: a service wants planning; `again`: look at a key once more in so many seconds."""

    def __init__(
        self, known: Known, applier: Applier, ask_plan: Callable[[], None], again: Callable[[str, float], None]
    ) -> None:
        self._known, self._applier, self._ask_plan, self._again = known, applier, ask_plan, again

    def run(self, key: str) -> None:
        """Look at one service and write what differs."""
        obj = self._known.service(key)
        if obj is None:
            self._known.forget(key)
        elif obj["metadata"].get("deletionTimestamp"):
            self._finish(key, obj)
        elif isinstance(spec := self._known.spec(obj), list):
            self._applier.status(obj, status(obj, State(problems=spec), self._known.clock()))
        else:
            self._accepted(key, obj)

    def _accepted(self, key: str, obj: Object) -> None:
        plan = self._approved(key, obj)
        pods = self._known.cache.of(key, "pods")
        verdict, paused = Verdict(), ""
        if names.PAUSED not in (obj["metadata"].get("annotations") or {}):
            verdict = self._judged(key, obj, plan, pods)
            if verdict.reason is not None:
                self._known.want(key, verdict.reason)
        elif plan is not None and (before := planned(plan)) and before.generation != obj["metadata"].get("generation"):
            paused = "the spec changed, and changes are paused"
        made = self._known.made(obj, plan)
        state = self._state(key, obj, plan, pods, made, verdict)
        state = replace(state, planning=Planning("paused", paused)) if paused else state
        seen = self._applier.status(obj, status(obj, state, self._known.clock()))
        if verdict.reason is not None:
            self._ask_plan()
        if names.FINALIZER not in (obj["metadata"].get("finalizers") or ()):
            self._applier.finalizer(seen, present=True)
        if plan is not None:
            self._around(key, obj, made)

    def _judged(self, key: str, obj: Object, plan: Object | None, pods: Sequence[Object]) -> Verdict:
        """Whether to plan it again; a service that waits for room also asks when the room changes."""
        known, facts = self._known, self._known.facts()
        before = planned(plan) if plan is not None else None
        infeasible = plan is not None and plan["spec"].get("infeasible") is not None
        waits = infeasible or self._stuck(pods)
        counted = facts.counted if waits or before is None else before.hardware.partition(".")[2]
        seen = Seen(
            generation=obj["metadata"].get("generation", 1),
            hardware=f"{facts.offered}.{counted}",
            prices=facts.prices,
            samples=known.samples(key),
            faulty=known.faulty(key),
        )
        if infeasible and before is not None and seen.hardware != before.hardware:
            return Verdict(Reason("nodes_changed", "nodes came, went or were mended while there was no plan"))
        return judge(before, seen, known.clock(), known.settings.laws)

    def _stuck(self, pods: Sequence[Object]) -> bool:
        """Whether a pod found no place for a while."""
        now_s = self._known.clock()
        unplaced = [pod for pod in pods if not pod["spec"].get("nodeName")]
        late = [pod for pod in unplaced if now_s - seconds(pod["metadata"]["creationTimestamp"]) > _STUCK_S]
        return any(found is not None and found.reason == "WaitingForGPU" for found in (trouble(p, now_s) for p in late))

    def _planning(self, key: str, plan: Object | None) -> Planning:
        decision = "" if plan is None else str(plan["spec"].get("decisionId", ""))
        reason = self._known.wanted().get(key)
        if reason is not None:
            failed = self._known.planning_failed
            return Planning("failed" if failed else "solving", failed or reason.text, decision)
        if plan is None:
            return Planning("solving", "", decision)
        if (why := plan["spec"].get("infeasible")) is not None:
            words = "; ".join(part for part in (why["why"], why["relaxation"]) if part)
            return Planning("infeasible", words, decision)
        if (waits := plan["spec"].get("proposal")) is not None:
            words = f"approve decision {waits['decisionId']}: muster approve {key}"
            return Planning("waiting", words, decision)
        return Planning("solved", (plan["spec"].get("planned") or {}).get("reason", ""), decision)

    def _state(
        self,
        key: str,
        obj: Object,
        plan: Object | None,
        pods: Sequence[Object],
        made: Sequence[Made],
        verdict: Verdict,
    ) -> State:
        known, now_s = self._known, self._known.clock()
        by_kind: dict[str, list[Object]] = {}
        for pod in pods:
            by_kind.setdefault((pod["metadata"].get("labels") or {}).get(names.KIND, ""), []).append(pod)
        workloads = known.cache.of(key, *WORKLOADS)
        counted = [running(one, by_kind.get(one["metadata"]["name"], ()), now_s) for one in workloads]
        decided = () if plan is None else self._known.decided(plan)
        out = known.faulty(key) & known.facts().out
        unfit = next((words for one in decided if (words := unservable(obj, one))), "")
        held = [known.held.get(key, ""), "" if verdict.stale else verdict.held, *self._rivals(key, workloads)]
        in_force = plan is not None and bool(plan["spec"].get("allocations") or not plan["spec"].get("infeasible"))
        return State(
            planning=self._planning(key, plan),
            wanted={one.kind.name: one.replicas for one in made} if in_force else None,
            running=tuple(one for one in counted if one is not None),
            trouble=worst([*(trouble(pod, now_s) for pod in pods), *map(refused, workloads)]),
            held="; ".join(part for part in held if part),
            apply_error=unfit or known.errors.get(key, ""),
            stale=verdict.held if verdict.stale else "",
            heard=bool(known.samples(key)),
            faults=f"GPUs of {', '.join(sorted(out))} are faulty" if out else "",
            usd_per_hour=sum(one.usd_per_hour for one in decided) if in_force else None,
            power_w=sum(one.power_w for one in decided),
        )

    def _rivals(self, key: str, workloads: Sequence[Object]) -> list[str]:
        """Autoscalers that set replicas which Muster owns."""
        space = key.partition("/")[0]
        ours = [one["metadata"]["name"] for one in workloads]
        there = [
            one for plural in _SCALERS for one in self._known.items(plural) if one["metadata"]["namespace"] == space
        ]
        return [f"{found}, whose replicas Muster owns" for found in foreign_scalers(ours, there)]

    def _around(self, key: str, obj: Object, made: Sequence[Made]) -> None:
        """Services, budgets and the like; those of kinds that are gone are removed."""
        cache, served = self._known.cache, self._known.served
        wanted = around(obj, made, served)
        for one in wanted:
            meta = one["metadata"]
            self._applier.apply(one, cache.get(served.of(one).plural, meta["namespace"], meta["name"]))
        kept = {one["metadata"]["name"] for one in [*wanted, *cache.of(key, *WORKLOADS)]}
        for one in cache.of(key, "services"):
            if one["metadata"]["name"] not in kept:
                self._applier.delete(one)

    def _approved(self, key: str, obj: Object) -> Object | None:
        """The plan, with its proposal in force if a person approved that very one."""
        plan = self._known.plan(key)
        waits = None if plan is None else plan["spec"].get("proposal")
        if plan is None or waits is None:
            return plan
        notes = obj["metadata"].get("annotations") or {}
        if notes.get(names.APPROVED) != waits["decisionId"] and obj["spec"].get("approval") == "Manual":
            return plan
        have = [run for run in self._known.fleet().running if run.kind.service == key]
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
