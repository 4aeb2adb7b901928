"""Why pods of StatefulSets and LeaderWorkerSets are not made: their own status does not say, but events do.

Events are never watched. Only while a workload has had fewer pods than it asks for, those of its namespace about
StatefulSets that failed to make a pod are listed once in a while.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from controller import names
from controller.kube.rest import ApiError, Requests
from controller.pods import Trouble, not_made
from controller.when import seconds

Object = Mapping[str, Any]
_PATIENCE_S = 5.0  # until pods of a workload that is new are missed
_EVERY_S = 10.0
_OLD_S = 1200.0  # who makes pods tries again within 1,000 s, and says so again
_WAIT_S = 2.0
_MOST = 100
_MOST_KEPT = 4096


class Unmade:
    """Asks, and keeps the answers for a while. Thread-safe."""

    def __init__(self, api: Requests) -> None:
        self._api = api
        self._kept: dict[str, tuple[float, Trouble | None]] = {}
        self._lock = threading.Lock()

    def of(self, workload: Object, pods: int, now_s: float) -> Trouble | None:
        """What keeps the pods of a workload from being made, of which there are so many; None for nothing known."""
        if not _misses(workload, pods, now_s):
            return None
        meta = workload["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        with self._lock:
            known = self._kept.get(key)
        if known is not None and 0 <= now_s - known[0] < _EVERY_S:
            return known[1]
        try:
            found = newest(workload, self._events(meta["namespace"]), now_s)
        except ApiError:  # a status without a reason is better than none
            found = known[1] if known is not None else None
        with self._lock:
            self._kept[key] = now_s, found
            if len(self._kept) > _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return found

    def _events(self, namespace: str) -> Sequence[Object]:
        query = {"fieldSelector": "reason=FailedCreate,involvedObject.kind=StatefulSet", "limit": str(_MOST)}
        path = f"/api/v1/namespaces/{namespace}/events"
        found: Sequence[Object] = self._api.request("GET", path, query=query, timeout_s=_WAIT_S)["items"]
        return found


def _misses(workload: Object, pods: int, now_s: float) -> bool:
    meta = workload["metadata"]
    if workload["kind"] not in ("StatefulSet", "LeaderWorkerSet") or meta.get("deletionTimestamp"):
        return False
    told = int((workload.get("spec") or {}).get("replicas") or 0)
    size = int((meta.get("annotations") or {}).get(names.SIZE, 1)) if workload["kind"] == "LeaderWorkerSet" else 1
    return pods < told * size and now_s - seconds(meta["creationTimestamp"]) > _PATIENCE_S


def newest(workload: Object, events: Sequence[Object], now_s: float) -> Trouble | None:
    """The last that was said of a workload; a LeaderWorkerSet has StatefulSets of its own, by its name and a number."""
    name, found = workload["metadata"]["name"], []
    for event in events:
        about = str((event.get("involvedObject") or {}).get("name", ""))
        base, _, number = about.rpartition("-")
        mine = about == name or (workload["kind"] == "LeaderWorkerSet" and base == name and number.isdecimal())
        at = (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
        if mine and at and now_s - seconds(at) < _OLD_S:
            found.append((seconds(at), str(event.get("message") or "")))
    if not found:
        return None
    return not_made(max(found)[1], f"{workload['kind']} {name}")
