"""Nodes with GPUs that are not there: does to the status of nodes and pods what a kubelet does.

A pod that the scheduler bound to one of these nodes becomes Running and Ready after a delay, or fails; a pod that is
deleted goes after a grace; pods of Jobs complete. Nodes can vanish with all that runs on them, and come back. One
thread watches, a few write.
"""

import contextlib
import json
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import urllib3

from tests.controller.plane.plane import Plane

JSON = Mapping[str, object]
_MERGE = "application/strategic-merge-patch+json"
_WRITERS = 8
_NEVER = float("inf")


@dataclass(frozen=True)
class Fate:
    """What becomes of a pod: seconds until it is ready, and whether it fails instead (with this reason).

    `status`: what the kubelet writes at the end of `ready_s` in place of all that; `tests.controller.plane.kubelet` has
    the usual ones.
    """

    ready_s: float = 0.0
    fails: str = ""
    completes_s: float | None = None
    leaves_s: float = 0.0
    status: JSON | None = None


def usual(pod: JSON) -> Fate:
    """Ready at once; a Job's pod completes at once."""
    owners = pod["metadata"].get("ownerReferences") or []  # type: ignore[attr-defined]
    return Fate(completes_s=0.0) if any(owner["kind"] == "Job" for owner in owners) else Fate()


