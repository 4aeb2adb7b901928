"""What a GPUService's status says: seven conditions, counts, and in a few words why it does not serve. Pure.

The same state gives the same status, so that nothing is written while nothing changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from controller import names
from controller.cluster import Running
from controller.crds.kinds import CONDITIONS, REASONS
from controller.pods import Trouble
from controller.when import text

Object = Mapping[str, Any]
Said = tuple[str, str, str]  # status, reason, message
_MOST_WHY, _MOST_MESSAGE = 100, 1024


@dataclass(frozen=True, slots=True)
class Planning:
    """How far planning is. `words`: why there is no plan, or what waits."""

    state: Literal["solving", "solved", "infeasible", "waiting", "paused", "failed"] = "solving"
    words: str = ""
    decision: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """All that a status is made of. `wanted`: replicas by kind, by the plan in force."""

    problems: Sequence[str] = ()
    planning: Planning = Planning()
    wanted: Mapping[str, int] | None = None
    running: Sequence[Running] = ()
    trouble: Trouble | None = None
    held: str = ""
    apply_error: str = ""
    stale: str = ""
    heard: bool = False
    faults: str = ""
    slo: str = ""
    usd_per_hour: float | None = None
    power_w: float | None = None


def status(service: Object, state: State, now_s: float) -> Object:
    """The status of a service."""
    generation = service["metadata"].get("generation", 1)
    old = {one["type"]: one for one in (service.get("status") or {}).get("conditions") or ()}
    said = _conditions(service, state)
    conditions = [_condition(kind, said[kind], old.get(kind), generation, now_s) for kind in CONDITIONS]
    replicas = sum(one.replicas for one in state.running)
    made: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": conditions,
        "desiredReplicas": sum((state.wanted or {}).values()),
        "replicas": replicas,
        "readyReplicas": sum(one.ready for one in state.running),
        "selector": f"{names.SERVICE}={service['metadata']['name']}",
        "gpus": sum(one.replicas * one.kind.gpus for one in state.running),
        "plan": state.planning.decision or "none",
        "slo": state.slo or "Unknown",
        "why": _why(said),
    }
    if state.usd_per_hour is not None:
        made |= {"usdPerHour": state.usd_per_hour, "powerW": state.power_w or 0.0}
    return made


def _condition(kind: str, said: Said, old: Object | None, generation: int, now_s: float) -> Object:
    value, reason, message = said
    since = old["lastTransitionTime"] if old is not None and old["status"] == value else text(now_s)
    return {
        "type": kind, "status": value, "reason": reason, "message": (message or REASONS[reason])[:_MOST_MESSAGE],
        "observedGeneration": generation, "lastTransitionTime": since,
    }  # fmt: skip


def _why(said: Mapping[str, Said]) -> str:
    value, reason, message = said["Ready"]
    words = reason if value == "True" or not message else f"{reason}: {message}"
    return words if len(words) <= _MOST_WHY else words[: _MOST_WHY - 3] + "..."


def _conditions(service: Object, state: State) -> dict[str, Said]:
    paused = names.PAUSED in (service["metadata"].get("annotations") or {})
    accepted: Said = ("False", "InvalidSpec", "; ".join(state.problems)) if state.problems else ("True", "Valid", "")
    planned = _planned(state)
    ready = _ready(state, accepted, planned)
    degraded: Said = ("True", "HardwareFault", state.faults) if state.faults else ("False", "NoFault", "")
    if not state.faults and state.trouble is not None and state.trouble.reason not in _PATIENCE:
        degraded = ("True", state.trouble.reason, state.trouble.text)
    held: Said = ("False", "NothingHeld", "")
    if paused:
        held = ("True", "Paused", f"the annotation {names.PAUSED} stops changes")
    elif state.held:
        held = ("True", "NoSpareCapacity" if "free GPUs" in state.held else "CoolingDown", state.held)
    fresh: Said = ("True", "Fresh", "") if state.heard and not state.stale else ("Unknown", "NeverHeard", state.stale)
    if state.stale and state.heard:
        fresh = ("False", "Stale", state.stale)
    return {
        "Accepted": accepted, "Planned": planned, "Applied": _applied(state, paused), "Ready": ready,
        "Degraded": degraded, "RebalanceHeld": held, "TelemetryFresh": fresh,
    }  # fmt: skip


_PATIENCE = ("WaitingForGPU", "WaitingForWeights")


def _planned(state: State) -> Said:
    if state.problems:
        return "False", "InvalidSpec", "; ".join(state.problems)
    planning = state.planning
    return {
        "solving": ("Unknown", "Solving", planning.words or "a plan is being worked out"),
        "solved": ("True", "Solved", planning.words),
        "infeasible": ("False", "Infeasible", planning.words),
        "waiting": ("Unknown", "AwaitingApproval", planning.words),
        "paused": ("Unknown", "Paused", planning.words),
        "failed": ("False", "PlanningFailed", planning.words),
    }[planning.state]


def _applied(state: State, paused: bool) -> Said:
    if state.apply_error:
        return "False", "ApplyFailed", state.apply_error
    if state.wanted is None:
        return "False", "NoPlan", "there is no plan to apply"
    told = {one.kind.name: one.replicas for one in state.running if one.replicas}
    if told == {name: count for name, count in state.wanted.items() if count}:
        return "True", "UpToDate", ""
    if paused:
        return "False", "Paused", "the plan differs from what runs, and changes are paused"
    missing = sum(max(count - told.get(name, 0), 0) for name, count in state.wanted.items())
    extra = sum(max(count - state.wanted.get(name, 0), 0) for name, count in told.items())
    return "False", "Applying", f"{missing} replicas to start, {extra} to stop"


def _ready(state: State, accepted: Said, planned: Said) -> Said:
    """Whether every planned replica serves; if not, what a person must mend first."""
    if accepted[0] != "True":
        return "False", accepted[1], accepted[2]
    if state.wanted is None:
        return "False", planned[1], planned[2]
    ready = {one.kind.name: one.ready for one in state.running}
    short = sum(max(count - ready.get(name, 0), 0) for name, count in state.wanted.items())
    total = sum(state.wanted.values())
    if not short and planned[0] == "True":
        return "True", "Serving", "scaled to zero" if not total else ""
    if not short:
        return ("True", "Serving", "") if planned[1] != "Infeasible" else ("False", planned[1], planned[2])
    words = f"{total - short} of {total} replicas serve"
    if state.apply_error:
        return "False", "ApplyFailed", f"{words}; {state.apply_error}"
    if state.faults:
        return "False", "HardwareFault", f"{words}; {state.faults}"
    if state.trouble is not None and state.trouble.reason not in _PATIENCE:
        return "False", state.trouble.reason, f"{words}; {state.trouble.text}"
    if planned[1] in ("Infeasible", "PlanningFailed"):
        return "False", planned[1], f"{words}; {planned[2]}"
    if state.held:
        return "False", "NoSpareCapacity", f"{words}; {state.held}"
    if state.trouble is not None:
        return "False", state.trouble.reason, f"{words}; {state.trouble.text}"
    return "False", "Applying", f"{words}; replicas are being started"
