"""Keeps a PriorityClass for each priority that services have, and removes those that nothing uses any more."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controller.kube.applier import Applier
from controller.kube.known import Known
from controller.kube.rest import ApiError
from controller.manifests.priority import class_of, is_ours, priority_class
from controller.manifests.workload import templates
from controller.specs import key_of

Object = Mapping[str, Any]
_PLURAL = "priorityclasses"
_AGAIN_S = 30.0  # a class of ours that caches do not show is another's of that name, which is left as it is


class Priorities:
    """`workloads`: all that run, those that were just made included, since their pods need their class."""

    def __init__(self, known: Known, applier: Applier, workloads: Callable[[], Sequence[Object]]) -> None:
        self._known, self._applier, self._workloads = known, applier, workloads
        self._asked_s: dict[str, float] = {}

    def keep(self) -> dict[str, str]:
        """One round; gives the services whose class can't be made, and why. Raises ApiError where nothing can be."""
        resource = self._known.served.get(_PLURAL)
        if resource is None:
            return {}
        wanted: dict[str, list[Object]] = {}
        for obj in map(self._known.ranked, self._known.items("gpuservices")):
            if not isinstance(self._known.spec(obj), list) and (name := class_of(obj)):
                wanted.setdefault(name, []).append(obj)
        there = {one["metadata"]["name"]: one for one in self._known.items(_PLURAL) if is_ours(one)}
        failed: dict[str, str] = {}
        for name, services in wanted.items():
            if name not in there and (why := self._made(priority_class(services[0], resource))):
                failed |= {key_of(one): why for one in services}
        if unwanted := there.keys() - wanted.keys():
            used = {(one.get("spec") or {}).get("priorityClassName") for w in self._workloads() for one in templates(w)}
            for name in sorted(unwanted - used):
                self._applier.delete(there[name])
                self._asked_s.pop(name, None)
        return failed

    def _made(self, obj: Object) -> str:
        """Why a class can't be made; empty for one that is there."""
        name, now_s = obj["metadata"]["name"], self._known.clock()
        if now_s - self._asked_s.get(name, float("-inf")) < _AGAIN_S:
            return ""
        try:
            self._applier.create(obj)
        except ApiError as error:
            if error.status == 0 or error.status >= 500 or error.status == 429:
                raise
            if error.status != 409:
                return f"PriorityClass {name}: {error}"
        self._asked_s[name] = now_s
        return ""
