"""Muster as `muster install` leaves it on a real API server: who may do what, and the controller with its own role."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from controller.kube.rest import ApiError, connect
from controller.server import Listen
from tests.controller.conftest import nodes, plane  # noqa: F401  # fixtures
from tests.controller.live import Site, a_controller, until
from tests.controller.objects import L4
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane

pytestmark = pytest.mark.cluster
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
OURS = ("gpuservices", "plans", "clusterinventories", "powerdomains")
MINE, THEIRS = "team-a", "team-b"


@pytest.fixture(scope="module")
def site(plane: Plane) -> Site:  # noqa: F811
    """Installed by the command; two teams with the usual role `edit` in a namespace each."""
    words = [sys.executable, "-m", "planner.main", "install", "--kubeconfig", str(plane.kubeconfig())]
    for _ in range(2):  # a second time changes nothing
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
    assert "PodDisruptionBudget muster-system/muster-controller" in ran.stdout
    made = Site(plane)
    for space, user in ((MINE, "tenant-a"), (THEIRS, "tenant-b")):
        made.space(space)
        binding = {
            "metadata": {"name": "edit"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        }
        made.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}/rolebindings", binding)
    until(lambda: may(made, "tenant-a", "list", "gpuservices", MINE), 20, "roles were not aggregated")
    return made


def may(site: Site, user: str, verb: str, resource: str, space: str = "", group: str = "muster.dev") -> bool:
    """What the API server's authorizer says."""
    plural, _, sub = resource.partition("/")
    about = {"verb": verb, "group": group, "resource": plural, "subresource": sub, "namespace": space}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
              "spec": {"user": user, "resourceAttributes": about}}  # fmt: skip
    made = site.api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(made["status"]["allowed"])


def test_tenants_do_as_they_like_with_their_own_services_and_nothing_with_others(site: Site) -> None:
    for verb, resource, space in product(VERBS, OURS, (MINE, THEIRS, "")):
        reads = verb in ("get", "list", "watch")
        want = space == MINE and (resource == "gpuservices" or (resource == "plans" and reads))
        assert may(site, "tenant-a", verb, resource, space) == want, (verb, resource, space)
    for verb in ("update", "patch"):
        assert not may(site, "tenant-a", verb, "gpuservices/status", MINE), "a tenant could forge a status"
        assert may(site, "tenant-a", verb, "gpuservices/scale", MINE)
        assert not may(site, "tenant-a", verb, "gpuservices/scale", THEIRS)


@pytest.mark.parametrize("user", ["tenant-a", "tenant-b"])
def test_a_tenant_sees_its_own_alone_by_kubectl(site: Site, user: str) -> None:
    own, other = (MINE, THEIRS) if user == "tenant-a" else (THEIRS, MINE)
    assert site.plane.kubectl("get", "gpuservices,plans", "-n", own, user=user).returncode == 0
    for words in (("get", "gpuservices", "-n", other), ("get", "gpuservices", "-A"), ("get", "nodes")):
        assert "forbidden" in site.plane.kubectl(*words, user=user).stderr.lower(), words


CONTROLLER = "system:serviceaccount:muster-system:muster-controller"
_OF_CLUSTER = ("nodes", "priorityclasses")
AGENT = "system:serviceaccount:muster-agents:muster-agent"


def test_the_controller_may_do_its_work_and_no_more(site: Site) -> None:
    granted = [
        ("patch", "gpuservices/status", "muster.dev"), ("create", "deployments", "apps"), ("patch", "nodes", ""),
        ("create", "pods/eviction", ""), ("list", "events", ""), ("watch", "resourcequotas", ""),
        ("create", "tokenreviews", "authentication.k8s.io"),
        ("create", "priorityclasses", "scheduling.k8s.io"), ("delete", "priorityclasses", "scheduling.k8s.io"),
    ]  # fmt: skip
    for verb, resource, group in granted:
        assert may(site, CONTROLLER, verb, resource, "" if resource in _OF_CLUSTER else MINE, group), (verb, resource)
    for verb, (resource, group) in product(VERBS, (("secrets", ""), ("serviceaccounts", ""), ("pods/exec", ""))):
        assert not may(site, CONTROLLER, verb, resource, MINE, group), (verb, resource)
    refused = [
        ("create", "pods", ""), ("watch", "events", ""), ("delete", "pods", ""), ("delete", "nodes", ""),
        ("create", "gpuservices", "muster.dev"),
        ("delete", "gpuservices", "muster.dev"), ("create", "clusterroles", "rbac.authorization.k8s.io"),
        ("update", "leases", "coordination.k8s.io"), ("create", "jobs", "batch"),
        ("delete", "jobs", "batch"), ("update", "priorityclasses", "scheduling.k8s.io"),
        ("patch", "priorityclasses", "scheduling.k8s.io"), ("patch", "resourcequotas", ""),
    ]  # fmt: skip
    for verb, resource, group in refused:
        assert not may(site, CONTROLLER, verb, resource, MINE, group), (verb, resource)
    for verb, resource, group in product(VERBS, ("pods", "nodes", "secrets", "leases"), ("", "coordination.k8s.io")):
        assert not may(site, AGENT, verb, resource, "muster-agents", group), (verb, resource)


@pytest.fixture
def fleet(site: Site, nodes: Nodes) -> Iterator[Nodes]:  # noqa: F811
    for index in range(2):
        nodes.add(f"small-{index}", 4, L4, pool="small")
    site.inventory()
    yield nodes
    site.clear()


def test_a_service_lives_with_the_controllers_role_alone(site: Site, fleet: Nodes, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"spec": {"expirationSeconds": 3600}}
    path = "/api/v1/namespaces/muster-system/serviceaccounts/muster-controller/token"
    token = site.api.request("POST", path, asked)["status"]["token"]
    config = json.loads(site.plane.kubeconfig().read_text("utf-8"))
    config["users"][0]["user"] = {"token": token}
    file = tmp_path / "config"
    file.write_text(json.dumps(config), "utf-8")
    with pytest.raises(ApiError) as refused:
        connect(file).request("GET", "/api/v1/secrets")
    assert refused.value.status == 403
    with a_controller(site, kubeconfig=file, listen=Listen(port=0)) as controller:
        site.service("chat", MINE, priority=3)
        until(lambda: site.is_ready("chat", MINE), 40, "never ready")
        site.change("chat", {"spec": {"workload": {"ratePerSecond": 16}}}, MINE)
        until(lambda: site.is_ready("chat", MINE), 40)
        until(lambda: controller.events.writes > 0, 10)
        assert controller.events.failed == 0
        site.delete("chat", MINE)
        until(lambda: not site.left("chat", MINE), 40, "something is left")
        until(lambda: "muster-3" not in site.plane.kubectl("get", "priorityclasses").stdout, 20)
