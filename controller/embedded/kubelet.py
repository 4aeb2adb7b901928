"""What nodes do with the pods that they were given: start them, say when they serve, see them crash, let them go."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from controller.embedded.api import EmbeddedApi
from controller.embedded.paths import SERVED
from controller.embedded.scheduler import indices
from controller.hardware import GPU_RESOURCE, node_gpus, node_size
from controller.status import is_ready
from controller.when import seconds, text

Object = Mapping[str, Any]
GRACE_S = 150.0


@dataclass(frozen=True, slots=True)
class Care:
    """What the kubelets ask: `start_s` of a pod, whether it still has requests (`busy`), which GPUs are `broken`."""

    start_s: Callable[[Object], float]
    busy: Callable[[Object], bool]
    broken: Mapping[str, Collection[int]]


def tend(api: EmbeddedApi, care: Care, now_s: float) -> None:
    """One round over all pods that have a node."""
    for pod in api.store.items("pods"):
        node = pod["spec"].get("nodeName")
        if not node:
            continue
        if pod["metadata"].get("deletionTimestamp"):
            ended = now_s - seconds(pod["metadata"]["deletionTimestamp"]) > GRACE_S
            if ended or _crashed(pod) or not care.busy(pod):
                api.gone(("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]))
            continue
        status = _status(pod, care, now_s)
        if status is not None:
            meta = pod["metadata"]
            api.request("PUT", SERVED.need("pods").path(meta["namespace"], meta["name"], "status"), {"status": status})


def withdraw(api: EmbeddedApi, gone: Mapping[str, Collection[int]]) -> None:
    """What device plugins do: nodes offer no GPUs that their drivers have lost, or plans would count on them."""
    for node in api.store.items("nodes"):
        name, status = node["metadata"]["name"], node.get("status") or {}
        offers = node_size(node) - len(gone.get(name, ()))
        if node_gpus(node) != offers:
            left = {**(status.get("allocatable") or {}), GPU_RESOURCE: str(offers)}
            path = SERVED.need("nodes").path("", name, "status")
            api.request("PUT", path, {"status": {**status, "allocatable": left}})


def started_s(pod: Object) -> float | None:
    """When a pod's containers began; None if they did not."""
    found = (pod.get("status") or {}).get("startTime")
    return None if found is None else seconds(found)


def _status(pod: Object, care: Care, now_s: float) -> Object | None:
    """What a pod's status becomes; None where it stays as it is."""
    began_s = started_s(pod)
    if began_s is None:
        return _running(pod, text(now_s), ready=False, since=text(now_s))
    broken = set(indices(pod)) & set(care.broken.get(pod["spec"]["nodeName"], ()))
    if broken:
        return None if _crashed(pod) else _crash(pod, sorted(broken), now_s)
    if _crashed(pod):  # the GPU is well again: the engine starts anew
        return _running(pod, text(now_s), ready=False, since=text(now_s))
    if not is_ready(pod) and now_s - began_s >= care.start_s(pod):
        return _running(pod, text(began_s), ready=True, since=text(now_s))
    return None


def _running(pod: Object, began: str, ready: bool, since: str) -> Object:
    container = {
        "name": pod["spec"]["containers"][0]["name"], "ready": ready, "started": True, "restartCount": _restarts(pod),
        "state": {"running": {"startedAt": began}},
    }  # fmt: skip
    return {
        "phase": "Running",
        "startTime": began,
        "conditions": _conditions(ready, since),
        "containerStatuses": [container],
    }


def _crash(pod: Object, gpus: list[int], now_s: float) -> Object:
    words = f"CUDA error: GPU {', '.join(map(str, gpus))} does not answer"
    ended = {"exitCode": 1, "reason": "Error", "message": words, "finishedAt": text(now_s)}
    container = {
        "name": pod["spec"]["containers"][0]["name"], "ready": False, "started": False,
        "restartCount": _restarts(pod) + 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": words}}, "lastState": {"terminated": ended},
    }  # fmt: skip
    return {
        "phase": "Running",
        "startTime": (pod["status"] or {})["startTime"],
        "conditions": _conditions(False, text(now_s)),
        "containerStatuses": [container],
    }


def _conditions(ready: bool, since: str) -> list[Object]:
    said = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    return [
        {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": since}
        for kind, holds in said.items()
    ]


def _restarts(pod: Object) -> int:
    rows = (pod.get("status") or {}).get("containerStatuses") or ()
    return int(rows[0]["restartCount"]) if rows else 0


def _crashed(pod: Object) -> bool:
    rows = (pod.get("status") or {}).get("containerStatuses") or ()
    return any("waiting" in (row.get("state") or {}) for row in rows)
