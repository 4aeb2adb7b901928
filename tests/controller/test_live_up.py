"""`muster up --kubeconfig` on the real control plane: one process that controls, answers, and shows."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.controller.live import Site, until
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane
from tests.controller.running import Up, a_body, start

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
PAGES = ("/", "/submit", "/services/default/up", "/cluster", "/power", "/plans/default/up", "/events")


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
        until(lambda: "this process leads" in up.log.read_text(), 30)
        assert "created" in muster("apply", "-f", str(spec), token=token, server=up.address)
        until(lambda: site.is_ready("up"), 60)
        assert "up" in muster("get", "services", token=token, server=up.address)
        flags = site.get("up", plural="plans")["spec"]["allocations"][0]["flags"]
        assert flags["enable-chunked-prefill"] == "", "a switch has an empty text, which old servers take for null"
        _shows(up, token)
        _refuses(up)
        until(lambda: "Replanned" in up.log.read_text(), 30)
        lease = "/apis/coordination.k8s.io/v1/namespaces/muster-system/leases/muster-controller"
        assert site.api.request("GET", lease)["spec"]["holderIdentity"]
        assert up.end() == 0, up.log.read_text()
        assert not site.api.request("GET", lease)["spec"].get("holderIdentity"), "another may lead at once"
        assert site.is_ready("up"), "what was planned runs on"
    finally:
        if up.process.poll() is None:
            up.kill()


def _shows(up: Up, token: Path) -> None:
    """Every page, to who signs in with a token of the cluster."""
    with httpx.Client(base_url=up.address, timeout=30.0) as client:
        assert client.get("/").status_code == 303
        assert client.post("/login", data={"token": token.read_text()}).status_code == 303
        for path in PAGES:
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert "Not to be had now" not in answer.text, path
        recorded = "/api/v1/series?metric=usd_per_hour&subject=default/up&range=1h"
        bearer = {"Authorization": f"Bearer {token.read_text()}"}
        until(lambda: client.get(recorded, headers=bearer).json().get("points"), 40, "nothing is recorded")


def _refuses(up: Up) -> None:
    with httpx.Client(base_url=up.address, timeout=30.0) as client:
        assert client.get("/api/v1/services").status_code == 401
        assert client.get("/api/v1/services", headers={"Authorization": "Bearer x.y.z"}).status_code == 401


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


def test_a_cluster_that_does_not_answer_is_told_of(plane: Plane, tmp_path: Path) -> None:
    file = plane.kubeconfig(url="https://127.0.0.1:9")
    command = [sys.executable, "-m", "planner.main", "up", "--state", str(tmp_path), "--kubeconfig", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
    assert "127.0.0.1:9" in done.stderr
