"""Events (events.k8s.io) of what Muster does: stable reasons, at most one write a minute for each object and reason.

`tell` only remembers, so that it can neither block nor break who calls it; `flush` writes, and `run` flushes until it
is told to stop. What is told again meanwhile is counted, and written as the series of the same event; other words of
the same reason wait for the minute to be over, the latest of them, but for decisions (`_EACH`), of which none is left
out. Memory is bounded: what was told longest ago is
forgotten first.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, TypeAlias

from controller import names
from controller.kube.discovery import Served
from controller.kube.rest import MERGE, ApiError, Requests
from controller.redact import hidden
from controller.status import condition
from planner.errors import MusterError

Object: TypeAlias = Mapping[str, Any]

REASONS: Mapping[str, str] = {  # reason -> type; people's alerts name them, so none is ever renamed
    "SpecRefused": "Warning",
    "PlanSolved": "Normal",
    "PlanInfeasible": "Warning",
    "PlanFailed": "Warning",
    "ApprovalNeeded": "Normal",
    "ApplyFailed": "Warning",
    "ReplicaFailed": "Warning",
    "Replanned": "Normal",
    "SLOMissed": "Warning",
    "SLOMet": "Normal",
    "RebalanceHeld": "Warning",
    "MoveStarted": "Normal",
    "MoveCompleted": "Normal",
    "MoveRolledBack": "Warning",
    "GPUFaultDetected": "Warning",
    "NodeQuarantined": "Warning",
    "NodeReturned": "Normal",
    "NodeLost": "Warning",
    "NodeFound": "Normal",
    "BrakeEngaged": "Warning",
    "DrainBlocked": "Warning",
    "BurnInStarted": "Normal",
    "BurnInPassed": "Normal",
    "BurnInFailed": "Warning",
    "PowerCapApplied": "Normal",
    "PowerLimitsOverBudget": "Warning",
    "OverrunDetected": "Warning",
    "TelemetryStale": "Warning",
    "LeaderChanged": "Normal",
}
_EACH = (  # decisions, and where a move begins and ends: each is told, at once, so that they come in their order
    "Replanned", "MoveStarted", "MoveCompleted", "MoveRolledBack", "NodeQuarantined", "NodeReturned",
)  # fmt: skip
_EVERY_S = 60.0
_FORGET_S = 600.0  # told again after that long, it is another event
_WRITE_S = 2.0
_MOST = 4096
_MOST_NOTE = 1024
_MOST_NAME = 200
_CLUSTER = "kube-system"  # of events about what has no namespace: the only one that every version of the server takes


class UnknownReason(MusterError):
    """A reason that is not in `REASONS`."""


@dataclass(slots=True)
class _Told:
    """What is counted together: the event that stands in the cluster for it, and what was told since."""

    about: Object
    reason: str
    note: str
    seen: datetime
    seen_s: float
    count: int = 1  # since the event in the cluster was first told
    pending: bool = True
    tried_s: float | None = None
    name: str = ""  # of the event in the cluster, with `said` as its note
    said: str = ""


class Events:
    """What was told and is to be written. Thread-safe. `clock` in seconds, `wall` in UTC."""

    def __init__(
        self,
        api: Requests,
        served: Served,
        instance: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        most: int = _MOST,
    ) -> None:
        self._api, self._served, self._instance = api, served, instance[:128]
        self._clock, self._wall, self._most = clock, wall, most
        self._lock = threading.Lock()
        self._told: OrderedDict[tuple[str, str, str], _Told] = OrderedDict()
        self.writes = self.failed = self.forgotten = 0

    def __len__(self) -> int:
        return len(self._told)

    def tell(self, about: Object, reason: str, note: str) -> None:
        """Remember that something happened to an object; raises UnknownReason."""
        if reason not in REASONS:
            raise UnknownReason(f"event: got reason {reason!r}, allowed: one of {', '.join(REASONS)}")
        note, now_s = hidden(note)[:_MOST_NOTE] or reason, self._clock()
        meta = about["metadata"]
        which = note if reason in _EACH else ""
        key = (str(meta.get("uid") or f"{about.get('kind')}/{meta.get('namespace')}/{meta['name']}"), reason, which)
        with self._lock:
            one = self._told.pop(key, None)
            if one is None or (not one.pending and now_s - one.seen_s > _FORGET_S):
                one = _Told(about, reason, note, self._wall(), now_s, tried_s=one.tried_s if one else None)
            else:
                one.count = one.count + 1 if note == one.note else 1
                one.about, one.note, one.seen, one.seen_s, one.pending = about, note, self._wall(), now_s, True
            self._told[key] = one
            while len(self._told) > self._most:
                self._told.popitem(last=False)
                self.forgotten += 1

    def flush(self) -> None:
        """Write what is due. What can't be written now is tried again a minute later, or given up where refused."""
        now_s = self._clock()
        with self._lock:
            due = [
                one
                for one in self._told.values()
                if one.pending and (one.tried_s is None or now_s - one.tried_s >= _EVERY_S)
            ]
        for one in due:
            with self._lock:
                one.pending, one.tried_s = False, now_s
                note, count, seen = one.note, one.count, one.seen
            try:
                self._write(one, note, count, seen)
            except ApiError as error:
                self.failed += 1
                passes = error.status in (0, 429) or error.status >= 500
                with self._lock:
                    one.pending = one.pending or passes
                if passes:
                    return  # the server has trouble enough
            except MusterError:  # a server without events
                self.failed += 1

    def run(self, stop: threading.Event, every_s: float = 1.0) -> None:
        """Flush until told to stop, and once more."""
        while not stop.wait(every_s):
            self.flush()
        self.flush()

    def _write(self, one: _Told, note: str, count: int, seen: datetime) -> None:
        events = self._served.need("events")
        space = str(one.about["metadata"].get("namespace") or _CLUSTER)
        if one.name and one.said == note:
            body = {"series": {"count": max(count, 2), "lastObservedTime": _micro(seen)}}
            try:
                self._send("PATCH", events.path(space, one.name), body, MERGE)
            except ApiError as error:
                if error.status != 404:  # events are swept away after an hour
                    raise
            else:
                return
        made = self._event(one, events.version, space, note, seen)
        self._send("POST", events.path(space), made)
        one.name, one.said = made["metadata"]["name"], note

    def _send(self, method: str, path: str, body: Object, content_type: str = "application/json") -> None:
        self.writes += 1
        self._api.request(method, path, body, content_type=content_type, timeout_s=_WRITE_S)

    def _event(self, one: _Told, version: str, space: str, note: str, seen: datetime) -> dict[str, Any]:
        meta = one.about["metadata"]
        regarding = {
            "apiVersion": one.about.get("apiVersion"), "kind": one.about.get("kind"), "name": meta["name"],
            "namespace": meta.get("namespace"), "uid": meta.get("uid"), "resourceVersion": meta.get("resourceVersion"),
        }  # fmt: skip
        return {
            "apiVersion": version,
            "kind": "Event",
            "metadata": {"name": f"{meta['name'][:_MOST_NAME].rstrip('.-')}.{token_hex(8)}", "namespace": space},
            "eventTime": _micro(seen),
            "type": REASONS[one.reason],
            "reason": one.reason,
            "action": one.reason,
            "note": note,
            "regarding": {key: value for key, value in regarding.items() if value},
            "reportingController": f"{names.GROUP}/controller",
            "reportingInstance": self._instance,
        }


