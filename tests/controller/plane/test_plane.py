"""The control plane of the tests is a real one: what the controller will lean on holds here."""

import json
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping

import pytest

from tests.controller.plane.audit import mark, writes
from tests.controller.plane.nodes import Fate, Nodes
from tests.controller.plane.plane import Plane
from tests.controller.plane.proxy import Proxy

GPU = "nvidia.com/gpu"


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.05)


def namespace(plane: Plane, name: str) -> str:
    """A new namespace; what is made there stays until the control plane ends."""
    status, _ = plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert status == 201
    return name


def deployment(name: str, replicas: int, gpus: int, **labels: str) -> dict[str, object]:
    labels = {"app": name, **labels}
    container = {"name": "engine", "image": "engine:1", "resources": {"limits": {GPU: str(gpus)}}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def pods(nodes: Nodes, space: str) -> list[Mapping[str, object]]:
    found = nodes.call("GET", f"/api/v1/namespaces/{space}/pods")["items"]
    assert isinstance(found, list)
    return found


def ready(nodes: Nodes, space: str) -> int:
    conditions = (pod["status"].get("conditions", []) for pod in pods(nodes, space))  # type: ignore[attr-defined]
    return sum(any(one["type"] == "Ready" and one["status"] == "True" for one in each) for each in conditions)


def test_pods_take_gpus_of_nodes_and_the_one_without_room_waits(plane: Plane, nodes: Nodes) -> None:
    space = namespace(plane, "fit")
    nodes.add("n1", gpus=4)
    nodes.add("n2", gpus=4)
    assert plane.request("POST", f"/apis/apps/v1/namespaces/{space}/deployments", deployment("a", 5, 2))[0] == 201
    until(lambda: ready(nodes, space) == 4)
    until(lambda: any("Insufficient nvidia.com/gpu" in json.dumps(pod["status"]) for pod in pods(nodes, space)))
    nodes.add("n3", gpus=4)
    until(lambda: ready(nodes, space) == 5)


def test_a_node_that_vanishes_takes_its_pods_along_and_others_replace_them(plane: Plane, nodes: Nodes) -> None:
    space = namespace(plane, "vanish")
    for name in ("v1", "v2"):
        nodes.add(name, gpus=2)
    plane.request("POST", f"/apis/apps/v1/namespaces/{space}/deployments", deployment("a", 2, 1))
    until(lambda: ready(nodes, space) == 2)
    lost = str(pods(nodes, space)[0]["spec"]["nodeName"])  # type: ignore[index]
    nodes.vanish(lost)
    until(lambda: ready(nodes, space) == 2 and all(p["spec"].get("nodeName") != lost for p in pods(nodes, space)))  # type: ignore[attr-defined]


def test_a_pod_is_ready_after_its_delay_and_may_fail(plane: Plane, nodes: Nodes) -> None:
    space = namespace(plane, "fate")
    nodes.add("f1")
    nodes.fate = lambda pod: Fate(ready_s=1.0) if "slow" in json.dumps(pod["metadata"]) else Fate(fails="Evicted")
    began_s = time.monotonic()
    plane.request("POST", f"/apis/apps/v1/namespaces/{space}/deployments", deployment("slow", 1, 1))
    until(lambda: ready(nodes, space) == 1)
    assert time.monotonic() - began_s >= 1.0
    plane.request("POST", f"/apis/apps/v1/namespaces/{space}/deployments", deployment("bad", 1, 1))
    until(lambda: any(pod["status"].get("reason") == "Evicted" for pod in pods(nodes, space)))  # type: ignore[attr-defined]


def test_a_job_completes(plane: Plane, nodes: Nodes) -> None:
    space = namespace(plane, "jobs")
    nodes.add("j1")
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "burn-in", "image": "burn:1"}]}}
    body = {"metadata": {"name": "burn"}, "spec": {"template": template}}
    assert plane.request("POST", f"/apis/batch/v1/namespaces/{space}/jobs", body)[0] == 201
    until(lambda: plane.request("GET", f"/apis/batch/v1/namespaces/{space}/jobs/burn")[1]["status"].get("succeeded"))  # type: ignore[attr-defined]


def test_a_budget_for_disruptions_refuses_an_eviction(plane: Plane, nodes: Nodes) -> None:
    space = namespace(plane, "pdb")
    nodes.add("p1")
    plane.request("POST", f"/apis/apps/v1/namespaces/{space}/deployments", deployment("a", 1, 1))
    budget = {"metadata": {"name": "a"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}
    assert plane.request("POST", f"/apis/policy/v1beta1/namespaces/{space}/poddisruptionbudgets", budget)[0] == 201
    until(lambda: ready(nodes, space) == 1)
    name = str(pods(nodes, space)[0]["metadata"]["name"])  # type: ignore[index]
    evict = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name, "namespace": space}}
    until(lambda: plane.request("POST", f"/api/v1/namespaces/{space}/pods/{name}/eviction", evict)[0] == 429)


