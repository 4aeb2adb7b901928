"""Why a GPUService is not as asked: causes with what blocks and how much, the most important first. Pure.

`ORDER` puts what a person must change before what the cluster lacks, and that before what only takes time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias

from controller import names, pods
from controller.cluster import Hold, Node, Running, Target
from controller.pods import Trouble
from controller.redact import shown
from controller.trigger import Verdict
from controller.unplaced import UNTRIED
from planner.units import counted

Object: TypeAlias = Mapping[str, Any]
PlanState = Literal["unplanned", "solving", "solved", "infeasible", "awaiting_approval", "failed"]

HARD = (  # does not pass by itself
    "InvalidSpec", "Infeasible", "PlanFailed", "AwaitingApproval", "ApplyFailed", "QuotaExceeded", "PodRefused",
    "ImagePullFailed", "ConfigMissing", "VolumeUnavailable", "InitFailed", "HardwareFault", "StartFailed",
    "OutOfMemory", "CrashLooping", "NodeLost", "NodeRefused", "Evicted", "Preempted", "DeadlineExceeded", "NotServing",
    "ReplicaFailed",
)  # fmt: skip
SHORT_OF = ("RivalAutoscaler", "NoSpareCapacity", "WaitingForGPU", "Unschedulable", "Queued", "Paused")
SOFT = ("NotPlanned", "Solving", "FleetBudgetSpent", "Applying", "WaitingForWeights", "Starting")
LATER = ("NotPlanned", "Solving", "Paused")
ANEW = ("AwaitingApproval", "PlanFailed")
ORDER = {reason: place for place, reason in enumerate((*HARD, *SHORT_OF, *SOFT))}
PAUSED = f"annotation {names.PAUSED} stops changes"


@dataclass(frozen=True, slots=True)
class Planning:
    """How far planning is. `generation`: of the spec that the plan in force was made for; `relaxation`: cheapest.

    `goes_on`: what serves nevertheless where there is no plan.
    """

    state: PlanState = "unplanned"
    decision: str = ""
    generation: int = 0
    message: str = ""
    relaxation: str = ""
    goes_on: str = ""
    usd_per_hour: float = 0.0
    power_w: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a status is made of. `service`: the GPUService as the API has it, its old status with it.

    `pods` and `workloads` (what makes the pods: Deployments, ReplicaSets, ...) are those of this service; `unmade`: why
    pods of some are not made. `problems`: of its spec; `refused`: what the API server said to an object of it; `held`:
    why it is not moved, the most important first; `verdict`: None where no plan is in force; `faults`: GPUs of its plan
    that are faulty, in words; `bounded`: what of the spec counts for less than it says; `missed`: by how much
    objectives are.
    """

    service: Object
    now: datetime
    problems: Sequence[str] = ()
    planning: Planning = field(default_factory=Planning)
    targets: Sequence[Target] = ()
    running: Sequence[Running] = ()
    nodes: Sequence[Node] = ()
    pods: Sequence[Object] = ()
    workloads: Sequence[Object] = ()
    unmade: Sequence[Trouble] = ()
    refused: str = ""
    held: Sequence[Hold] = ()
    verdict: Verdict | None = None
    faults: str = ""
    paused: bool = False
    slo: str = ""
    bounded: str = ""
    missed: str = ""

    @property
    def generation(self) -> int:
        """Of the spec as it is now."""
        return int(self.service["metadata"].get("generation") or 0)

    @property
    def state(self) -> PlanState:
        """A plan for an older spec is no plan yet."""
        old = self.planning.state == "solved" and self.planning.generation < self.generation
        return "solving" if old else self.planning.state

    @property
    def planned(self) -> bool:
        """Whether a plan is in force, be it of an older spec or one of no replicas."""
        return bool(self.targets) or self.state == "solved"

    @property
    def current(self) -> bool:
        """Whether the plan in force is of the spec as it is now."""
        return bool(self.targets) and self.planning.generation >= self.generation and not self.problems

    def ready(self, target: Target) -> int:
        """Replicas of a target that serve, no more than are wanted."""
        return sum(min(one.ready, target.replicas) for one in self.running if one.kind.name == target.kind.name)

    @property
    def short(self) -> bool:
        """Whether fewer replicas serve than are planned."""
        return any(self.ready(target) < target.replicas for target in self.targets)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is not as asked. `brief` is for a column."""

    reason: str
    text: str
    brief: str = ""


def plan_cause(facts: Facts) -> Cause | None:
    """What stands between this spec and a plan in force."""
    plan = facts.planning
    if facts.problems:
        return Cause("InvalidSpec", problems_of(facts))
    if facts.state == "infeasible":
        said = [plan.goes_on, plan.message or "no plan exists"]
        said += [f"cheapest relaxation: {plan.relaxation}"] if plan.relaxation else []
        brief = [plan.goes_on, f"{plan.relaxation} would do" if plan.relaxation else "", plan.message]
        return Cause("Infeasible", "; ".join(filter(None, said)), "; ".join(filter(None, brief)))
    if facts.state == "failed":
        return Cause("PlanFailed", plan.message or "the planner failed")
    if facts.state == "awaiting_approval":
        name = facts.service["metadata"]["name"]
        asked = f"decision {plan.decision} waits: muster approve {name}"
        return Cause("AwaitingApproval", asked + (f"; {plan.message}" if plan.message else ""), asked)
    if facts.state in ("solving", "unplanned") and facts.paused:
        return Cause("Paused", f"generation {facts.generation} is not planned: {PAUSED}")
    if facts.state == "solving":
        return Cause("Solving", f"a plan for generation {facts.generation} is being worked out")
    return Cause("NotPlanned", "no plan was asked for yet") if facts.state == "unplanned" else None


def problems_of(facts: Facts) -> str:
    """All that is wrong with the spec, on one line."""
    return shown(facts.problems[0]) + "".join(f"; {shown(one)}" for one in facts.problems[1:])


def moves_of(facts: Facts) -> list[str]:
    """What the cluster was not told yet, or has not left yet: how many replicas of each kind, now and then."""
    told = {one.kind.name: one.replicas for one in facts.running}
    want = {target.kind.name: target.replicas for target in facts.targets}
    leaving = sum(one.leaving for one in facts.running)
    said = [
        f"{name}: {told.get(name, 0)} -> {want.get(name, 0)}"
        for name in sorted(told.keys() | want.keys())
        if told.get(name, 0) != want.get(name, 0)
    ]
    return said + ([f"{counted(leaving, 'replica')} leave{'s' * (leaving == 1)}"] if leaving else [])


def causes_of(facts: Facts) -> list[Cause]:
    """Why the service is not as asked, the most important first; none where it is.

    While a spec that changed is planned, what serves is ready still: that takes moments, or a person wants it so. And
    what serves is ready while a better plan of the same spec waits or failed.
    """
    found = []
    plan = plan_cause(facts)
    if (
        plan is not None
        and not (facts.planned and plan.reason in LATER)
        and not (facts.current and plan.reason in ANEW)
    ):
        found.append(plan)
    if facts.refused:
        found.append(Cause("ApplyFailed", shown(facts.refused)))
    if facts.short:
        found += _shortages(facts)
    return sorted(found, key=lambda cause: ORDER[cause.reason])


def _shortages(facts: Facts) -> list[Cause]:
    """Why fewer replicas serve than are planned."""
    found = _of_pods(facts)
    if facts.faults:
        found.append(Cause("HardwareFault", facts.faults))
    found += [Cause(one.reason, one.text) for one in facts.held]
    if facts.paused:
        found.append(Cause("Paused", PAUSED))
    elif told := moves_of(facts):
        found.append(Cause("Applying", "; ".join(told)))
    return found or [Cause("Starting", "its pods are not seen yet")]


def _of_pods(facts: Facts) -> list[Cause]:
    """What is wrong with pods and with what makes them; one cause for a reason.

    A pod that ended stays until it is swept away, so one that still lives and fails is asked first.
    """
    wanted = {target.kind.name for target in facts.targets}
    found = [(one, False) for one in (*map(pods.refusal, facts.workloads), *facts.unmade)]
    for pod in facts.pods:
        if pods.kind_of(pod) in (*wanted, ""):
            found.append(
                (_by_room(facts, pod, pods.trouble(pod, facts.now)), (pod.get("status") or {}).get("phase") == "Failed")
            )
    known = [(one, ended) for one, ended in found if one is not None]
    live = any(not ended and one.reason in HARD for one, ended in known)
    groups: dict[str, list[pods.Trouble]] = {}
    for one, ended in sorted(known, key=lambda row: row[0].of):
        if not (ended and live):
            groups.setdefault(one.reason, []).append(one)
    return [_grouped(facts, troubles) for troubles in groups.values()]


def _by_room(facts: Facts, pod: Object, found: Trouble | None) -> Trouble | None:
    """The same, and where no scheduler says why a pod has no place, what the nodes' free GPUs say."""
    if found is None or found.text != UNTRIED:
        return found
    need, kind = pods.gpus(pod), next((one.kind for one in facts.targets if one.kind.name == pods.kind_of(pod)), None)
    if kind is None or fits(facts.nodes, kind.node_group, need):
        return found
    text = f"needs {counted(need, 'GPU')} in one node of {kind.node_group}, none has {'it' if need == 1 else 'them'}"
    return replace(found, reason="WaitingForGPU", text=text)


