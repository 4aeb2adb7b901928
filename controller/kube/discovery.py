"""Which versions of which resources an API server serves: asked, never fixed at import."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controller.kube.rest import Api, ApiError
from controller.names import GROUP, VERSION
from planner.errors import MusterError

# plural -> versions of its group that Muster can write, the best first
KNOWN: Mapping[str, tuple[str, ...]] = {
    "nodes": ("v1",),
    "pods": ("v1",),
    "services": ("v1",),
    "configmaps": ("v1",),
    "deployments": ("apps/v1",),
    "statefulsets": ("apps/v1",),
    "jobs": ("batch/v1",),
    "leases": ("coordination.k8s.io/v1",),
    "poddisruptionbudgets": ("policy/v1", "policy/v1beta1"),
    "events": ("events.k8s.io/v1", "events.k8s.io/v1beta1"),
    "horizontalpodautoscalers": ("autoscaling/v2", "autoscaling/v2beta2", "autoscaling/v1"),
    "leaderworkersets": ("leaderworkerset.x-k8s.io/v1",),
    "httproutes": ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"),
    "scaledobjects": ("keda.sh/v1alpha1",),
    "resourceclaimtemplates": ("resource.k8s.io/v1", "resource.k8s.io/v1beta2", "resource.k8s.io/v1beta1"),
    "priorityclasses": ("scheduling.k8s.io/v1",),
    "resourcequotas": ("v1",),
    "gpuservices": (f"{GROUP}/{VERSION}",),
    "plans": (f"{GROUP}/{VERSION}",),
    "clusterinventories": (f"{GROUP}/{VERSION}",),
    "powerdomains": (f"{GROUP}/{VERSION}",),
}


class NotServed(MusterError):
    """The API server has no such resource."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource at the version that is spoken: `version` is `v1`, or group and version as in `apps/v1`."""

    plural: str
    version: str
    kind: str
    namespaced: bool

    @property
    def root(self) -> str:
        """The path of all of them."""
        return f"/{'apis' if '/' in self.version else 'api'}/{self.version}/{self.plural}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of one of them, or of all in a namespace."""
        base, _, plural = self.root.rpartition("/")
        where = f"{base}/namespaces/{namespace}/{plural}" if self.namespaced and namespace else self.root
        return "/".join(part for part in (where, name, subresource) if part)


@dataclass(frozen=True, slots=True)
class Served:
    """What an API server serves of what Muster knows."""

    resources: Mapping[str, Resource] = field(default_factory=dict)

    def get(self, plural: str) -> Resource | None:
        """A resource, or None where it is not served."""
        return self.resources.get(plural)

    def need(self, plural: str) -> Resource:
        """A resource; raises NotServed."""
        if (found := self.resources.get(plural)) is None:
            raise NotServed(f"API server: got no {plural}, allowed: one of {', '.join(KNOWN[plural])}")
        return found

    def of(self, obj: Mapping[str, object]) -> Resource:
        """The resource of an object by its kind; raises NotServed."""
        for found in self.resources.values():
            if found.kind == obj.get("kind"):
                return found
        raise NotServed(f"API server: got no resource of kind {obj.get('kind')!r}")


def discover(api: Api) -> Served:
    """Ask a server; a group that it lacks is no error."""
    documents: dict[str, dict[str, Resource]] = {}
    found = {}
    for plural, versions in KNOWN.items():
        for version in versions:
            if version not in documents:
                documents[version] = dict(_listed(api, version))
            if (resource := documents[version].get(plural)) is not None:
                found[plural] = resource
                break
    return Served(found)


def _listed(api: Api, version: str) -> Iterator[tuple[str, Resource]]:
    try:
        listed = api.request("GET", f"/{'apis' if '/' in version else 'api'}/{version}")
    except ApiError as error:
        if error.status in (403, 404):
            return
        raise
    for row in listed.get("resources", ()):
        yield row["name"], Resource(row["name"], version, row["kind"], bool(row["namespaced"]))