def _micro(at: datetime) -> str:
    """A MicroTime: six digits, or old servers refuse it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


_OF_CONDITIONS = {  # condition, status, reason (any where empty) -> reason of the event
    ("Accepted", "False", ""): "SpecRefused",
    ("Planned", "True", "Solved"): "PlanSolved",
    ("Planned", "True", "AwaitingApproval"): "ApprovalNeeded",
    ("Planned", "False", "Infeasible"): "PlanInfeasible",
    ("Planned", "False", "PlanFailed"): "PlanFailed",
    ("Applied", "False", "ApplyFailed"): "ApplyFailed",
    ("Applied", "False", "Applying"): "MoveStarted",
    ("Degraded", "True", "HardwareFault"): "GPUFaultDetected",
    ("Degraded", "True", "SLOMissed"): "SLOMissed",
    ("Degraded", "True", ""): "ReplicaFailed",
    ("RebalanceHeld", "True", ""): "RebalanceHeld",
    ("TelemetryFresh", "False", ""): "TelemetryStale",
}


def of_change(old: Object | None, new: Object) -> list[tuple[str, str]]:
    """Reasons and notes of the events that a change of a service's status is worth.

    A condition is told of when its status or reason becomes another, not when its words do; what was so in the first
    status is told of too.
    """
    before = {row["type"]: (row["status"], row["reason"]) for row in (old or {}).get("conditions") or ()}
    said = []
    for row in new["conditions"]:
        state = (row["status"], row["reason"])
        event = _OF_CONDITIONS.get((row["type"], *state)) or _OF_CONDITIONS.get((row["type"], row["status"], ""))
        if event is not None and state != before.get(row["type"]):
            said.append((event, row["message"]))
    if (done := _completed(old, new)) is not None:
        said.append(("MoveCompleted", done))
    if _slo(old).startswith("missed") and _slo(new).startswith("met"):
        said.append(("SLOMet", "latency objectives hold again"))
    if old is not None and old.get("plan") != new.get("plan") and not any(name == "PlanSolved" for name, _ in said):
        said += [
            ("PlanSolved", r["message"]) for r in new["conditions"] if (r["type"], r["reason"]) == ("Planned", "Solved")
        ]
    return said


def _completed(old: Object | None, new: Object) -> str | None:
    """What is said of a move that has ended: its objects are as planned, and its replicas serve.

    Replicas that failed and serve again are no move: there the objects were as planned before anything was missing.
    """
    applied, ready = _row(new, "Applied"), _row(new, "Ready")
    was_applied, was_ready = _row(old, "Applied"), _row(old, "Ready")
    if not (_up_to_date(applied) and ready.get("status") == "True"):
        return None
    if _up_to_date(was_applied):
        if was_ready.get("status") != "False":
            return None
        if was_applied.get("lastTransitionTime", "") < was_ready.get("lastTransitionTime", ""):
            return None
    return f"{applied['message']}; {ready['message']}"


def _row(status: Object | None, kind: str) -> Object:
    return condition({"status": status}, kind)


def _up_to_date(applied: Object) -> bool:
    return (applied.get("status"), applied.get("reason")) == ("True", "UpToDate")


def _slo(status: Object | None) -> str:
    return str((status or {}).get("slo", "")).lower()
