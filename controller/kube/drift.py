"""What somebody changed by hand in a workload's template is set back: how replicas run is the plan's and the spec's."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller import names
from controller.kube.applier import Applier, covers
from controller.kube.discovery import Served
from controller.manifests.workload import Made, workload

Object = Mapping[str, Any]
_MOST_KEPT = 65_536


class Drift:
    """Sets templates back. Thread-safe.

    A server writes some values in its own way (`0.5` CPU as `500m`), so what was once set back and did not change by it
    is left alone until somebody changes it again.
    """

    def __init__(self, applier: Applier, served: Served) -> None:
        self._applier, self._served = applier, served
        self._looked: dict[str, int] = {}  # workload by UID -> its generation when it was as it should be
        self._lock = threading.Lock()

    def back(self, live: Object, made: Made, service: Object) -> bool:
        """Whether a workload had to be set back. Raises ApiError: 409 where it changed since it was seen."""
        meta = live["metadata"]
        generation = int(meta.get("generation") or 0)
        if live["kind"] == "LeaderWorkerSet" or meta.get("deletionTimestamp"):
            return False
        with self._lock:
            if self._looked.get(meta["uid"]) == generation:
                return False
        wanted = workload(_as_made(made, meta), 0, service, self._served)["spec"]["template"]
        stored = live if covers(live["spec"]["template"], wanted) else self._applier.template(live, wanted)
        with self._lock:
            self._looked[meta["uid"]] = int(stored["metadata"].get("generation") or 0)
            if len(self._looked) > _MOST_KEPT:
                self._looked.pop(next(iter(self._looked)))
        return bool(stored["metadata"].get("generation") != meta.get("generation"))


def _as_made(made: Made, meta: Object) -> Made:
    """With the deadline that a workload was made with: another prediction restarts nothing."""
    said = str((meta.get("annotations") or {}).get(names.DEADLINE, ""))
    return replace(made, pod=replace(made.pod, deadline_s=float(said))) if said.isdecimal() else made