def test_a_write_from_an_old_version_conflicts(plane: Plane) -> None:
    space = namespace(plane, "cas")
    path = f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases"
    _, lease = plane.request("POST", path, {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})
    mine = {**lease, "spec": {"holderIdentity": "b"}}
    assert plane.request("PUT", f"{path}/l", mine)[0] == 200
    assert plane.request("PUT", f"{path}/l", mine)[0] == 409


def test_two_field_managers_conflict_over_one_field(plane: Plane) -> None:
    space = namespace(plane, "ssa")
    path = f"/api/v1/namespaces/{space}/configmaps/c"
    kind = "application/apply-patch+yaml"

    def apply(value: str, manager: str) -> int:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": value}}
        return plane.request("PATCH", f"{path}?fieldManager={manager}", body, kind=kind)[0]

    assert [apply("1", "a"), apply("1", "a"), apply("2", "b")] == [201, 200, 409]


def test_a_watch_from_before_a_compaction_is_gone(plane: Plane) -> None:
    _, listed = plane.request("GET", "/api/v1/namespaces?limit=1")
    version = listed["metadata"]["resourceVersion"]  # type: ignore[index]
    for i in range(3):
        namespace(plane, f"gone-{i}")
    plane.compact()
    plane.kill("apiserver")  # its own cache of events would still know
    plane.run("apiserver")
    url = f"{plane.url}/api/v1/namespaces?watch=1&resourceVersion={version}&timeoutSeconds=5"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {plane.token('admin')}"})
    try:
        with urllib.request.urlopen(asked, timeout=30, context=plane.trust()) as answer:
            first = json.loads(answer.readline() or b"{}")
            code = first["object"]["code"]
    except urllib.error.HTTPError as error:
        with error:
            code = error.code
    assert code == 410


def test_a_tenant_may_do_nothing_until_a_role_says_so(plane: Plane) -> None:
    assert plane.request("GET", "/api/v1/namespaces/default/pods", user="tenant-a")[0] == 403


def test_the_audit_log_says_who_wrote_what(plane: Plane) -> None:
    since = mark(plane.audit_log)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen"}, "data": {"k": "v"}}
    kind = "application/apply-patch+yaml"
    plane.request("PATCH", "/api/v1/namespaces/default/configmaps/seen?fieldManager=me", body, kind=kind)
    plane.request("GET", "/api/v1/namespaces/default/configmaps/seen")
    mine = [one for one in writes(plane.audit_log, since) if one.name == "seen"]
    assert [(one.user, one.verb, one.resource, one.code, one.manager) for one in mine] == [
        ("admin", "patch", "configmaps", 201, "me")
    ]
    assert mine[0].body["data"] == {"k": "v"}
    assert mine[0].accepted


def test_kubectl_speaks_to_it(plane: Plane) -> None:
    said = plane.kubectl("get", "namespaces", "-o", "name")
    assert "namespace/default" in said.stdout
    assert plane.kubectl("get", "pods", user="tenant-a").returncode == 1


def test_the_proxy_passes_freezes_and_cuts(plane: Plane) -> None:
    proxy = Proxy(plane.ports["apiserver"]).start()
    try:
        headers = {"Authorization": f"Bearer {plane.token('admin')}"}
        asked = urllib.request.Request(f"{proxy.url}/readyz", headers=headers)

        def answers(seconds: float = 5.0) -> bool:
            try:
                with urllib.request.urlopen(asked, timeout=seconds, context=plane.trust()) as answer:
                    return bool(answer.status == 200)
            except (OSError, ssl.SSLError):
                return False

        assert answers()
        proxy.frozen = True
        assert not answers(0.5)
        proxy.frozen = False
        assert answers()
        proxy.closed = True
        proxy.cut()
        assert not answers(0.5)
    finally:
        proxy.stop()


@pytest.mark.slow
def test_four_hundred_pods_are_ready_within_seconds(plane: Plane, nodes: Nodes) -> None:
    space = namespace(plane, "many")
    for i in range(50):
        nodes.add(f"m{i}", gpus=8)
    plane.request("POST", f"/apis/apps/v1/namespaces/{space}/deployments", deployment("a", 400, 1))
    until(lambda: ready(nodes, space) == 400, 60.0)
