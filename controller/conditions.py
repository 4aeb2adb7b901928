"""What the status of a GPUService says: counts, conditions, and why it is not as asked. Pure; `now` is given.

Equal facts give an equal status, and the time of a condition is kept while its state is, so that nothing is written
while nothing changes. For the same reason no sentence counts seconds. Every key is always there, since a writer that
compares what it owns would not see one that is left out; and no text is empty, since server-side apply of Kubernetes
1.20 makes null of an empty text and then refuses it.

`Ready` answers "why not ready" by its first cause in `ORDER`: what the person must change comes before what the cluster
lacks, and that before what only takes time. `status.why` is the same in few words, for a column. Where there is no plan
for what is asked, and replicas of another plan serve, it says both: that they do, and why there are no more.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any, TypeAlias

from controller import names
from controller.causes import HARD, LATER, PAUSED, Cause, Facts, Object, causes_of, moves_of, plan_cause, problems_of
from controller.redact import shown

NOTHING = "-"  # of a text that says nothing
_MOST_MESSAGE, _MOST_WHY = 1024, 80


def status(facts: Facts) -> dict[str, Any]:
    """The status, all keys."""
    wanted = sum(target.replicas for target in facts.targets)
    serving = sum(facts.ready(target) for target in facts.targets)
    causes = causes_of(facts)
    ready = _ready(facts, causes, wanted, serving)
    degraded, held, fresh = _degraded(facts, causes), _rebalance(facts), _fresh(facts)
    aspects = {
        "Accepted": _accepted(facts), "Planned": _planned(facts), "Applied": _applied(facts), "Ready": ready,
        "Degraded": degraded, "RebalanceHeld": held, "TelemetryFresh": fresh,
    }  # fmt: skip
    old = {row["type"]: row for row in (facts.service.get("status") or {}).get("conditions") or ()}
    return {
        "observedGeneration": facts.generation,
        "conditions": [_condition(facts, kind, *said, old.get(kind)) for kind, said in aspects.items()],
        "desiredReplicas": wanted,
        "replicas": sum(one.replicas for one in facts.running),
        "readyReplicas": sum(one.ready for one in facts.running),
        "selector": f"{names.SERVICE}={facts.service['metadata']['name']}",
        "gpus": sum(one.replicas * one.kind.gpus for one in facts.running),
        "plan": facts.planning.decision or NOTHING,
        "powerW": round(facts.planning.power_w, 3),
        "usdPerHour": round(facts.planning.usd_per_hour, 4),
        "slo": facts.slo or NOTHING,
        "why": _why(causes if ready[0] != "True" else _asides(facts, degraded, held, fresh)),
    }


Said: TypeAlias = tuple[str, str, str]  # status, reason, message


def _condition(facts: Facts, kind: str, state: str, reason: str, text: str, old: Object | None) -> dict[str, Any]:
    of_old = kind in ("Applied", "Ready", "Degraded") and facts.planned and facts.state == "solving"
    generation = facts.planning.generation if of_old and not facts.problems else facts.generation
    same = old is not None and old.get("status") == state and old.get("lastTransitionTime")
    return {
        "type": kind,
        "status": state,
        "observedGeneration": generation,
        "lastTransitionTime": same or f"{facts.now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "reason": reason,
        "message": _clip(text, _MOST_MESSAGE) or NOTHING,
    }


def _accepted(facts: Facts) -> Said:
    if facts.problems:
        return "False", "InvalidSpec", problems_of(facts)
    return "True", "Valid", "the spec was read" + (f"; {facts.bounded}" if facts.bounded else "")


def _planned(facts: Facts) -> Said:
    cause = plan_cause(facts)
    if cause is None:
        return "True", "Solved", f"decision {facts.planning.decision} is for generation {facts.planning.generation}"
    if cause.reason == "AwaitingApproval":
        return "True", cause.reason, cause.text
    return ("Unknown" if cause.reason in LATER else "False"), cause.reason, cause.text


def _applied(facts: Facts) -> Said:
    if facts.refused:
        return "False", "ApplyFailed", shown(facts.refused)
    cause = plan_cause(facts)
    if cause is not None and (not facts.planned or (cause.reason == "AwaitingApproval" and not facts.current)):
        return "False", cause.reason, cause.text
    if not (moves := moves_of(facts)):
        return "True", "UpToDate", f"the objects are those of decision {facts.planning.decision}"
    held, reason, text = _rebalance(facts)
    if held == "True":
        return "False", reason, text
    return "False", "Applying", "; ".join(moves)


def _ready(facts: Facts, causes: Sequence[Cause], wanted: int, serving: int) -> Said:
    counts = f"{serving} of {wanted} replicas serve" if wanted else "no replica is planned"
    if causes:
        some = causes[0].reason == "Infeasible" and any(one.ready for one in facts.running)
        reason = "PartiallyServing" if some else causes[0].reason
        return "False", reason, "; also ".join([one.text for one in causes[:4]]) + f"; {counts}"
    return ("True", "Serving", counts) if wanted else ("True", "ScaledToZero", "the plan has no replicas")


def _degraded(facts: Facts, causes: Iterable[Cause]) -> Said:
    if facts.faults:
        return "True", "HardwareFault", facts.faults
    of_plan = ("InvalidSpec", "Infeasible", "PlanFailed", "AwaitingApproval")
    hard = [cause for cause in causes if cause.reason in HARD and cause.reason not in of_plan]
    if hard:
        return "True", hard[0].reason, hard[0].text
    waits = [cause for cause in causes if cause.reason in ("WaitingForGPU", "Unschedulable")]
    if waits and not any(one.ready for one in facts.running):  # there is no place for anything of it
        return "True", waits[0].reason, waits[0].text
    if facts.slo.lower().startswith("missed"):
        return "True", "SLOMissed", _when_missed(facts) or facts.missed or f"latency objectives: {facts.slo}"
    return "False", "NoFault", "nothing fails"


def _when_missed(facts: Facts) -> str:
    """What was said when the objective of this spec began to be missed: figures that move change no status."""
    rows = (facts.service.get("status") or {}).get("conditions") or ()
    now = ("Degraded", "True", "SLOMissed", facts.service["metadata"].get("generation"))
    told = (row for row in rows if (row["type"], row["status"], row["reason"], row.get("observedGeneration")) == now)
    return next((str(row["message"]) for row in told), "")


def _rebalance(facts: Facts) -> Said:
    if facts.paused:
        return "True", "Paused", PAUSED
    if facts.held:
        return "True", facts.held[0].reason, "; ".join(one.text for one in facts.held)
    if facts.verdict is not None and facts.verdict.held and not facts.verdict.stale:
        return "True", "CoolingDown", "another plan is due and waits, since the last one is too recent"
    return "False", "NotHeld", "nothing is held back"


def _fresh(facts: Facts) -> Said:
    if facts.verdict is None:
        return "Unknown", "NotObserved", "nothing is heard yet: nothing serves for long, or no Prometheus is asked"
    if facts.verdict.stale:
        return "False", "Stale", "no rate was heard lately; nothing is concluded from silence"
    return "True", "Fresh", "rates and latencies are recent"


def _asides(facts: Facts, degraded: Said, held: Said, fresh: Said) -> list[Cause]:
    """What is not as it should be while everything serves."""
    said = [degraded] if degraded[0] == "True" else []
    said += [held] if held[0] == "True" else []
    said += [fresh] if fresh[0] == "False" else []
    plan = plan_cause(facts)
    said += [("Unknown", plan.reason, plan.text)] if plan is not None else []
    return [Cause(reason, text, f"{reason}: {text}") for _, reason, text in said]


def _why(causes: Sequence[Cause]) -> str:
    return _clip(causes[0].brief or causes[0].text, _MOST_WHY) if causes else NOTHING


def _clip(text: str, most: int) -> str:
    """At most so many characters on one line, cut between words."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    cut = line[: most - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[most // 2 :] else cut) + "…"
