"""The custom resources: files and types agree, schemas are structural and bounded, a real API server takes them."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.crds.generate import crd, schema, text
from controller.crds.kinds import KINDS, Kind
from controller.crds.reasons import CONDITIONS, REASONS
from planner.yaml_text import read
from tests.controller.plane.plane import Plane

DEPLOY = Path(__file__).parents[3] / "deploy"
CHAT: dict[str, Any] = read(DEPLOY / "examples" / "chat.yaml")[0].root.plain()  # type: ignore[assignment]


def nodes_of(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within a schema, with its path."""
    yield path, node
    for key, below in node.get("properties", {}).items():
        yield from nodes_of(below, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes_of(node[key], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_shipped_files_are_those_of_the_types(kind: Kind) -> None:
    """To write them anew: `python -m controller.crds.generate deploy/crds`."""
    assert (DEPLOY / "crds" / f"{kind.plural}.yaml").read_text("utf-8") == text(kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_schemas_are_structural_described_and_bounded(kind: Kind) -> None:
    bounds = {"string": ("maxLength", "enum"), "array": ("maxItems",)}
    for path, node in nodes_of(schema(kind)):
        assert not {"$ref", "anyOf", "oneOf", "const", "prefixItems"} & set(node), path
        assert "type" in node, path
        if path in ("", ".metadata") or path.startswith((".apiVersion", ".kind")):
            continue
        assert path.endswith("[]") or node.get("description"), path
        wanted = bounds.get(node["type"], ())
        assert not wanted or set(wanted) & set(node), path
        if node["type"] == "object":
            sized = ("properties", "maxProperties", "x-kubernetes-preserve-unknown-fields")
            assert set(sized) & set(node), path


def test_reasons_are_single_words_and_conditions_are_those_promised() -> None:
    assert all(reason.isalnum() and reason[0].isupper() for reason in REASONS)
    assert CONDITIONS[0] == "Accepted"
    assert "RebalanceHeld" in CONDITIONS


@pytest.fixture(scope="module")
def served(plane: Plane) -> Plane:
    """A control plane that serves the kinds."""
    for kind in KINDS:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        code, answer = plane.request("POST", path, crd(kind))
        assert code in (201, 409), answer
        until_s = time.monotonic() + 30
        while not (found := states(plane, f"{path}/{kind.plural}.muster.dev")).get("Established"):
            assert time.monotonic() < until_s, found
            time.sleep(0.1)
        assert not found.get("NonStructuralSchema")
    until_s = time.monotonic() + 30
    while plane.request("GET", SERVICES)[0] == 404:
        assert time.monotonic() < until_s
        time.sleep(0.1)
    return plane


def states(plane: Plane, path: str) -> dict[str, bool]:
    status: Any = plane.request("GET", path)[1].get("status", {})
    return {row["type"]: row["status"] == "True" for row in status.get("conditions") or []}


SERVICES = "/apis/muster.dev/v1alpha1/namespaces/default/gpuservices"


def named(name: str, **changed: Any) -> dict[str, Any]:
    made = json.loads(json.dumps(CHAT))
    made["metadata"]["name"] = name
    made["spec"] |= changed
    return dict(made)


def test_the_example_is_taken_with_its_defaults(served: Plane) -> None:
    code, answer = served.request("POST", SERVICES, named("taken"))
    spec: Any = answer["spec"]
    assert code == 201
    assert (spec["engine"], spec["deployment"], spec["approval"]) == ("vllm", "online", "Auto")
    assert spec["constraints"]["minReplicas"] == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"qualityFloor": 1.5}, ("spec.qualityFloor", "1")),
        ({"engine": "triton"}, ("spec.engine", '"vllm", "sglang"')),
        ({"slos": [{"name": "a", "ttft": "soon"}]}, ("spec.slos.ttft", "soon")),
        ({"slos": [{"name": "a", "ttft": "1s"}, {"name": "a", "ttft": "2s"}]}, ("spec.slos", "Duplicate")),
    ],
)
def test_a_bad_spec_is_refused_by_field_value_and_range(
    served: Plane, changed: dict[str, Any], said: tuple[str, ...]
) -> None:
    code, answer = served.request("POST", SERVICES, named("refused", **changed))
    assert code == 422
    for words in said:
        assert words in str(answer["message"]), answer["message"]


def test_a_name_that_children_could_not_have_is_refused_by_servers_without_cel_too(served: Plane) -> None:
    code, answer = served.request("POST", SERVICES, named("a" * 64))
    assert code == 422
    assert "metadata.name" in str(answer["message"])
    made = named("")
    made["metadata"] = {"generateName": "chat-"}
    assert served.request("POST", SERVICES, made)[0] == 201


@pytest.mark.parametrize("selector", [{}, None], ids=["empty", "left out"])
def test_labels_of_a_group_are_some_or_left_out(served: Plane, selector: dict[str, str] | None) -> None:
    group = {"name": "g", "gpu": "L4", **({} if selector is None else {"nodeSelector": selector})}
    obj = {"apiVersion": "muster.dev/v1alpha1", "kind": "ClusterInventory", "spec": {"nodeGroups": [group]}}
    path = "/apis/muster.dev/v1alpha1/clusterinventories"
    code, answer = served.request("POST", path, {**obj, "metadata": {"name": "groups"}})
    assert code == (201 if selector is None else 422)
    assert code == 201 or "spec.nodeGroups.nodeSelector" in str(answer["message"])
    served.request("DELETE", f"{path}/groups")


def test_kubectl_shows_columns_and_explains_and_scales(served: Plane) -> None:
    served.request("POST", SERVICES, named("shown"))
    table = served.kubectl("get", "gsvc", "shown").stdout.split("\n")
    assert table[0].split() == ["NAME", "MODEL", "DESIRED", "READY", "GPUS", "SLO", "PLAN", "REASON", "WHY", "AGE"]
    assert "meta-llama/Llama-3.1-8B-Instruct" in table[1]
    assert "shown" in served.kubectl("get", "muster").stdout
    end_s = time.monotonic() + 20  # the server publishes the schemas of new kinds a while after it serves them
    while not (explained := served.kubectl("explain", "gpuservices.spec.qualityFloor")).stdout:
        assert time.monotonic() < end_s, explained.stderr
        time.sleep(0.5)
    assert "Least accuracy kept against the 16-bit model" in explained.stdout
    code, _ = served.request(
        "PATCH", f"{SERVICES}/shown/scale", {"spec": {"replicas": 3}}, kind="application/merge-patch+json"
    )
    spec: Any = served.request("GET", f"{SERVICES}/shown")[1]["spec"]
    assert (code, spec["constraints"]["minReplicas"]) == (200, 3)
