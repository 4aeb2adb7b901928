"""What is wrong with a pod, or with the object that should have made it: one reason and one sentence. Pure.

Objects are plain dicts as the API has them. A sentence says the same at every look while nothing changes: what moves is
named by when it began, never by how long ago. Words of a kubelet are shown without what may be a secret; what a
container itself wrote is never shown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from controller import names
from controller.redact import shown
from controller.status import condition
from controller.status import is_ready as says_ready
from controller.unplaced import GPU, unplaced

Object: TypeAlias = Mapping[str, Any]

CREATING = timedelta(minutes=5)  # a container that is made for longer waits for something, most often a volume
LOADING = timedelta(minutes=30)  # weights of the largest models come from a slow store in less
_KILLED = 128  # exit codes above it: killed by the signal that is the rest
_SERVED = timedelta(minutes=1)  # not ready so long after its start: it was ready in between
_IMAGE = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something does not serve: a key of `controller.crds.reasons.REASONS`, and a sentence. `of`: whose it is."""

    reason: str
    text: str
    of: str = ""

    def __str__(self) -> str:
        return f"{self.of}: {self.text}" if self.of else self.text


def is_ready(pod: Object) -> bool:
    """Whether a pod serves."""
    return says_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def trouble(pod: Object, now: datetime) -> Trouble | None:
    """Why a pod does not serve; None where it does, has ended well, or was told to leave."""
    meta, status = pod["metadata"], pod.get("status") or {}
    lost = status.get("reason") in ("NodeLost", "NodeUnreachable")
    if ("deletionTimestamp" in meta and not lost) or status.get("phase") == "Succeeded" or is_ready(pod):
        return None
    found = (
        _ended(pod)
        or unplaced(pod, condition(pod, "PodScheduled"), gpus(pod))
        or _containers(pod, now)
        or _loading(pod, now)
    )
    return Trouble(found[0], found[1], f"pod {meta['name']}")


