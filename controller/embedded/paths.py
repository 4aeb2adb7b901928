"""What the embedded cluster serves, and where a request leads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from controller.embedded.store import Key
from controller.kube.discovery import Resource, Served
from controller.kube.rest import ApiError
from controller.names import API_VERSION

Object = Mapping[str, Any]

RESOURCES = {
    row.plural: row
    for row in (
        Resource("nodes", "v1", "Node", False),
        Resource("pods", "v1", "Pod", True),
        Resource("services", "v1", "Service", True),
        Resource("resourcequotas", "v1", "ResourceQuota", True),
        Resource("configmaps", "v1", "ConfigMap", True),
        Resource("deployments", "apps/v1", "Deployment", True),
        Resource("statefulsets", "apps/v1", "StatefulSet", True),
        Resource("jobs", "batch/v1", "Job", True),
        Resource("poddisruptionbudgets", "policy/v1", "PodDisruptionBudget", True),
        Resource("events", "events.k8s.io/v1", "Event", True),
        Resource("priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", False),
        Resource("gpuservices", API_VERSION, "GPUService", True),
        Resource("plans", API_VERSION, "Plan", True),
        Resource("clusterinventories", API_VERSION, "ClusterInventory", False),
        Resource("powerdomains", API_VERSION, "PowerDomain", False),
    )
}
SERVED = Served(RESOURCES)
_REASONS = {
    400: "BadRequest",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    422: "Invalid",
    429: "TooManyRequests",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a path leads to. `name` empty: all of them."""

    resource: Resource
    namespace: str
    name: str
    subresource: str

    @property
    def key(self) -> Key:
        return self.resource.plural, self.namespace, self.name

    def __str__(self) -> str:
        return f"{self.resource.plural} {'/'.join(part for part in (self.namespace, self.name) if part)!r}"


def asked_of(path: str) -> Asked:
    parts = [unquote(part) for part in path.partition("?")[0].strip("/").split("/")]
    version, rest = ("v1", parts[2:]) if parts[:2] == ["api", "v1"] else ("/".join(parts[1:3]), parts[3:])
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    found = RESOURCES.get(rest[0]) if rest else None
    if found is None or found.version != version or len(rest) > 3 or (namespace and not found.namespaced):
        raise refused(404, f"{path}: got nothing that this cluster serves")
    name, subresource = [*rest[1:], "", ""][:2]
    if found.namespaced and name and not namespace:
        raise refused(404, f"{path}: got no namespace")
    return Asked(found, namespace, name, subresource)


def named(asked: Asked, sent: Mapping[str, Any]) -> Asked:
    """What a new object will be called; raises ApiError where it says something else than the path."""
    meta = sent["metadata"]
    space = asked.namespace or (meta.get("namespace", "default") if asked.resource.namespaced else "")
    if not isinstance(name := meta.get("name"), str) or not name or len(name) > 253 or "/" in name:
        raise refused(422, f"{asked}: metadata.name: got {name!r}, allowed: a name of 1 to 253 characters")
    if sent.get("kind", asked.resource.kind) != asked.resource.kind:
        raise refused(422, f"{asked}: kind: got {sent['kind']!r}, allowed: {asked.resource.kind}")
    if meta.get("namespace", space) != space:
        raise refused(422, f"{asked}: metadata.namespace: got {meta['namespace']!r}, allowed: {space}")
    return Asked(asked.resource, space, name, "")


def missing(asked: Asked) -> ApiError:
    return refused(404, f"{asked}: not found")


def refused(status: int, why: str) -> ApiError:
    return ApiError(status, _REASONS[status], why)
