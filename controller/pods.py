"""What keeps a pod from serving: one reason and one sentence. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.hardware import gpus_of
from controller.when import seconds

Object = Mapping[str, Any]
_MOST = 300
_SLOW_S = 120.0
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not serve: a reason of `controller.crds.kinds.REASONS`, and what it is, for people."""

    reason: str
    text: str


def trouble(pod: Object, now_s: float) -> Trouble | None:
    """What is wrong with a pod, the most telling first; None for one that serves or is leaving."""
    meta, status = pod["metadata"], pod.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if meta.get("deletionTimestamp") or conditions.get("Ready", {}).get("status") == "True":
        return None
    name = meta["name"]
    if status.get("phase") == "Failed":
        why = status.get("message") or status.get("reason") or "failed"
        return _said("ReplicaFailed", f"pod {name}: {status.get('reason') or 'Failed'}: {why}")
    if (scheduled := conditions.get("PodScheduled")) is not None and scheduled["status"] == "False":
        return _unplaced(pod, scheduled)
    for one in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        if (found := _container(name, one)) is not None:
            return found
    if conditions.get("PodReadyToStartContainers", {}).get("status") == "False" or not status.get("containerStatuses"):
        waits_s = now_s - seconds(meta["creationTimestamp"])
        if waits_s > _SLOW_S:
            return _said("ReplicaFailed", f"pod {name}: containers not created after {waits_s:.0f} s: see its volumes")
    ready = conditions.get("Ready", {})
    if ready.get("reason") in ("NodeLost", "NodeNotReady") or status.get("reason") == "NodeLost":
        return _said("HardwareFault", f"pod {name}: node {pod['spec'].get('nodeName')} is not ready")
    return _said("WaitingForWeights", f"pod {name}: the engine loads its weights")


def _unplaced(pod: Object, scheduled: Object) -> Trouble:
    """The scheduler's own words, with what the pod asks for before them."""
    text = str(scheduled.get("message") or "not scheduled yet")
    if "persistentvolumeclaim" in text.lower():
        return _said("WaitingForWeights", f"pod {pod['metadata']['name']}: {text}")
    return _said("WaitingForGPU", f"pod {pod['metadata']['name']} needs {gpus_of(pod)} GPUs in one node: {text}")


def _container(pod: str, status: Object) -> Trouble | None:
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    waiting, ended = state.get("waiting") or {}, state.get("terminated")
    reason = waiting.get("reason", "")
    if reason in _IMAGE:
        return _said("ImageFailed", f"pod {pod}: {reason}: {waiting.get('message') or 'the image cannot be pulled'}")
    if reason in _CONFIG:
        return _said("ReplicaFailed", f"pod {pod}: {reason}: {waiting.get('message') or ''}")
    if (over := ended or (last if reason == "CrashLoopBackOff" else None)) is not None and over.get("exitCode"):
        times = int(status.get("restartCount", 0))
        why = over.get("reason") or "Error"
        tail = f" {str(over.get('message')).strip()}" if over.get("message") else ""
        text = f"pod {pod}: container {status['name']} exited with {over['exitCode']} ({why}), {times} restarts{tail}"
        return _said("OutOfMemory" if why == "OOMKilled" else "ReplicaFailed", text)
    if reason == "CrashLoopBackOff":
        return _said("ReplicaFailed", f"pod {pod}: container {status['name']} crashes again and again")
    return None


def refused(workload: Object) -> Trouble | None:
    """Why a workload could not make its pods (quota, Pod Security, admission)."""
    for one in (workload.get("status") or {}).get("conditions") or ():
        if one["type"] == "ReplicaFailure" and one["status"] == "True":
            return _said("PodsRefused", f"{workload['metadata']['name']}: {one.get('reason')}: {one.get('message')}")
    return None


_ORDER = (
    "HardwareFault", "PodsRefused", "ImageFailed", "OutOfMemory", "ReplicaFailed", "WaitingForGPU", "WaitingForWeights",
)  # fmt: skip


def worst(troubles: Iterable[Trouble | None]) -> Trouble | None:
    """The one to show: what a person must mend before what time mends."""
    found = [one for one in troubles if one is not None]
    return min(found, key=lambda one: (_ORDER.index(one.reason), one.text)) if found else None


def _said(reason: str, text: str) -> Trouble:
    return Trouble(reason, " ".join(text.split())[:_MOST])
