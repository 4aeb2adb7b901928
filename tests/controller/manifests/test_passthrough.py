"""What users add to pods stands beside what Muster decides, and what may not be added is refused with its place."""

from typing import Any

import pytest

from controller.manifests.passthrough import refused
from controller.manifests.workload import workload
from planner.plan import Recipe
from tests.controller.manifests.factories import DEEPSEEK, H100, OLD, PATCH, an_allocation, made
from tests.controller.objects import a_service


def test_what_the_plan_decides_cannot_be_set_beside_it() -> None:
    bad = {
        "spec": {
            "affinity": {}, "nodeName": "n",
            "containers": [{"name": "engine", "command": ["x"], "resources": {"limits": {"nvidia.com/gpu": 1}}}],
        },
        "metadata": {"labels": {"muster.dev/kind": "x"}},
    }  # fmt: skip
    assert len(refused(bad)) == 5
    assert refused(PATCH) == []


ENGINE_SAYS: dict[str, Any] = {
    "spec.containers[0].image": {"image": "x"},
    "spec.containers[0].resources": {"resources": {"requests": {"nvidia.com/mig-1g.10gb": 1}}},
    "spec.containers[0].ports[0]": {"ports": [{"name": "other", "containerPort": 8000}]},
    "spec.containers[0].env[1]": {"env": [{"name": "A", "value": "b"}, {"name": "HF_TOKEN", "value": "hf_x"}]},
    "spec.containers[0].volumeMounts[0]": {"volumeMounts": [{"name": "mine", "mountPath": "/models/"}]},
    "spec.containers[0].resources.claims[0]": {"resources": {"claims": [{"name": "gpus"}]}},
}
ONE_GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
REFUSED: dict[str, Any] = {
    **{place: {"spec": {"containers": [{"name": "engine", **says}]}} for place, says in ENGINE_SAYS.items()},
    "metadata.labels": {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}},
    "metadata.annotations": {"metadata": {"annotations": {"muster.dev/recipe": "mine"}}},
    "spec.containers[0].resources.": {"spec": {"containers": [{"name": "side", **ONE_GPU}]}},
    "spec.initContainers[0].resources": {"spec": {"initContainers": [{"name": "warm", **ONE_GPU}]}},
    "spec.resourceClaims[0].name": {"spec": {"resourceClaims": [{"name": "gpus", "resourceClaimName": "mine"}]}},
    **{f"spec.volumes[0].name: got {name}": {"spec": {"volumes": [{"name": name, "hostPath": {"path": "/x"}}]}}
       for name in ("weights", "cache", "shm")},
}  # fmt: skip


@pytest.mark.parametrize("place", REFUSED)
def test_what_is_musters_in_a_pod_is_refused_with_its_place_and_what_is_allowed(place: str) -> None:
    (said,) = refused(REFUSED[place])
    assert said.startswith(place.removesuffix("."))
    assert ": got " in said
    assert "allowed: " in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"spec": []}, "spec: got a list, allowed: a mapping"),
        ({"metadata": {"labels": "x"}}, "metadata.labels: got 'x', allowed: a mapping"),
        ({"spec": {"containers": {}}}, "spec.containers: got a mapping, allowed: a list"),
        ({"spec": {"volumes": [1]}}, "spec.volumes[0]: got 1, allowed: a mapping"),
        ({"spec": {"volumes": [{"name": []}]}}, "spec.volumes[0].name: got a list, allowed: text"),
        ({"spec": {"containers": [{"env": "A=b"}]}}, "spec.containers[0].env: got 'A=b', allowed: a list"),
        ({"spec": {"containers": [{"resources": {"limits": 1}}]}}, "spec.containers[0].resources.limits: got 1, "
         "allowed: a mapping"),
    ],
)  # fmt: skip
def test_a_pod_template_of_another_form_is_refused_in_words(given: dict[str, Any], said: str) -> None:
    assert refused(given) == [said]


def test_ports_claims_and_mounts_of_users_stand_beside_ours() -> None:
    given = {
        "spec": {
            "resourceClaims": [{"name": "nic", "resourceClaimTemplateName": "nics"}],
            "volumes": [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}],
            "containers": [{
                "name": "engine", "ports": [{"name": "debug", "containerPort": 9000}],
                "volumeMounts": [{"name": "kept", "mountPath": "/cache"}], "resources": {"claims": [{"name": "nic"}]},
            }],
        }
    }  # fmt: skip
    assert refused(given) == []
    serving = {"podTemplate": given, "deviceClass": "gpu.nvidia.com"}
    spec = made(a_service(serving=serving), an_allocation(Recipe(H100))).pod.template["spec"]
    (engine,) = spec["containers"]
    assert [one["name"] for one in spec["resourceClaims"]] == ["gpus", "nic"]
    assert engine["resources"] == {"claims": [{"name": "gpus"}, {"name": "nic"}]}
    assert [one["containerPort"] for one in engine["ports"]] == [8000, 9000]
    assert {one["mountPath"]: one["name"] for one in engine["volumeMounts"]} == {"/dev/shm": "shm", "/cache": "kept"}


def test_probes_of_sidecars_stay_theirs_where_replicas_span_nodes() -> None:
    probe = {"httpGet": {"path": "/healthz", "port": 9000}}
    side = {"name": "side", "image": "side:1", "livenessProbe": probe}
    service = a_service(serving={"podTemplate": {"spec": {"containers": [side]}}})
    allocation = an_allocation(Recipe(H100, tp=8, pp=2), model=DEEPSEEK)
    engine, there = workload(made(service, allocation), 1, service, OLD)["spec"]["template"]["spec"]["containers"]
    assert there == side
    assert "exec" in engine["livenessProbe"]


GONE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def stays_s(**serving: Any) -> dict[str, int | None]:
    """How long pods stay on a node with each taint of one that is gone; none for ever."""
    spec = made(a_service(serving=serving), an_allocation(Recipe(H100))).pod.template["spec"]
    return {one.get("key", ""): one.get("tolerationSeconds") for one in spec["tolerations"]}


def test_replicas_leave_a_node_that_is_gone_after_thirty_seconds_unless_users_say_when() -> None:
    assert {key: stays_s()[key] for key in GONE} == {key: 30 for key in GONE}
    longer = {"key": GONE[1], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 120}
    for serving in ({"tolerations": [longer]}, {"podTemplate": {"spec": {"tolerations": [longer]}}}):
        assert {key: stays_s(**serving)[key] for key in GONE} == {GONE[0]: 30, GONE[1]: 120}
    assert not set(GONE) & set(stays_s(tolerations=[{"operator": "Exists"}])), "what tolerates everything says so"
    assert set(GONE) <= set(stays_s(tolerations=[{"operator": "Exists", "effect": "NoSchedule"}]))