def refusal(workload: Object) -> Trouble | None:
    """Why a Deployment, ReplicaSet or StatefulSet gets no pods: the server refuses to make them."""
    failure = condition(workload, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    of = f"{workload.get('kind', 'workload')} {workload['metadata']['name']}"
    return not_made(str(failure.get("message") or failure.get("reason") or ""), of)


def not_made(said: str, of: str) -> Trouble:
    """What the server said when it refused to make a pod of something."""
    words = shown(said) or "no reason given"
    if "exceeded quota" in words:
        return Trouble("QuotaExceeded", _quota(words), of)
    _, _, why = words.partition("forbidden: ")
    if "PodSecurity" in words:
        return Trouble("PodRefused", f"pods are refused: {why or words}", of)
    return Trouble("PodRefused", f"pods can't be made: {why or words}", of)


def _quota(words: str) -> str:
    """The server's `exceeded quota: q, requested: a=8, used: a=4, limited: a=8`, in our order."""
    found = re.search(r"exceeded quota: ([^,]+), requested: (.+), used: (.+), limited: (.+)", words)
    if found is None:
        return f"the namespace's quota is spent: {words}"
    counts = [dict(pair.split("=", 1) for pair in part.split(",") if "=" in pair) for part in found.groups()[1:]]
    said = [
        f"needs {asked} {what.removeprefix('requests.')}, {counts[1].get(what, '?')} of {counts[2].get(what, '?')} used"
        for what, asked in counts[0].items()
    ]
    return f"quota {found[1]} is spent: {'; '.join(said)}"


def _ended(pod: Object) -> tuple[str, str] | None:
    """A pod that ended, or whose node did."""
    status = pod.get("status") or {}
    reason, words = str(status.get("reason") or ""), shown(str(status.get("message") or ""))
    node = pod.get("spec", {}).get("nodeName") or "its node"
    since = condition(pod, "DisruptionTarget")
    target = str(since.get("reason") or "") if since.get("status") == "True" else ""
    if reason in ("NodeLost", "NodeUnreachable", "NodeNotReady") or target == "DeletionByTaintManager":
        return "NodeLost", f"node {node} does not answer" + (f": {words}" if words else "")
    if condition(pod, "Ready").get("reason") == "NodeNotReady":
        return "NodeLost", f"node {node} is not ready"
    if reason == "Preempted" or reason == "Preempting" or target == "PreemptionByScheduler":
        return "Preempted", f"gave way to a pod of higher priority on {node}" + (f": {words}" if words else "")
    if reason == "Evicted" or target in ("TerminationByKubelet", "EvictionByEvictionAPI"):
        return "Evicted", f"evicted from {node}" + (f": {words}" if words else "")
    if reason == "DeadlineExceeded":
        return "DeadlineExceeded", f"ran longer than its deadline allows on {node}" + (f": {words}" if words else "")
    if reason in ("UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "OutOfpods", f"OutOf{GPU}"):
        return "NodeRefused", f"node {node} refused it: {reason}" + (f": {words}" if words else "")
    if status.get("phase") == "Failed":
        died = _died(_statuses(pod))
        return died or ("ReplicaFailed", f"failed on {node}: {reason or 'no reason given'}" + (words and f": {words}"))
    return None


def _died(containers: list[Object]) -> tuple[str, str] | None:
    """The first container that ended by itself, with its code."""
    for one in containers:
        for state in (one.get("state") or {}, one.get("lastState") or {}):
            end = state.get("terminated")
            if end and (end.get("exitCode") or end.get("reason") not in ("Completed", None)):
                return _exit(one, end)
    return None


def _exit(container: Object, end: Object) -> tuple[str, str]:
    """How a container ended: its code, the kubelet's reason, and how often it was started again."""
    code, reason = int(end.get("exitCode") or 0), str(end.get("reason") or "Error")
    times = int(container.get("restartCount") or 0) + ("running" not in (container.get("state") or {}))
    often = f" {times} times" if times > 1 else ""
    signal = f", signal {code - _KILLED}" if code > _KILLED and reason != "OOMKilled" else ""
    text = f"container {container['name']} exited with {code} ({reason}{signal}){often}"
    if reason == "OOMKilled":
        return "OutOfMemory", text
    if reason in ("StartError", "ContainerCannotRun"):  # the runtime's words, not the container's
        return "StartFailed", f"{text}: {shown(str(end.get('message') or 'no message'))}"
    return "CrashLooping" if container.get("restartCount") else "ReplicaFailed", text


def _containers(pod: Object, now: datetime) -> tuple[str, str] | None:
    """A container that can't start or does not stay; init containers first, since the others wait for them."""
    status = pod.get("status") or {}
    specs = pod.get("spec", {}).get("initContainers") or ()
    beside = {one["name"] for one in specs if one.get("restartPolicy") == "Always"}  # sidecars, which stay
    for one in status.get("initContainerStatuses") or ():
        state = one.get("state") or {}
        if (waits := _waiting(one)) is not None:
            return waits
        if "terminated" in state and not state["terminated"].get("exitCode"):
            continue
        if (died := _died([one])) is not None:
            return died[0] if died[0] == "OutOfMemory" else "InitFailed", f"init {died[1]}"
        if "running" in state and one["name"] not in beside:
            since = _time(state["running"].get("startedAt"))
            return "WaitingForWeights", f"init container {one['name']} runs" + (
                f" since {_clock(since)}" if since else ""
            )
    running = list(status.get("containerStatuses") or ())
    for one in running:
        waits = _waiting(one)
        if waits is not None:
            return waits
    died = _died([one for one in running if not one.get("ready")])
    if died is not None:
        return died
    waiting = [one for one in running if (one.get("state") or {}).get("waiting")]
    since = _time(status.get("startTime"))
    if waiting or not running:
        busy = str((waiting[0]["state"]["waiting"].get("reason") if waiting else "") or "ContainerCreating")
        said = shown(str(waiting[0]["state"]["waiting"].get("message") or "")) if waiting else ""
        if busy == "CrashLoopBackOff":
            return "CrashLooping", f"container {waiting[0]['name']} ends by itself, with code 0, again and again"
        if since is not None and now - since > CREATING and busy in ("ContainerCreating", "PodInitializing"):
            text = f"{busy} since {_clock(since)}, as when a volume can't be mounted"
            return "VolumeUnavailable", text + (f": {said}" if said else "")
        return "Starting", f"{busy}" + (f" since {_clock(since)}" if since else "") + (f": {said}" if said else "")
    return None


def _waiting(container: Object) -> tuple[str, str] | None:
    """What a container waits for that will not come by itself."""
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, words = str(waiting.get("reason") or ""), shown(str(waiting.get("message") or ""))
    name = container["name"]
    if reason in _IMAGE:
        return "ImagePullFailed", f"{reason}: {shown(str(container.get('image', '?')))}{_pull(words)}"
    if reason in _CONFIG:
        kind = "ConfigMissing" if reason == "CreateContainerConfigError" else "StartFailed"
        return kind, f"container {name}: {words or 'no message'} ({reason})"
    return None


def _pull(words: str) -> str:
    """What is new in a kubelet's words of an image: not that it pulls, nor which."""
    said = re.sub(
        r'rpc error: code = \w+ desc = |failed to pull and unpack image "[^"]*": |^Back-off pulling.*', "", words
    )
    return f": {said}" if said else ""


def _loading(pod: Object, now: datetime) -> tuple[str, str]:
    """Running, and the probe does not pass: not yet, or no longer."""
    status, ready = pod.get("status") or {}, condition(pod, "Ready")
    waiting = [one for one in status.get("containerStatuses") or () if not one.get("ready")]
    begun = [_time(((one.get("state") or {}).get("running") or {}).get("startedAt")) for one in waiting]
    since = max((one for one in begun if one is not None), default=_time(status.get("startTime")))
    name = f"container {waiting[0]['name']}" if waiting else "it"
    when = f" since {_clock(since)}" if since else ""
    if not waiting:
        gates = [row["conditionType"] for row in pod.get("spec", {}).get("readinessGates") or ()]
        if closed := [gate for gate in gates if condition(pod, gate).get("status") != "True"]:
            return "WaitingForWeights", f"readiness gate {', '.join(closed)} is not true"
        if ready.get("status") == "False":  # the node controller says so when a node falls silent
            return "NodeLost", f"node {pod.get('spec', {}).get('nodeName')} says no more that it serves"
    until = _time(ready.get("lastTransitionTime"))
    if since is not None and until is not None and until - since > _SERVED:
        return "NotServing", f"probe fails since {_clock(until)}: {name} runs{when}"
    if since is not None and now - since > LOADING:
        return "NotServing", f"probe never passed: {name} runs{when}"
    return "WaitingForWeights", f"weights load: {name} runs{when}, its probe has not passed yet"


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")) if text else None
    except ValueError:
        return None


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def kind_of(obj: Object) -> str:
    """The name of the kind (`controller.cluster.Kind`) that an object belongs to, by its label."""
    return str((obj["metadata"].get("labels") or {}).get(names.KIND, ""))


def gpus(pod: Object) -> int:
    """GPUs that a pod asks for."""
    limits = (one.get("resources", {}).get("limits", {}) for one in pod.get("spec", {}).get("containers", ()))
    return sum(int(each.get(GPU, 0)) for each in limits)
