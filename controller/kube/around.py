"""What the leader keeps around a service's replicas: Services, budgets, claims; and templates as they were made."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from controller import names
from controller.kube.applier import Applier
from controller.kube.cache import WORKLOADS
from controller.kube.drift import Drift
from controller.kube.known import Known
from controller.manifests.service import around, claimed
from controller.manifests.workload import PEERS, Made

Object = Mapping[str, Any]
CLAIMS = "resourceclaimtemplates"
_LOG = logging.getLogger("muster")


class Around:
    """`again`: look at a key once more in so many seconds."""

    def __init__(self, known: Known, applier: Applier, again: Callable[[str, float], None]) -> None:
        self._known, self._applier, self._again = known, applier, again
        self._drift = Drift(applier, known.served)

    def run(self, key: str, obj: Object, made: Sequence[Made]) -> None:
        """Have them be so for a service; those of kinds that are gone are removed."""
        wanted = around(obj, made, self._known.served)
        before = self._known.taken.words(key)
        for one in wanted:
            self._known.taken.write(key, one, partial(self._applied, one))
        if self._known.taken.words(key) != before:
            self._again(f"service/{key}", 0.0)
        workloads = self._known.cache.of(key, *WORKLOADS)
        if names.PAUSED not in (obj["metadata"].get("annotations") or {}):
            self._set_back(workloads, made, obj)
        there = [one["metadata"]["name"] for one in workloads]  # also of kinds that are being left
        kept = {one["metadata"]["name"] for one in wanted} | {*there, *(name + PEERS for name in there)}
        kept |= claimed(workloads)  # new pods of old replicas need theirs
        for one in self._known.cache.of(key, "services", CLAIMS):
            if one["metadata"]["name"] not in kept:
                self._applier.delete(one)

    def _applied(self, wanted: Object) -> Object:
        meta, plural = wanted["metadata"], self._known.served.of(wanted).plural
        return self._applier.apply(wanted, self._known.cache.get(plural, meta["namespace"], meta["name"]))

    def _set_back(self, workloads: Sequence[Object], made: Sequence[Made], obj: Object) -> None:
        by_name = {one.name: one for one in made}
        for one in workloads:
            mine = by_name.get(one["metadata"]["name"])
            if mine is not None and self._drift.back(one, mine, obj):
                _LOG.warning("%s: its template was changed by hand and is set back", mine.kind.name)
