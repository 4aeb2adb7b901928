"""The pod of a replica: the engine with its exact flags, the weights, and where it may run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from controller import names
from controller.hardware import GPU_RESOURCE, PRODUCT, products, selected
from controller.kube.discovery import Served
from controller.manifests.apart import annotations, environment, without_router
from controller.manifests.engine import command, image, weights
from controller.manifests.merge import merged
from controller.manifests.passthrough import CLAIM, ENGINE, PORT, PORT_NAME, on_host
from controller.manifests.priority import class_of
from planner.catalog import checkpoint
from planner.plan import Allocation
from planner.techniques import techniques

Object = Mapping[str, Any]
ENTRY = "serve"  # the pool that users' requests are sent to; those of two pools come by way of a router
LEAST_START_S, _START_FACTOR = 600.0, 3.0  # a cold start is predicted; networks and disks are not
PROBE_S = 10
QUEUE = "kueue.x-k8s.io/queue-name"  # label: of the LocalQueue
_DRAIN_S, _GRACE_S = 10, 150
_LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_LOST_S = 30  # on a node that is gone, a replica serves nobody; a kubelet that restarts is back by then
_MOST_CLAIMS = 44  # that, and what stands behind it, stay within 63 characters


@dataclass(frozen=True, slots=True)
class Pod:
    """The template of a replica's pods; `size` pods make a replica. `deadline_s`: by when a replica should serve.

    Of several pods, the first serves (`template`) and the others (`worker`) follow it. How often its startup probe may
    fail is not in the template: that follows a prediction, and a slightly other one is to restart nothing.
    """

    template: Object
    worker: Object | None
    size: int
    gpus: int
    deadline_s: float


def pod(service: Object, allocation: Allocation, group: Object, gpus_per_node: int) -> Pod:
    """The pods of one replica of an allocation; `group` is the entry of the inventory that it runs in."""
    serving = service["spec"].get("serving") or {}
    size = _nodes(allocation, gpus_per_node)
    gpus = allocation.gpus_per_replica // size
    start_s = max(LEAST_START_S, _START_FACTOR * allocation.predicted.cold_start_s)
    deadline_s = float(PROBE_S * math.ceil(start_s / PROBE_S))
    first = _template(service, serving, allocation, group, gpus, size, worker=False)
    rest = _template(service, serving, allocation, group, gpus, size, worker=True) if size > 1 else None
    return Pod(first, rest, size, gpus, deadline_s)


def _nodes(allocation: Allocation, gpus_per_node: int) -> int:
    """Nodes that a replica takes."""
    return max(math.ceil(allocation.gpus_per_replica / gpus_per_node), 1)


def unservable(service: Object, allocation: Allocation, gpus_per_node: int, served: Served) -> str:
    """Why the engine could not be started as planned, in words; empty if it can.

    `gpus_per_node`: of the allocation's node group; 0 where none of its nodes is there.
    """
    serving = service["spec"].get("serving") or {}
    if serving.get("deviceClass") and served.get("resourceclaimtemplates") is None:
        return (
            f"spec.serving.deviceClass: got {serving['deviceClass']}, but this API server serves no "
            f"ResourceClaimTemplates (resource.k8s.io); leave it out to ask for {GPU_RESOURCE}"
        )
    gpus = allocation.gpus_per_replica
    if gpus_per_node:
        size = _nodes(allocation, gpus_per_node)
        if gpus % size:
            return (
                f"a replica of {gpus} GPUs does not fit into a node of group {allocation.node_group}, which has "
                f"{gpus_per_node} GPUs, and cannot be split evenly over {size} nodes"
            )
        if size > 1 and serving.get("queue") and served.get("leaderworkersets") is None:
            return (
                f"spec.serving.queue: got {serving['queue']}, but a replica over {size} nodes is pods of a StatefulSet "
                "here, which Kueue lets nobody scale; allowed: none, or a cluster with LeaderWorkerSets"
            )
        if why := _shares_ports(serving.get("podTemplate") or {}, gpus // size, gpus_per_node, size, served):
            return f"spec.serving.podTemplate.{why}"
    return without_router(service, allocation) or _without_checkpoint(serving.get("weights"), allocation)


def _shares_ports(template: Object, gpus: int, gpus_per_node: int, size: int, served: Served) -> str:
    """Why pods with so many GPUs cannot take ports of their nodes, where their template says that they do."""
    field = on_host(template)
    if field and gpus < gpus_per_node:
        return (
            f"{field}: got a value, but a port of a node is one pod's alone, and pods with {gpus} of {gpus_per_node} "
            "GPUs share nodes; allowed: none, or a plan of whole nodes"
        )
    if size > 1 and served.get("leaderworkersets") is None and (template.get("spec") or {}).get("hostNetwork"):
        return (
            "spec.hostNetwork: got a value, but pods of a StatefulSet find their place in a replica by a host name of "
            "their own; allowed: none, or a cluster with LeaderWorkerSets"
        )
    return ""


def _without_checkpoint(weights: Object | None, allocation: Allocation) -> str:
    known = techniques()
    wants = [name for name in allocation.recipe.techniques if name in known and known[name].quantised]
    if weights is None and wants:
        return (
            f"{', '.join(wants)} needs a checkpoint that somebody quantised; "
            "say which under spec.serving.weights, or leave the technique out of spec.constraints.techniques"
        )
    if weights is None and checkpoint(allocation.model) is None:
        return f"no published checkpoint of {allocation.model} is known; say where it is under spec.serving.weights"
    return ""


def claims_name(service: Object, gpus: int) -> str:
    """The ResourceClaimTemplate of replicas with so many GPUs a pod; another device class is another object.

    What a template asks for cannot be changed, and replicas that run keep theirs until others took over.
    """
    name = service["metadata"]["name"]
    mark = sha256(f"{name} {service['spec']['serving']['deviceClass']}".encode()).hexdigest()[:8]
    return f"{name[:_MOST_CLAIMS]}-{gpus}-gpus-{mark}"


def _template(
    service: Object,
    serving: Object,
    allocation: Allocation,
    group: Object,
    gpus: int,
    size: int,
    worker: bool,
) -> Object:
    name = service["metadata"]["name"]
    asked = service["spec"]["model"]
    model, volumes, mounts, env = weights(serving, asked, allocation.model)
    container: dict[str, Any] = {
        "name": ENGINE,
        "image": image(serving, allocation.engine),
        "command": command(allocation, (name, asked), model, size),
        "env": [*env, *environment(allocation)],
        "resources": _resources(serving, gpus),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, *mounts],
    }
    if not worker:
        container |= {
            "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_DRAIN_S)]}}},
            "startupProbe": _probe(PROBE_S),
            "readinessProbe": _probe(5, 2),
            "livenessProbe": _probe(PROBE_S, 6),
        }
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}, *volumes],
        "affinity": {"nodeAffinity": _affinity(allocation, group)},
        "topologySpreadConstraints": [] if worker else [_spread(name, key) for key in _SPREAD],
        "tolerations": _tolerations(serving),
        "terminationGracePeriodSeconds": _GRACE_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    if priority := serving.get("priorityClass") or class_of(service):
        spec["priorityClassName"] = priority
    if serving.get("deviceClass"):
        spec["resourceClaims"] = [{"name": CLAIM, "resourceClaimTemplateName": claims_name(service, gpus)}]
    labels = {**names.labels(name), names.ROLE: allocation.pool, "app.kubernetes.io/component": allocation.pool}
    if not worker:
        labels[names.SERVES] = "true"
        labels |= {names.ENTRY: "true"} if allocation.pool == ENTRY else {}
    if serving.get("queue"):
        labels[QUEUE] = serving["queue"]  # as Kueue copies it from a workload: templates then stay what we made
    notes = {names.RECIPE: str(allocation.recipe), **({} if worker else annotations(allocation))}
    template = {"metadata": {"labels": labels, "annotations": notes}, "spec": spec}
    return merged(template, serving.get("podTemplate") or {})


_SPREAD = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def _resources(serving: Object, gpus: int) -> Object:
    if serving.get("deviceClass"):
        return {"claims": [{"name": CLAIM}]}
    return {"limits": {GPU_RESOURCE: str(gpus)}, "requests": {GPU_RESOURCE: str(gpus)}}


def _tolerations(serving: Object) -> list[Object]:
    """Nodes with GPUs, what users tolerate, and for a short while nodes that no longer answer.

    Where users say how long to stay on those, that holds instead.
    """
    given = list(serving.get("tolerations") or ())
    there = [*given, *(((serving.get("podTemplate") or {}).get("spec") or {}).get("tolerations") or ())]
    said = {one.get("key") or "" for one in there if one.get("effect") in (None, "", "NoExecute")}
    lost = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _LOST_S}
        for key in _LOST
        if not said & {key, ""}
    ]
    return [{"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}, *lost, *given]


def _probe(period_s: int, failures: int | None = None) -> Object:
    often = {} if failures is None else {"failureThreshold": failures}
    asks = {"path": "/health", "port": PORT_NAME}
    return {"httpGet": asks, "periodSeconds": period_s, **often, "timeoutSeconds": 5}


def _affinity(allocation: Allocation, group: Object) -> Object:
    """The nodes of the group, and of them those with the planned GPU: a group's selector may be wider than that."""
    rows = selected(group)
    if not group.get("gpu"):  # the group did not say, so the nodes' labels did
        rows.append((PRODUCT, products(allocation.recipe.gpu)))
    terms = [{"key": key, "operator": "In", "values": list(values)} for key, values in rows]
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": terms}]},
    }


def _spread(service: str, key: str) -> Object:
    return {
        "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {names.SERVICE: service}},
    }  # fmt: skip
