"""One way in which a service does not serve: what the cluster has of it, and what a controller would know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from controller import names
from controller.causes import Facts, Planning
from controller.cluster import Kind, Node, Running, Target

Object = dict[str, Any]
Of = Callable[[Mapping[str, Any]], Object]


@dataclass(frozen=True)
class Failure:
    """One seeded failure. `facts`: what `controller.causes.Facts` is given beside what the cluster says.

    `needs`: objects of its namespace that must be there before, with the path of their collection. `pod`: over the
    pod's spec. `workload`: the condition of the Deployment for the tests without a cluster. `serves`: its replicas
    serve, and the answer is in the column alone. `told`: replicas of its Deployment.
    """

    name: str
    reason: str
    words: tuple[str, ...]
    status: Of | None = None
    kubelet: bool = False
    pod: Object = field(default_factory=dict)
    workload: str = ""
    needs: tuple[tuple[str, Object], ...] = ()
    bare: bool = False
    told: int = 2
    serves: bool = False
    facts: Object = field(default_factory=dict)
    planned: bool = True


def kind_of(failure: Failure) -> Kind:
    return Kind(f"{failure.name}-k", failure.name, "8xH200 tp8", "serve", "h200s", 8, 1.0)


def container(**over: Any) -> Object:
    return {
        "name": "engine",
        "image": "registry.example/vllm:v1",
        "resources": {"limits": {"nvidia.com/gpu": "8"}},
    } | over


def template(failure: Failure) -> Object:
    """The pod of a failure."""
    marks = {**names.labels(failure.name), names.KIND: f"{failure.name}-k"}
    spec = {"containers": [container()], "terminationGracePeriodSeconds": 0} | failure.pod
    return {"metadata": {"labels": marks}, "spec": spec}


def deployment(failure: Failure) -> Object:
    made = template(failure)
    marks = {names.KIND: f"{failure.name}-k"}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": f"{failure.name}-k", "labels": made["metadata"]["labels"]},
        "spec": {"replicas": failure.told, "selector": {"matchLabels": marks}, "template": made},
    }  # fmt: skip


def facts(failure: Failure, service: Object, pods: list[Object], workloads: list[Object], ready: int) -> Facts:
    """What a controller would know of a failure."""
    kind = kind_of(failure)
    default: Object = {"now": datetime.now(UTC)}
    if failure.planned:
        generation = service["metadata"].get("generation", 1)
        default |= {
            "planning": Planning("solved", "d-1", generation, usd_per_hour=12.5, power_w=900.0),
            "targets": (Target(kind, 2),),
            "running": (Running(kind, failure.told, ready=ready),),
            "nodes": (Node("a", "h200s", 8, 4), Node("b", "h200s", 4)),
        }
    return Facts(service=service, pods=pods, workloads=workloads, **default | failure.facts)


def unplaced(message: str) -> Of:
    row = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return lambda pod: {"phase": "Pending", "conditions": [row]}
