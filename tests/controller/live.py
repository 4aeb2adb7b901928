"""A controller against the control plane of the tests, and what tests ask of both."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.crds.generate import crd
from controller.crds.kinds import KINDS
from controller.kube.lease import Terms
from controller.kube.rest import MERGE, ApiError, connect
from controller.kube.run import Controller, Options
from tests.controller.objects import a_service, an_inventory
from tests.controller.plane.plane import Plane

QUICK = Terms(lease_s=3, renew_s=2.0, retry_s=0.3)
_API = "/apis/muster.dev/v1alpha1"


def until(true: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """What `true` gives once it is something; fails after so many seconds."""
    end_s = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end_s, what or "waited in vain"
        time.sleep(0.02)
    return found


class Site:
    """A control plane with Muster's kinds, seen as an administrator."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.api = plane, connect(plane.kubeconfig())
        for kind in KINDS:
            self.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd(kind))
        until(lambda: self.served())
        self.space("muster-system")
        self.clear()  # what other tests left would be planned too
        for plural in ("clusterinventories", "powerdomains"):
            for obj in self.api.request("GET", f"{_API}/{plural}")["items"]:
                self.remove(f"{_API}/{plural}/{obj['metadata']['name']}")

    def served(self) -> bool:
        try:
            for kind in KINDS:
                self.api.request("GET", f"{_API}/{kind.plural}")
        except ApiError:
            return False
        return True

    def post(self, path: str, obj: Any) -> None:
        """Make an object unless it is there."""
        try:
            self.api.request("POST", path, obj)
        except ApiError as error:
            if error.status != 409:
                raise

    def space(self, name: str) -> None:
        self.post("/api/v1/namespaces", {"metadata": {"name": name}})

    def inventory(self, *groups: dict[str, Any], **spec: Any) -> None:
        self.remove(f"{_API}/clusterinventories/fleet")
        obj = an_inventory(*groups, **spec)
        self.api.request("POST", f"{_API}/clusterinventories", {**obj, **_head("ClusterInventory")})

    def service(self, name: str, space: str = "default", **spec: Any) -> dict[str, Any]:
        obj = a_service(name, space, **spec)
        obj["metadata"] = {"name": name, "namespace": space}
        return self.api.request("POST", f"{_API}/namespaces/{space}/gpuservices", obj)

    def change(self, name: str, patch: Any, space: str = "default") -> dict[str, Any]:
        path = f"{_API}/namespaces/{space}/gpuservices/{name}"
        return self.api.request("PATCH", path, patch, content_type=MERGE)

    def get(self, name: str, space: str = "default", plural: str = "gpuservices") -> dict[str, Any]:
        return self.api.request("GET", f"{_API}/namespaces/{space}/{plural}/{name}")

    def condition(self, name: str, kind: str, space: str = "default") -> tuple[str, str, str]:
        """Status, reason and message of a condition of the present generation; empty where nothing is said of it."""
        obj = self.get(name, space)
        for one in (obj.get("status") or {}).get("conditions") or ():
            if one["type"] == kind and one["observedGeneration"] == obj["metadata"]["generation"]:
                return one["status"], one["reason"], one["message"]
        return "", "", ""

    def is_ready(self, name: str, space: str = "default") -> bool:
        """Whether the plan for the present spec is applied and serves."""
        return all(self.condition(name, kind, space)[0] == "True" for kind in ("Planned", "Applied", "Ready"))

    def remove(self, path: str) -> None:
        try:
            self.api.request("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    def delete(self, name: str, space: str = "default") -> None:
        self.remove(f"{_API}/namespaces/{space}/gpuservices/{name}")

    def left(self, name: str, space: str = "default") -> list[str]:
        """What is left of a service: its objects and pods."""
        found = []
        for path in (
            f"/apis/apps/v1/namespaces/{space}/deployments", f"/apis/apps/v1/namespaces/{space}/replicasets",
            f"/api/v1/namespaces/{space}/pods", f"/api/v1/namespaces/{space}/services",
            f"/api/v1/namespaces/{space}/configmaps", f"/apis/policy/v1beta1/namespaces/{space}/poddisruptionbudgets",
            f"{_API}/namespaces/{space}/plans",
        ):  # fmt: skip
            listed = self.api.request("GET", path, query={"labelSelector": f"muster.dev/service={name}"})
            found += [f"{path.rpartition('/')[2]}/{one['metadata']['name']}" for one in listed["items"]]
        return found

    def pods(self, name: str, space: str = "default") -> list[dict[str, Any]]:
        query = {"labelSelector": f"muster.dev/service={name}"}
        found: list[dict[str, Any]] = self.api.request("GET", f"/api/v1/namespaces/{space}/pods", query=query)["items"]
        return found

    def clear(self) -> None:
        """Delete every service."""
        for obj in self.api.request("GET", f"{_API}/gpuservices")["items"]:
            meta = obj["metadata"]
            if meta.get("finalizers"):
                self.change(meta["name"], {"metadata": {"finalizers": None}}, meta["namespace"])
            self.delete(meta["name"], meta["namespace"])


def _head(kind: str) -> dict[str, str]:
    return {"apiVersion": "muster.dev/v1alpha1", "kind": kind}


@contextmanager
def a_controller(
    site: Site, url: str | None = None, kubeconfig: Path | None = None, **options: Any
) -> Iterator[Controller]:
    """A controller in this process that leads; an administrator unless a kubeconfig says who else."""
    chosen = Options(**{"terms": QUICK, "tick_s": 2.0, "silent_s": 3.0, **options})
    made = Controller(connect(kubeconfig or site.plane.kubeconfig(url=url)), chosen, lost=lambda: None)
    made.start()
    try:
        until(made.elector.may_write, 15.0)
        yield made
    finally:
        made.stop()
