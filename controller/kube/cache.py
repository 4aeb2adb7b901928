"""All that the controller looks at, kept current: one informer for each resource, and what is kept of each object."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from controller import names
from controller.hardware import GPU_RESOURCE
from controller.kube.discovery import Served
from controller.kube.informer import Informer, Key, Object, whole
from controller.kube.rest import Api
from controller.specs import service_of
from planner.errors import MusterError

OURS = "app.kubernetes.io/managed-by=muster"
WORKLOADS = ("deployments", "statefulsets", "leaderworkersets")
_SCALERS = ("horizontalpodautoscalers", "scaledobjects")
_WATCHED: Mapping[str, str] = {
    "gpuservices": "", "plans": "", "clusterinventories": "", "powerdomains": "", "nodes": "", "pods": "",
    **dict.fromkeys((*WORKLOADS, "configmaps", "services", "poddisruptionbudgets", "httproutes"), OURS),
    **dict.fromkeys(("resourceclaimtemplates", "priorityclasses"), OURS),
    **dict.fromkeys((*_SCALERS, "resourcequotas"), ""),
}  # fmt: skip
_NEEDED = ("gpuservices", "plans", "clusterinventories", "powerdomains", "nodes", "pods", "deployments", "configmaps")
_POD_META = ("name", "namespace", "uid", "resourceVersion", "labels", "creationTimestamp", "deletionTimestamp")
_POD_SPEC = ("readinessGates", "priorityClassName", "activeDeadlineSeconds")
_NODE_META = ("name", "uid", "resourceVersion", "labels", "annotations", "creationTimestamp")

Changed = Callable[[str, Object | None, Object | None], None]
"""Called with a resource's plural and an object of it before and after."""


class Unsynced(MusterError):
    """The caches were not filled in time."""


@dataclass(frozen=True)
class World:
    """Everything as last seen, by plural; lists are of this moment."""

    objects: Mapping[str, list[Object]] = field(default_factory=dict)

    def __getitem__(self, plural: str) -> list[Object]:
        return self.objects.get(plural, [])

    @property
    def workloads(self) -> list[Object]:
        """Workloads of all kinds."""
        return [obj for plural in WORKLOADS for obj in self[plural]]


class Cache:
    """The informers of all resources that are served."""

    def __init__(self, api: Api, served: Served, changed: Changed, silent_s: float = 15.0) -> None:
        self.informers: dict[str, Informer] = {}
        self._of: dict[tuple[str, str], dict[Key, Object]] = {}  # (plural, service) -> its objects
        self._lock = threading.Lock()
        for plural in _NEEDED:
            served.need(plural)
        for plural, selector in _WATCHED.items():
            if (resource := served.get(plural)) is not None:
                trim = {"pods": pod, "nodes": node, "resourcequotas": quota}.get(plural, whole)
                made = Informer(api, resource, selector=selector, trim=trim, silent_s=silent_s)
                made.on_change(partial(self._index, plural))
                made.on_change(partial(changed, plural))
                self.informers[plural] = made

    def start(self, timeout_s: float = 60.0) -> None:
        """Fill all caches; raises Unsynced."""
        for one in self.informers.values():
            one.start()
        end_s = time.monotonic() + timeout_s
        for plural, one in self.informers.items():
            if not one.wait(max(end_s - time.monotonic(), 0.0)):
                raise Unsynced(f"{plural}: not listed within {timeout_s:g} s; see the controller's role and the server")

    def stop(self) -> None:
        """End all threads."""
        threads = [threading.Thread(target=one.stop) for one in self.informers.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def kick(self) -> None:
        """Watch everything anew: the network came back."""
        for one in self.informers.values():
            one.kick()

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """One object as last seen."""
        found = self.informers.get(plural)
        return None if found is None else found.get(namespace, name)

    def of(self, service: str, *plurals: str) -> list[Object]:
        """A service's objects of some resources, as last seen."""
        with self._lock:
            return [obj for plural in plurals for obj in self._of.get((plural, service), {}).values()]

    def _index(self, plural: str, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None or (service := service_of(obj)) == "":
            return
        key = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        with self._lock:
            mine = self._of.setdefault((plural, service), {})
            if new is None:
                mine.pop(key, None)
            else:
                mine[key] = new

    def world(self) -> World:
        """All objects as last seen."""
        return World({plural: one.items() for plural, one in self.informers.items()})


def pod(obj: dict[str, Any]) -> Object:
    """What is kept of a pod; of one that neither is ours nor has GPUs, hardly anything."""
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    containers = [
        {"name": one["name"], "resources": one.get("resources") or {}} for one in spec.get("containers") or ()
    ]
    ours = names.SERVICE in (meta.get("labels") or {})
    gpus = any(GPU_RESOURCE in (one["resources"].get("limits") or {}) for one in containers)
    head = {"apiVersion": "v1", "kind": "Pod"}
    if not (ours or gpus):
        kept = {key: meta[key] for key in ("name", "namespace", "resourceVersion")}
        return {**head, "metadata": kept, "spec": {}, "status": {}}
    return {
        **head,
        "metadata": {key: meta[key] for key in _POD_META if key in meta},
        "spec": {"nodeName": spec.get("nodeName", ""), "containers": containers, **_asked(spec)},
        "status": {key: value for key, value in status.items() if key not in ("podIPs", "hostIP", "qosClass")},
    }


def _asked(spec: Mapping[str, Any]) -> Object:
    """What tells a sidecar from an init container that has to end, and which gates and quotas a pod is under."""
    inits = [
        {key: one[key] for key in ("name", "restartPolicy") if key in one} for one in spec.get("initContainers") or ()
    ]
    rows = {"initContainers": inits, **{key: spec.get(key) for key in _POD_SPEC}}
    return {key: found for key, found in rows.items() if found}


def quota(obj: dict[str, Any]) -> Object:
    """What is kept of a ResourceQuota: not what is used of it, which pods say sooner."""
    kept = {key: obj["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": kept, "spec": obj.get("spec") or {}}


def node(obj: dict[str, Any]) -> Object:
    """What is kept of a node: no images, no addresses."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    offered = {part: status.get(part) or {} for part in ("capacity", "allocatable")}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {key: meta[key] for key in _NODE_META if key in meta},
        "spec": {key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        "status": {
            **{part: {GPU_RESOURCE: have[GPU_RESOURCE]} for part, have in offered.items() if GPU_RESOURCE in have},
            "conditions": status.get("conditions") or [],
        },
    }
