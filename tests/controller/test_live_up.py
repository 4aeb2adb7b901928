"""`muster up --kubeconfig` on the real control plane: one process that controls, answers, and shows."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.controller.live import Site, until
from tests.controller.loopback import sends, serving
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane
from tests.controller.running import Up, a_body, running, start

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
SHOWN = {  # what each page names; which GPU of a node a pod has its device plugin alone knows
    "/": "default/up", "/services/default/up": "default/up", "/plans/default/up": "default/up", "/events": "default/up",
    "/cluster": "up-node", "/power": "Power", "/submit": "GPUService",
}  # fmt: skip
LEASE = "/apis/coordination.k8s.io/v1/namespaces/muster-system/leases/muster-controller"


def an_administrator(site: Site) -> str:
    """A token of an account that may do everything."""
    site.post("/api/v1/namespaces/muster-system/serviceaccounts", {"metadata": {"name": "boss"}})
    who = {"kind": "ServiceAccount", "name": "boss", "namespace": "muster-system"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    site.post(f"{_RBAC}/clusterrolebindings", {"metadata": {"name": "boss"}, "roleRef": role, "subjects": [who]})
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = "/api/v1/namespaces/muster-system/serviceaccounts/boss/token"
    return str(site.api.request("POST", path, asked)["status"]["token"])


@pytest.fixture
def site(plane: Plane, nodes: Nodes) -> Iterator[Site]:
    made = Site(plane)
    nodes.add("up-node", 8, pool="big")
    made.inventory({"name": "h100", "nodeSelector": {"pool": "big"}, "gpu": "H100-SXM", "pricePerHour": "$2.50"})
    yield made
    made.clear()


def muster(*words: str, token: Path, server: str) -> str:
    command = [sys.executable, "-m", "planner.main", *words, "--server", server, "--token-file", str(token)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_process_controls_a_cluster_answers_and_shows_it(site: Site, plane: Plane, tmp_path: Path) -> None:
    token, spec = tmp_path / "token", tmp_path / "up.json"
    token.write_text(an_administrator(site))
    token.chmod(0o600)
    spec.write_text(json.dumps(a_body("up")))
    up = start(tmp_path / "state", "--kubeconfig", str(plane.kubeconfig()))
    try:
        until(lambda: "lease muster-system/muster-controller: this process leads" in up.log.read_text(), 30)
        assert f"cluster {plane.url}, context as the kubeconfig has it: services of all" in up.log.read_text()
        assert "created" in muster("apply", "-f", str(spec), token=token, server=up.address)
        until(lambda: site.is_ready("up"), 60)
        assert "up" in muster("get", "services", token=token, server=up.address)
        flags = site.get("up", plural="plans")["spec"]["allocations"][0]["flags"]
        assert flags["enable-chunked-prefill"] == "", "a switch has an empty text, which old servers take for null"
        _shows(up, token)
        _refuses(up, token)
        _stands_by(site, plane, token, tmp_path)
        until(lambda: "Replanned" in up.log.read_text(), 30)
        assert site.api.request("GET", LEASE)["spec"]["holderIdentity"]
        assert up.end() == 0, up.log.read_text()
        assert not site.api.request("GET", LEASE)["spec"].get("holderIdentity"), "another may lead at once"
        assert "ended; the lease is released" in up.log.read_text()
        assert site.is_ready("up"), "what was planned runs on"
    finally:
        if up.process.poll() is None:
            up.kill()


def _shows(up: Up, token: Path) -> None:
    """Every page, to who signs in with a token of the cluster."""
    with httpx.Client(base_url=up.address, timeout=30.0) as client:
        assert client.get("/").status_code == 303
        assert client.post("/login", data={"token": token.read_text()}).status_code == 303
        for path, named in SHOWN.items():
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert "Not to be had now" not in answer.text, path
            assert named in answer.text, path
        recorded = "/api/v1/series?metric=usd_per_hour&subject=default/up&range=1h"
        bearer = {"Authorization": f"Bearer {token.read_text()}"}
        rows = client.get("/api/v1/services", headers=bearer).json()["items"]
        assert [one["metadata"]["name"] for one in rows] == ["up"]
        until(lambda: client.get(recorded, headers=bearer).json().get("points"), 40, "nothing is recorded")


def _refuses(up: Up, token: Path) -> None:
    """Whom the cluster does not know, and what only a simulated cluster can do."""
    bearer = {"Authorization": f"Bearer {token.read_text()}"}
    with httpx.Client(base_url=up.address, timeout=30.0) as client:
        assert client.get("/api/v1/services").status_code == 401
        assert client.get("/api/v1/services", headers={"Authorization": "Bearer x.y.z"}).status_code == 401
        fault = {"node": "up-node", "gpu": 0, "kind": "lost"}
        for answer in (
            client.post("/api/v1/faults", json=fault, headers=bearer),
            client.put("/api/v1/traffic/default/up", json={"kind": "poisson"}, headers=bearer),
        ):
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:muster:problem:not-embedded")


def _stands_by(site: Site, plane: Plane, token: Path, folder: Path) -> None:
    """A second process answers from the same cluster, hears engines for its pages, and leads nothing."""
    leader = site.api.request("GET", LEASE)["spec"]["holderIdentity"]
    rows = [{"metric": {"namespace": "default", "muster_dev_service": "up"}, "value": [0, "3"]}]
    told = sends(json.dumps({"data": {"resultType": "vector", "result": rows}}).encode())
    words = ("--kubeconfig", str(plane.kubeconfig()), "--prometheus")
    bearer = {"Authorization": f"Bearer {token.read_text()}"}
    with (
        serving(told) as prometheus,
        running(folder / "second", *words, prometheus.removesuffix("/metrics")) as second,
    ):
        until(lambda: f"stands by, {leader} leads" in second.log.read_text(), 30)
        rate = "/api/v1/series/latest?metric=rate_per_s"
        until(lambda: second.ask("GET", rate, headers=bearer)["values"].get("default/up"), 30, "no rate is heard")
        assert "up" in muster("get", "services", token=token, server=second.address)
        assert second.end() == 0, second.log.read_text()
        assert "ended; what was planned stays" in second.log.read_text()
    assert site.api.request("GET", LEASE)["spec"]["holderIdentity"] == leader


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kubeconfig", "absent"), "absent"),
        (("--kubeconfig", "absent", "--demo"), "--demo: got it with --kubeconfig"),
        (("--kubeconfig", "absent", "--speed", "2"), "--speed: got it with --kubeconfig"),
        (("--prometheus", "http://127.0.0.1:1"), "--prometheus: got it without --kubeconfig"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "planner.main", "up", "--state", str(tmp_path / "state"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def failed(folder: Path, *words: str) -> str:
    """What a start that fails says."""
    command = [sys.executable, "-m", "planner.main", "up", "--state", str(folder / "state"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
    return done.stderr


def test_a_cluster_that_does_not_answer_is_told_of(plane: Plane, tmp_path: Path) -> None:
    file = plane.kubeconfig(url="https://127.0.0.1:9")
    said = failed(tmp_path, "--kubeconfig", str(file))
    assert said.startswith(f"muster up: https://127.0.0.1:9 of {file}: does not answer"), said


def test_who_cannot_run_or_cannot_serve_leaves_the_lease_alone(site: Site, plane: Plane, tmp_path: Path) -> None:
    boss, tenant = (("--kubeconfig", str(plane.kubeconfig(user))) for user in ("admin", "tenant-a"))
    assert "update leases.coordination.k8s.io in muster-system" in failed(tmp_path, *tenant)
    assert "--namespace: got nowhere, which the cluster does not have" in failed(
        tmp_path, *boss, "--namespace", "nowhere"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"--listen {address}: cannot listen" in failed(tmp_path, *boss, "--listen", address)
        assert f"--reports {address}: cannot listen" in failed(tmp_path, *boss, "--reports", address)
    assert not site.api.request("GET", LEASE)["spec"].get("holderIdentity"), "another may lead at once"
