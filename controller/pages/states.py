"""States of services and of GPUs as signs and words. Pure."""

import re

from controller.pages.parts import badge
from controller.pages.words import money, rate, said
from controller.web.model import Outcome, ServiceRow
from planner.units import counted

HEALTH = {  # state, word
    "ok": ("good", "healthy"), "suspect": ("soft", "suspect"), "degraded": ("warn", "degraded"),
    "faulty": ("bad", "faulty"), "lost": ("bad", "lost"), "unknown": ("soft", "not heard"),
}  # fmt: skip
_WORD = re.compile(r"[A-Z]+s?(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+")
_HARD = ("InvalidSpec", "Infeasible", "PlanFailed", "ApplyFailed", "CrashLooping", "ImagePullFailed", "QuotaExceeded")
_WORDS = {
    "NotPlanned": "To be planned", "Solving": "Planning", "Applying": "Applying", "Starting": "Starting",
    "WaitingForWeights": "Loading weights", "WaitingForGPU": "Waits for GPUs", "NotSeen": "Just submitted",
    "InvalidSpec": "Invalid spec", "Infeasible": "No plan possible", "PlanFailed": "Planning failed",
    "ApplyFailed": "Applying failed", "HardwareFault": "Hardware fault", "NoSpareCapacity": "No spare GPUs",
    "PartiallyServing": "Serves a part",
}  # fmt: skip


def state_of(row: ServiceRow) -> str:
    """A service's state as a badge."""
    state, words = state_words(row)
    return badge(state, words)


def state_words(row: ServiceRow) -> tuple[str, str]:
    """The same as a state and words."""
    if row.paused:
        return "soft", "Paused"
    if row.awaits_approval:
        return "warn", "Needs approval"
    if row.slo == "Missed":
        return "warn", "Objective missed"
    if row.ready:
        return ("good", "Serving") if row.replicas or row.replicas_ready else ("soft", "No replicas")
    if row.reason == "PartiallyServing":
        return "warn", _WORDS[row.reason]
    return "bad" if row.reason in _HARD else "soft", _WORDS.get(row.reason, spaced(row.reason))


def why_of(row: ServiceRow) -> str:
    """Why a service is not as it should be, whole; of one that needs no replica, that. Empty where all is well."""
    state, _ = state_words(row)
    if state == "good":
        return ""
    if row.ready and not row.replicas and not row.awaits_approval:
        return "The plan has no replica" + ("" if row.planned_per_s else ": at no request it needs none")
    return said(row.explained)


def waits_words(one: Outcome) -> str:
    """What a plan that waits for a person would run, and at which cost."""
    runs = f"{counted(one.replicas, 'replica')} on {counted(one.gpus, 'GPU')}"
    for_rate = f" for {rate(one.rate_per_s)}" if one.rate_per_s else ""
    return f"A plan waits for approval: {runs}{for_rate}, {money(one.usd_per_hour)}"


def spaced(reason: str) -> str:
    """`ReplicaFailed` is `Replica failed`; abbreviations stay: `SLO missed`."""
    words = _WORD.findall(reason)
    return " ".join(word if i == 0 or word.isupper() else word.lower() for i, word in enumerate(words))
