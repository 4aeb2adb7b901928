"""`kubectl get gpuservices` alone answers "why not ready": every seeded failure, on a real control plane."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller import conditions, names
from controller.crds.generate import crd
from controller.crds.kinds import KINDS
from controller.kube.applier import Applier
from controller.kube.discovery import discover
from controller.kube.rest import Api, ApiError, connect
from planner.yaml_text import read
from tests.controller.failure import Failure, deployment, facts, template
from tests.controller.failures import FAILURES
from tests.controller.plane.nodes import Fate, Nodes
from tests.controller.plane.plane import Plane
from tests.controller.plane.test_plane import until

EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "chat.yaml"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
BY_NAME = {failure.name: failure for failure in FAILURES}


class Led:
    """Someone who leads."""

    epoch: int | None = 1

    def may_write(self) -> bool:
        return True


@pytest.fixture(scope="module")
def api(plane: Plane) -> Api:
    made = connect(plane.kubeconfig())
    for kind in KINDS:
        post(made, CRDS, crd(kind))
    until(lambda: discover(made).get("gpuservices"))
    return made


def post(api: Api, path: str, body: Mapping[str, Any]) -> None:
    try:
        api.request("POST", path, body)
    except ApiError as error:
        if error.status != 409:
            raise


def fate(pod: Mapping[str, Any]) -> Fate:
    failure = BY_NAME.get((pod["metadata"].get("labels") or {}).get(names.SERVICE, ""))
    if failure is None or not failure.kubelet:
        return Fate()
    assert failure.status is not None
    return Fate(status=failure.status(pod))


def seed(api: Api, failure: Failure, example: Mapping[str, Any]) -> None:
    """The service of a failure, in a namespace of its own, and what runs for it."""
    space = f"why-{failure.name}"
    post(api, "/api/v1/namespaces", {"metadata": {"name": space}})
    for path, body in failure.needs:
        post(api, path.format(space), body)
        if path.endswith("quotas"):  # it holds once it was counted
            at = f"{path.format(space)}/{body['metadata']['name']}"
            until(lambda at=at: (api.request("GET", at).get("status") or {}).get("used"))  # type: ignore[misc]
    service = {**example, "metadata": {"name": failure.name, "namespace": space}}
    post(api, f"/apis/muster.dev/v1alpha1/namespaces/{space}/gpuservices", service)
    if failure.bare:
        for number in (1, 2):
            made = template(failure)
            made["metadata"] |= {"name": f"{failure.name}-{number}"}
            post(api, f"/api/v1/namespaces/{space}/pods", made)
    elif failure.planned:
        post(api, f"/apis/apps/v1/namespaces/{space}/deployments", deployment(failure))


def look(api: Api, failure: Failure) -> dict[str, Any]:
    """The service's status as a controller would write it by what the API says now."""
    space = f"why-{failure.name}"
    service = api.request("GET", f"/apis/muster.dev/v1alpha1/namespaces/{space}/gpuservices/{failure.name}")
    pods = api.request("GET", f"/api/v1/namespaces/{space}/pods")["items"]
    made = api.request("GET", f"/apis/apps/v1/namespaces/{space}/deployments")["items"]
    ready = sum(int((one.get("status") or {}).get("readyReplicas") or 0) for one in made)
    return conditions.status(facts(failure, service, pods, made, ready))


def answered(failure: Failure, status: Mapping[str, Any]) -> bool:
    ready = next(row for row in status["conditions"] if row["type"] == "Ready")
    return ready["reason"] == failure.reason and all(words in status["why"] for words in failure.words)


def is_tainted(api: Api, node: str) -> bool:
    """Taints a node; whether it stays so. The node controller writes the taints of new nodes as it read them before."""
    taint = {"spec": {"taints": [{"key": names.TAINT, "effect": "NoSchedule"}]}}
    api.request("PATCH", f"/api/v1/nodes/{node}", taint, content_type="application/merge-patch+json")
    time.sleep(1.0)
    taints = api.request("GET", f"/api/v1/nodes/{node}")["spec"].get("taints") or []
    return [one["key"] for one in taints] == [names.TAINT]


def test_every_seeded_failure_is_answered_by_kubectl_get(plane: Plane, nodes: Nodes, api: Api) -> None:
    nodes.fate = fate
    example = read(EXAMPLE)[0].root.plain()
    nodes.add("big", gpus=1000, product="NVIDIA-H200")
    nodes.add("small", gpus=4, product="NVIDIA-H200", pool="small")
    nodes.add("faulty", gpus=1000, product="NVIDIA-H200", pool="faulty")
    until(lambda: is_tainted(api, "faulty"))
    for failure in FAILURES:
        seed(api, failure, example)  # type: ignore[arg-type]
    applier = Applier(api, discover(api), Led())
    waiting, end_s = list(FAILURES), time.monotonic() + 30
    while waiting and time.monotonic() < end_s:
        time.sleep(0.2)
        waiting = [failure for failure in waiting if not answered(failure, look(api, failure))]
    for failure in FAILURES:
        path = f"/apis/muster.dev/v1alpha1/namespaces/why-{failure.name}/gpuservices/{failure.name}"
        written = applier.status(api.request("GET", path), look(api, failure))
        writes = applier.writes
        assert applier.status(written, look(api, failure)) is written
        assert applier.writes == writes, "a second look writes nothing"
    table = plane.kubectl("get", "gpuservices", "--all-namespaces").stdout.splitlines()
    assert table[0].split()[-3:] == ["REASON", "WHY", "AGE"]
    rows = {row[1]: row for row in (re.split(r"\s{2,}", line.strip()) for line in table[1:])}
    wrong = {
        name: rows[name]
        for name, failure in BY_NAME.items()
        if rows[name][-3] != failure.reason or not all(words in rows[name][-2] for words in failure.words)
    }
    assert wrong == {}
    assert len(FAILURES) >= 30
    assert not any(secret in "\n".join(table) for secret in ("hunter2", "abcdefgh1234"))