def fits(nodes: Sequence[Node], group: str, gpus: int) -> bool:
    """Whether a node of a group has so many GPUs free, or none is known."""
    return not nodes or any(node.free >= gpus for node in nodes if node.group == group)


def _grouped(facts: Facts, troubles: Sequence[pods.Trouble]) -> Cause:
    first, more = troubles[0], len(troubles) - 1
    gpus = _gpus_missing(facts, troubles) if first.reason == "WaitingForGPU" else ""
    text = f"{gpus}{'; ' if gpus else ''}{first}" + (f" (and {more} more)" if more else "")
    return Cause(first.reason, text, gpus or first.text)


def _gpus_missing(facts: Facts, troubles: Sequence[pods.Trouble]) -> str:
    """What the waiting pods need and their nodes have: `needs 16 H200 in pool-a, 8 free, at most 4 in one node`."""
    waiting = {one.of.removeprefix("pod ") for one in troubles}
    kinds = {target.kind.name: target.kind for target in facts.targets}
    need: dict[str, list[int]] = {}
    gpu: dict[str, str] = {}
    for pod in facts.pods:
        kind = kinds.get(pods.kind_of(pod))
        if kind is not None and pod["metadata"]["name"] in waiting:
            need.setdefault(kind.node_group, []).append(pods.gpus(pod))
            gpu[kind.node_group] = _gpu(kind.recipe)
    said = []
    for group, each in sorted(need.items()):
        free = [node.free for node in facts.nodes if node.group == group]
        most = max(free, default=0)
        said.append(f"needs {sum(each)} {gpu[group]} in {group}, {sum(free)} free, at most {most} in a node")
    return "; ".join(said) if facts.nodes else ""


def _gpu(recipe: str) -> str:
    """The GPU of a recipe in words, such as `2xL4 tp2`."""
    first = recipe.split(" ")[0]
    count, _, name = first.partition("x")
    return name if count.isdecimal() and name else first or "GPUs"
