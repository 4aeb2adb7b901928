"""What keeps `muster up --kubeconfig` from beginning is said in a line: file, server, what the cluster lacks."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from controller.kube.discovery import KNOWN
from controller.kube.rest import Api, connect
from controller.up_fit import Unfit, check, check_prometheus, cluster_id
from planner.errors import BadInput
from tests.controller.loopback import sends, serving

_VERSION = {"gitVersion": "v1.30.0"}
_ALL = {"allowed": True}


def a_kubeconfig(folder: Path, server: str) -> Path:
    file = folder / "kubeconfig"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "c", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }  # fmt: skip
    file.write_text(json.dumps(config))
    return file


def what_is_served(version: str, without: tuple[str, ...]) -> dict[str, Any]:
    """The resources of a group, as an API server lists them."""
    names = [plural for plural, versions in KNOWN.items() if version in versions and plural not in without]
    return {"resources": [{"name": one, "kind": one.title(), "namespaced": True} for one in names]}


@contextmanager
def a_server(
    folder: Path,
    without: tuple[str, ...] = (),
    spaces: tuple[str, ...] = ("muster-system",),
    allowed: Callable[[Mapping[str, str]], bool] = lambda asked: True,
    status: int = 200,
    version: Mapping[str, str] = _VERSION,
) -> Iterator[Api]:
    """A server that says of itself what a Kubernetes API server does."""

    def found(request: BaseHTTPRequestHandler) -> tuple[int, object]:
        path = request.path
        if path == "/version":
            return status, version
        if path.startswith("/api/v1/namespaces/"):
            name = path.rpartition("/")[2]
            return (200 if name in spaces else 404), {"metadata": {"name": name, "uid": f"uid-of-{name}"}}
        if path.endswith("/selfsubjectaccessreviews"):
            body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
            return 201, {"status": {"allowed": allowed(body["spec"]["resourceAttributes"])}}
        return 200, what_is_served(path.split("/", 2)[2], without)

    def answer(request: BaseHTTPRequestHandler) -> None:
        code, body = found(request)
        sends(json.dumps(body).encode(), code)(request)

    with serving(answer) as url:
        yield connect(a_kubeconfig(folder, url.removesuffix("/metrics")))


def test_a_cluster_with_everything_is_taken(tmp_path: Path) -> None:
    with a_server(tmp_path) as api:
        check(api, "muster-system", True)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (
            {"without": ("plans", "gpuservices")},
            "has no gpuservices, plans: Muster's custom resources are not installed",
        ),
        ({"without": ("plans",)}, "muster install --print | kubectl apply -f -"),
        ({"spaces": ()}, "--namespace: got muster-system, which the cluster does not have"),
        (
            {"allowed": lambda asked: asked["resource"] != "leases"},
            "update leases.coordination.k8s.io in muster-system",
        ),
        ({"allowed": lambda asked: False}, "and 6 more, which Muster needs"),
        ({"status": 401}, "refuses the credentials"),
        ({"status": 502}, "does not answer as an API server does"),
        ({"version": {"hello": "world"}}, "answers, but not as an API server does"),
    ],
)
def test_what_a_cluster_lacks_is_named(server: dict[str, Any], said: str, tmp_path: Path) -> None:
    with a_server(tmp_path, **server) as api, pytest.raises(Unfit) as refused:
        check(api, "muster-system", True)
    assert said in str(refused.value)


def test_whose_callers_are_not_asked_who_they_are_needs_no_reviews(tmp_path: Path) -> None:
    with a_server(tmp_path, allowed=lambda asked: not asked["resource"].endswith("reviews")) as api:
        check(api, "muster-system", False)
        with pytest.raises(Unfit, match="create tokenreviews"):
            check(api, "muster-system", True)


def test_a_cluster_is_known_by_what_does_not_change_with_its_address(tmp_path: Path) -> None:
    with a_server(tmp_path, spaces=("kube-system",)) as api:
        assert cluster_id(api) == "uid-of-kube-system"
    with a_server(tmp_path, spaces=()) as api:
        assert cluster_id(api) == api.server.removeprefix("http://").replace(":", "-").replace(".", "-")


_CONTEXT = "contexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "got a file that is not there"),
        (b"", "is empty"),
        (b"- a\n", "got something else"),
        (b"a: [\n", "got something else"),
        (b"hello", "got something else"),
        (b"\x00\xff", "codec can't decode"),
        (b"apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n", "Expected key current-context"),
        (f"current-context: y\nclusters: []\n{_CONTEXT}".encode(), "Expected object with name y"),
        (f"current-context: x\nclusters: [{{name: c, cluster: {{}}}}]\n{_CONTEXT}".encode(), "got no server"),
    ],
)
def test_a_kubeconfig_that_is_none_is_refused_in_a_line(text: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(BadInput) as refused:
        connect(file)
    assert said in str(refused.value)
    assert "allowed: a file with a server and a current context" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_prometheus_that_could_never_be_asked_is_refused(tmp_path: Path) -> None:
    good, token = "http://127.0.0.1:9090", tmp_path / "token"
    check_prometheus("", None)
    check_prometheus(good, None)
    for url, file, said in (
        ("127.0.0.1:9090", None, "--prometheus: got '127.0.0.1:9090'"),
        ("ftp://prometheus", None, "allowed: an address such as"),
        ("", token, "--prometheus-token-file: got it without --prometheus"),
        (good, token, "cannot be read"),
    ):
        with pytest.raises(BadInput) as refused:
            check_prometheus(url, file)
        assert said in str(refused.value)
