"""Makes and removes the pods of workloads and tells how many there are, as Kubernetes' own controllers do."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller import names
from controller.embedded.api import EmbeddedApi
from controller.embedded.paths import SERVED
from controller.kube.discovery import Served
from controller.kube.rest import ApiError
from controller.status import is_ready

Object = Mapping[str, Any]
_KINDS = ("deployments", "statefulsets")


def reconcile(api: EmbeddedApi, served: Served = SERVED) -> None:
    """One round over all workloads."""
    for plural in _KINDS:
        for workload in api.store.items(plural):
            if workload["metadata"].get("deletionTimestamp"):
                continue
            pods = _pods(api, workload)
            gone = [pod for pod in pods if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")]
            for pod in gone:  # another takes its place
                _delete(api, pod)
            staying = [pod for pod in pods if pod not in gone and not pod["metadata"].get("deletionTimestamp")]
            wanted = int(workload["spec"].get("replicas", 1))
            for name in _missing(workload, pods, staying, wanted):
                path = served.need("pods").path(workload["metadata"]["namespace"])
                api.request("POST", path, _pod(workload, name))
            for pod in sorted(staying, key=_first_to_go)[: max(len(staying) - wanted, 0)]:
                _delete(api, pod)
            _tell(api, plural, workload)


def _pods(api: EmbeddedApi, workload: Object) -> list[Object]:
    keys = api.store.owned(workload["metadata"]["uid"])
    rows = [api.store.get(key) for key in keys if key[0] == "pods"]
    return [row.body for row in rows if row is not None]


def _missing(workload: Object, pods: Sequence[Object], staying: Sequence[Object], wanted: int) -> list[str]:
    """Names of pods to make; empty names are chosen by the server. Ordinals wait until their pod is gone."""
    if workload["kind"] == "StatefulSet":
        there = {pod["metadata"]["name"] for pod in pods}
        found = (f"{workload['metadata']['name']}-{ordinal}" for ordinal in range(wanted))
        return [name for name in found if name not in there]
    return [""] * max(wanted - len(staying), 0)


def _pod(workload: Object, name: str) -> dict[str, Any]:
    meta, template = workload["metadata"], workload["spec"]["template"]
    owner = {
        "apiVersion": workload["apiVersion"], "kind": workload["kind"], "name": meta["name"], "uid": meta["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    return {
        "metadata": {
            **({"name": name} if name else {"generateName": f"{meta['name']}-"}),
            "labels": template["metadata"].get("labels") or {},
            "annotations": template["metadata"].get("annotations") or {},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }


def _first_to_go(pod: Object) -> tuple[Any, ...]:
    """Pods without a node go first, then those that do not serve, then the newest; of ordinals the highest."""
    meta = pod["metadata"]
    owner = next((one["kind"] for one in meta.get("ownerReferences") or ()), "")
    if owner == "StatefulSet":
        return (-int(meta["name"].rpartition("-")[2]),)
    created = "".join(chr(0x10FFFF - ord(one)) for one in meta["creationTimestamp"])
    return bool(pod["spec"].get("nodeName")), is_ready(pod), created, meta["name"]


def _delete(api: EmbeddedApi, pod: Object) -> None:
    meta = pod["metadata"]
    try:
        api.request("DELETE", SERVED.need("pods").path(meta["namespace"], meta["name"]))
    except ApiError as error:
        if error.status != 404:
            raise


def _tell(api: EmbeddedApi, plural: str, workload: Object) -> None:
    """The status of a workload, written where it differs."""
    pods = [pod for pod in _pods(api, workload) if not pod["metadata"].get("deletionTimestamp")]
    ready, wanted = sum(map(is_ready, pods)), int(workload["spec"].get("replicas", 1))
    status: dict[str, Any] = {
        "observedGeneration": workload["metadata"]["generation"],
        "replicas": len(pods),
        "readyReplicas": ready,
        "updatedReplicas": len(pods),
    }
    if plural == "deployments":
        enough = ready >= wanted
        status |= {
            "availableReplicas": ready,
            "unavailableReplicas": max(wanted - ready, 0),
            "conditions": [
                {"type": "Available", "status": "True" if enough else "False", "reason": "MinimumReplicasAvailable"}
            ],
        }
    if workload.get("status") != status:
        meta = workload["metadata"]
        path = SERVED.need(plural).path(meta["namespace"], meta["name"], "status")
        api.request("PUT", path, {"status": status})


def service_of_pod(pod: Object) -> str:
    """`namespace/name` of the service that a pod serves; empty for none."""
    meta = pod["metadata"]
    name = (meta.get("labels") or {}).get(names.SERVICE)
    return f"{meta['namespace']}/{name}" if name else ""
