"""Statuses that a kubelet writes of a pod that does not serve, with the words that it uses."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Pod = Mapping[str, Any]
Status = dict[str, Any]


def text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def ago(minutes: float) -> str:
    return text(datetime.now(UTC) - timedelta(minutes=minutes))


def _status(pod: Pod, state: Status, *, restarts: int = 0, last: Status | None = None, init: bool = False) -> Status:
    """A pod that runs on its node, its first container (or init container) in a state."""
    since = ago(1)
    key = "initContainers" if init else "containers"
    said = [
        {
            "name": one["name"], "image": one.get("image", ""), "imageID": "", "ready": False, "restartCount": restarts,
            "started": False, "state": state, "lastState": last or {},
        }
        for one in pod["spec"][key]
    ]  # fmt: skip
    conditions = [
        {"type": kind, "status": "True" if kind == "PodScheduled" else "False", "lastTransitionTime": since}
        for kind in ("PodScheduled", "ContainersReady", "Ready")
    ]
    row = {"initContainerStatuses" if init else "containerStatuses": said}
    if init:  # the others have not begun
        waiting = {"waiting": {"reason": "PodInitializing"}}
        row["containerStatuses"] = [
            {
                "name": one["name"], "image": one["image"], "imageID": "", "ready": False, "restartCount": 0,
                "state": waiting, "lastState": {},
            }
            for one in pod["spec"]["containers"]
        ]  # fmt: skip
    return {"phase": "Pending" if init else "Running", "startTime": since, "conditions": conditions, **row}


def waiting(pod: Pod, reason: str, message: str = "", *, init: bool = False) -> Status:
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    return _status(pod, state, init=init) | {"phase": "Pending"}


def crashed(pod: Pod, code: int, reason: str, times: int, message: str = "", *, init: bool = False) -> Status:
    """In CrashLoopBackOff, having ended so many times."""
    end = {
        "exitCode": code, "reason": reason, "startedAt": ago(3), "finishedAt": ago(2), "message": message,
        "containerID": "containerd://0",
    }  # fmt: skip
    said = f"back-off 40s restarting failed container=engine pod={pod['metadata']['name']}"
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": said}}
    return _status(pod, state, restarts=times - 1, last={"terminated": end}, init=init)


def creating(pod: Pod, minutes: float) -> Status:
    """Its containers are being made, for so long."""
    return waiting(pod, "ContainerCreating") | {"startTime": ago(minutes)}


def running(pod: Pod, minutes: float, *, init: bool = False) -> Status:
    """Running for so long, and not ready since it began."""
    made = _status(pod, {"running": {"startedAt": ago(minutes)}}, init=init)
    rows = [{**row, "lastTransitionTime": ago(minutes)} for row in made["conditions"]]
    return made | {"startTime": ago(minutes), "conditions": rows}


def unready(pod: Pod, minutes: float) -> Status:
    """Running for so long, and not ready since half of it."""
    made = running(pod, minutes)
    return made | {"conditions": [{**row, "lastTransitionTime": ago(minutes / 2)} for row in made["conditions"]]}


def silent(pod: Pod) -> Status:
    """What the node controller makes of a pod that serves when its node falls silent."""
    made = running(pod, 60)
    now = {"ContainersReady": "True", "PodScheduled": "True", "Ready": "False"}
    rows = [{**row, "status": now[row["type"]]} for row in made["conditions"]]
    containers = [{**one, "ready": True, "started": True} for one in made["containerStatuses"]]
    return made | {"conditions": rows, "containerStatuses": containers}


def ended(reason: str, message: str = "") -> Status:
    """The whole pod failed."""
    return {"phase": "Failed", "reason": reason, "message": message}
