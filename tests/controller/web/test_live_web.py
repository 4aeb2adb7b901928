"""The API on a real control plane: the cluster's own tokens and roles say who may what, and no update is lost."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import pytest

from controller.kube.run import Controller
from controller.web.app import make_app
from controller.web.limits import Limits
from controller.web.reviews import Reviews
from controller.web.server import Listen, WebServer
from controller.web.site import Site as WebSite
from tests.controller.live import Site, a_controller, until
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane
from tests.controller.web.cluster import a_spec

_RBAC = "/apis/rbac.authorization.k8s.io/v1"


class NoHistory:
    """A cluster whose measurements nobody keeps."""

    def series(
        self, metric: str, subject: str, start_s: float, end_s: float, points: int = 240
    ) -> tuple[tuple[float, float], ...]:
        return ()

    def latest(self, metric: str) -> Mapping[str, float]:
        return {}


@contextmanager
def the_web(site: Site, controller: Controller) -> Iterator[str]:
    """The address of the API of a controller on a cluster."""
    web = WebSite(
        objects=site.api,
        served=controller.served,
        known=controller.known,
        kept=lambda: controller.rounds.kept,
        caps=lambda: {},
        history=NoHistory(),
        clock=time.time,
    )
    server = WebServer(make_app(web, tokens=Reviews(site.api), limits=Limits(glance_s=0.0)), Listen(port=0))
    try:
        yield f"http://127.0.0.1:{server.start()}/api/v1"
    finally:
        server.stop()


def a_tenant(site: Site, space: str) -> str:
    """A service account that may do with services of its namespace what it wants, and nothing else; its token."""
    site.space(space)
    site.post(f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "tenant"}})
    rules = [
        {"apiGroups": ["muster.dev"], "resources": ["gpuservices", "plans"], "verbs": ["*"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["get", "list", "watch"]},
    ]
    site.post(f"{_RBAC}/namespaces/{space}/roles", {"metadata": {"name": "tenant"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": space}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"}
    binding = {"metadata": {"name": "tenant"}, "roleRef": role, "subjects": [subject]}
    site.post(f"{_RBAC}/namespaces/{space}/rolebindings", binding)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{space}/serviceaccounts/tenant/token"
    return str(site.api.request("POST", path, asked)["status"]["token"])


def _as(url: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30.0)


@pytest.mark.slow
def test_a_tenant_serves_in_its_namespace_and_sees_no_other(plane: Plane, nodes: Nodes) -> None:
    site = Site(plane)
    nodes.add("web-node", 8, pool="big")
    site.inventory({"name": "h100", "nodeSelector": {"pool": "big"}, "gpu": "H100-SXM", "pricePerHour": "$2.50"})
    ours, theirs = a_tenant(site, "web-a"), a_tenant(site, "web-b")
    with a_controller(site) as controller, the_web(site, controller) as url, _as(url, ours) as client:
        assert client.post("/services", json=a_spec("chat", "web-a")).status_code == 201
        assert client.post("/services", json=a_spec("chat", "web-a")).status_code == 409
        _serves(client)
        plan = client.get("/plans/web-a/chat").json()
        assert plan["current"]["gpus"] >= 1
        history = client.get("/plans/web-a/chat/history").json()
        assert (history["complete"], len(history["outcomes"])) == (False, 1)
        dry = client.post("/services/plan", json=a_spec("more", "web-a")).json()
        assert dry["status"] in ("optimal", "feasible")
        first = client.get("/services/web-a/chat")
        seen = {"If-Match": first.headers["etag"]}
        bad = client.put("/services/web-a/chat", json=a_spec("chat", "web-a", qualityFloor=3), headers=seen)
        assert bad.status_code == 422
        _changes(client)
        assert client.put("/services/web-a/chat", json=a_spec("chat", "web-a"), headers=seen).status_code == 412
        applied = client.patch(
            "/services/web-a/applied?dryRun=true", json=a_spec("applied", "web-a"),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )  # fmt: skip
        assert applied.status_code == 200, applied.text
        with _as(url, theirs) as other:
            for path in ("/services/web-a/chat", "/plans/web-a/chat", "/services?namespace=web-a", "/nodes"):
                assert other.get(path).status_code == 403, path
            assert other.delete("/services/web-a/chat").status_code == 403
            assert other.get("/services?namespace=web-b").json()["items"] == []
        with _as(url, "nonsense") as nobody:
            assert nobody.get("/services").status_code == 401
        assert client.delete("/services/web-a/chat").status_code == 200
        until(lambda: client.get("/services/web-a/chat").status_code == 404, 60.0, "it is not gone")


def _serves(client: httpx.Client) -> None:
    def ready() -> bool:
        found = client.get("/services/web-a/chat/view").json()
        return bool(found.get("service", {}).get("ready"))

    until(ready, 90.0, "it does not serve")


def _changes(client: httpx.Client) -> None:
    """Patch it until no write of the controller's comes between."""

    def patched() -> bool:
        seen = {"If-Match": client.get("/services/web-a/chat").headers["etag"]}
        answer = client.patch("/services/web-a/chat", json={"spec": {"priority": 5}}, headers=seen)
        assert answer.status_code in (200, 412), answer.text
        return answer.status_code == 200

    until(patched, 30.0)
    assert client.get("/services/web-a/chat").json()["spec"]["priority"] == 5