@dataclass
class Nodes:
    """The simulator. `fate` may be set by a test at any time; it is asked once for each pod that is bound."""

    plane: Plane
    fate: Callable[[JSON], Fate] = usual
    names: set[str] = field(default_factory=set)
    _due: "queue.PriorityQueue[tuple[float, int, Callable[[], None]]]" = field(default_factory=queue.PriorityQueue)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _count: int = 0
    _watched: urllib3.BaseHTTPResponse | None = None

    def start(self) -> None:
        context = ssl.create_default_context(cafile=str(self.plane.authority))
        self._pool = urllib3.HTTPSConnectionPool(
            "127.0.0.1", self.plane.ports["apiserver"], maxsize=_WRITERS + 2, ssl_context=context, retries=False,
            headers={"Authorization": f"Bearer {self.plane.token('admin')}", "User-Agent": "simulated-kubelet"},
        )  # fmt: skip
        self._threads = [threading.Thread(target=self._watch, daemon=True)]
        self._threads += [threading.Thread(target=self._write, daemon=True) for _ in range(_WRITERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Remove what would make pods anew, all nodes and their pods; end the threads."""
        for kind in ("apps/v1", "batch/v1"):
            plural = "deployments" if kind == "apps/v1" else "jobs"
            for one in self.call("GET", f"/apis/{kind}/{plural}")["items"]:  # type: ignore[attr-defined]
                meta, now = one["metadata"], {"propagationPolicy": "Background"}
                self.call("DELETE", f"/apis/{kind}/namespaces/{meta['namespace']}/{plural}/{meta['name']}", now)
        for name in list(self.names):
            self.vanish(name)
        end_s = time.monotonic() + 30
        while not self._due.empty() and time.monotonic() < end_s:
            time.sleep(0.05)
        self._stop.set()
        if (answer := self._watched) is not None:
            with contextlib.suppress(OSError, ValueError):  # it ended at the same moment
                answer.shutdown()
        for thread in self._threads:
            thread.join(10)
        self._pool.close()

    def add(self, name: str, gpus: int = 8, product: str = "NVIDIA-H100-80GB-HBM3", **labels: str) -> None:
        """A node that is Ready, with GPUs, and the labels of GPU feature discovery. `__` in a label stands for `/`."""
        known = {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "nvidia.com/gpu.product": product,
            "nvidia.com/gpu.count": str(gpus), "nvidia.com/gpu.present": "true",
            "topology.kubernetes.io/zone": "a", **{key.replace("__", "/"): value for key, value in labels.items()},
        }  # fmt: skip
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": known}}
        self.call("POST", "/api/v1/nodes", node)
        room = {"cpu": "128", "memory": "2Ti", "pods": "250", "nvidia.com/gpu": str(gpus), "ephemeral-storage": "10Ti"}
        ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady", **_times()}]
        status = {"status": {"capacity": room, "allocatable": room, "conditions": ready}}
        self.call("PATCH", f"/api/v1/nodes/{name}/status", status, _MERGE)
        taints = {"spec": {"taints": None}}  # the node controller adds not-ready until it looks again
        self.call("PATCH", f"/api/v1/nodes/{name}", taints, "application/merge-patch+json")
        self.names.add(name)

    def vanish(self, name: str) -> None:
        """The node is deleted, and so are its pods, without grace."""
        self.names.discard(name)
        self.call("DELETE", f"/api/v1/nodes/{name}")
        for pod in self.pods(name):
            meta = pod["metadata"]
            self._later(0.0, partial(self._delete, meta["namespace"], meta["name"]))  # type: ignore[index]

    def answers(self, name: str, ready: bool) -> None:
        """The node's kubelet stops to answer, or does so again; its pods stay, and serve only while it answers."""
        said = {"type": "Ready", "status": "True" if ready else "Unknown", "reason": "simulated", **_times()}
        self.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [said]}}, _MERGE)
        for pod in self.pods(name):
            meta = pod["metadata"]
            serves = [{"type": "Ready", "status": "True" if ready else "False"}]
            self._status(meta["namespace"], meta["name"], {"conditions": serves})  # type: ignore[index]

    def pods(self, node: str = "") -> list[JSON]:
        """Pods of a node, or all."""
        where = f"?fieldSelector=spec.nodeName%3D{node}" if node else ""
        found: list[JSON] = self.call("GET", f"/api/v1/pods{where}")["items"]  # type: ignore[assignment]
        return found

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> JSON:
        """One call; a 404, or a conflict with what is there already, is no error."""
        data = None if body is None else json.dumps(body)
        answer = self._pool.request(method, path, body=data, headers={**self._pool.headers, "Content-Type": kind})
        if answer.status >= 300 and answer.status not in (404, 409):
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.data[:300]!r}")
        found: JSON = json.loads(answer.data)
        return found

    def _watch(self) -> None:
        """Follow the pods from version to version: thousands of them are not listed again because a watch ended."""
        version = ""
        while not self._stop.is_set():
            try:
                if not version:
                    listed = self.call("GET", "/api/v1/pods")
                    for pod in listed["items"]:  # type: ignore[attr-defined]
                        self._look(pod)
                    version = listed["metadata"]["resourceVersion"]  # type: ignore[index]
                for event in self._events(f"/api/v1/pods?watch=1&timeoutSeconds=60&resourceVersion={version}"):
                    if event["type"] == "ERROR":
                        version = ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]  # type: ignore[index]
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._look(event["object"])  # type: ignore[arg-type]
            except (urllib3.exceptions.HTTPError, OSError, RuntimeError, ValueError):
                version = ""
                self._stop.wait(0.2)

    def _events(self, path: str) -> Iterable[JSON]:
        timeout = urllib3.Timeout(connect=5, read=90)
        self._watched = answer = self._pool.request("GET", path, preload_content=False, timeout=timeout)
        rest = b""
        try:
            while part := answer.read1(1 << 16):
                *lines, rest = (rest + part).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        finally:
            answer.close()

    def _look(self, pod: JSON) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        space, name, uid = meta["namespace"], meta["name"], meta["uid"]  # type: ignore[index]
        if spec.get("nodeName") not in self.names:  # type: ignore[attr-defined]
            return
        stage = "leave" if meta.get("deletionTimestamp") else "run"  # type: ignore[attr-defined]
        if (uid, stage) in self._seen:
            return
        self._seen.add((uid, stage))
        fate = self.fate(pod)
        if stage == "leave":
            self._later(fate.leaves_s, lambda: self._delete(space, name))
        elif fate.status is not None:
            said = fate.status
            self._later(fate.ready_s, lambda: self._status(space, name, said))
        elif fate.fails:
            self._later(fate.ready_s, lambda: self._status(space, name, _failed(fate.fails)))
        elif fate.completes_s is not None:
            self._later(fate.completes_s, lambda: self._status(space, name, {"phase": "Succeeded"}))
        else:
            running = _running(pod, False)
            if fate.ready_s:
                self._later(0.0, lambda: self._status(space, name, running))
            if fate.ready_s < _NEVER:
                self._later(fate.ready_s, lambda: self._status(space, name, _running(pod, True)))

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self._count += 1
        self._due.put((time.monotonic() + seconds, self._count, do))

    def _write(self) -> None:
        while not self._stop.is_set():
            try:
                due_s, number, do = self._due.get(timeout=0.2)
            except queue.Empty:
                continue
            if due_s > time.monotonic():
                self._due.put((due_s, number, do))
                time.sleep(min(due_s - time.monotonic(), 0.02) if due_s > time.monotonic() else 0.0)
                continue
            try:
                do()
            except (urllib3.exceptions.HTTPError, RuntimeError):
                if not self._stop.is_set():
                    self._later(0.5, do)

    def _status(self, space: str, name: str, status: JSON) -> None:
        self.call("PATCH", f"/api/v1/namespaces/{space}/pods/{name}/status", {"status": status}, _MERGE)

    def _delete(self, space: str, name: str) -> None:
        now = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        self.call("DELETE", f"/api/v1/namespaces/{space}/pods/{name}", now)


def _times() -> JSON:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"lastHeartbeatTime": now, "lastTransitionTime": now}


def _running(pod: JSON, ready: bool) -> JSON:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    flag = "True" if ready else "False"
    kinds = (
        ("Initialized", "PodScheduled") if not ready else ("Initialized", "PodScheduled", "ContainersReady", "Ready")
    )
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds]
    if not ready:
        conditions += [{"type": k, "status": flag, "lastTransitionTime": now} for k in ("ContainersReady", "Ready")]
    containers = [
        {
            "name": one["name"], "image": one.get("image", ""), "imageID": "", "ready": ready, "restartCount": 0,
            "started": ready, "state": {"running": {"startedAt": now}},
        }
        for one in pod["spec"]["containers"]  # type: ignore[index]
    ]  # fmt: skip
    return {
        "phase": "Running", "conditions": conditions, "containerStatuses": containers, "startTime": now,
        "podIP": "10.1.0.1", "hostIP": "127.0.0.1",
    }  # fmt: skip


def _failed(reason: str) -> JSON:
    return {"phase": "Failed", "reason": reason, "message": f"simulated: {reason}"}
