"""What plans become in Kubernetes, as files to read; LeaderWorkerSet, HTTPRoute, Kueue and DRA by these files alone.

To write them anew: MUSTER_UPDATE_GOLDEN=1 pytest tests/controller/manifests
"""

import difflib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.kube.discovery import Resource, Served
from controller.manifests.passthrough import refused
from controller.manifests.pod import unservable
from controller.manifests.priority import class_of, priority_class
from controller.manifests.service import around, claimed, route, table, table_name, weights_of
from controller.manifests.workload import Made, kinds, workload
from planner.catalog.engines import engine_options
from planner.launch import engine_flags
from planner.plan import Allocation, Prediction, Recipe
from planner.service import Bucket
from planner.spec.fields import SERVICE_NAME
from planner.techniques import techniques
from planner.yaml_text import dump
from tests.controller.objects import a_service

GOLDEN = Path(__file__).with_name("golden")
SMALL = Bucket("chat", 512, 128)
OLD = Served({
    "poddisruptionbudgets": Resource("poddisruptionbudgets", "policy/v1beta1", "PodDisruptionBudget", True),
    "statefulsets": Resource("statefulsets", "apps/v1", "StatefulSet", True),
})  # fmt: skip
NEW = Served({
    **OLD.resources,
    "poddisruptionbudgets": Resource("poddisruptionbudgets", "policy/v1", "PodDisruptionBudget", True),
    "leaderworkersets": Resource("leaderworkersets", "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", True),
    "httproutes": Resource("httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute", True),
    "resourceclaimtemplates": Resource("resourceclaimtemplates", "resource.k8s.io/v1", "ResourceClaimTemplate", True),
})  # fmt: skip
GROUPS = {
    "h100": {"name": "h100", "nodeSelector": {"pool": "big"}},
    "l4": {"name": "l4", "nodeSelector": {"pool": "small"}, "gpu": "L4"},
}
LLAMA, DEEPSEEK = "meta-llama/Llama-3.1-8B-Instruct", "deepseek-ai/DeepSeek-V3"


def an_allocation(recipe: Recipe, replicas: int = 2, pool: str = "serve", **more: Any) -> Allocation:
    engine = more.get("engine", "vllm")
    predicted = Prediction(0.2, 0.02, 3.0, 1000.0, 0.7, 1e9, 1e10, 400.0, more.pop("cold_start_s", 90.0))
    made = Allocation(
        "team-a/chat", more.pop("model", LLAMA), pool, more.pop("node_group", "h100"), "a", recipe, replicas,
        recipe.gpus, 5.0, 800.0, predicted, {SMALL: 1.0}, 0.8, engine, engine_flags(recipe, engine, pool),
    )  # fmt: skip
    return replace(made, **{key: value for key, value in more.items() if key != "engine"})


def everything(service: dict[str, Any], *allocations: Allocation, served: Served = NEW) -> list[Any]:
    made = kinds(service, allocations, {SMALL: 8.0}, GROUPS, {"h100": 8, "l4": 4})
    weights = {SMALL: {one.kind.name: 1 / len(made) for one in made}}
    found = [workload(one, one.replicas, service, served) for one in made] + around(service, made, served)
    routed = route(service, weights, {SMALL: 8.0}, served)
    return [*found, table(service, weights), *([routed] if routed else [])]


H100 = "H100-SXM"
HF = {"weights": {"huggingFace": {"id": "team/private", "secretRef": {"name": "hub", "key": "token"}}}}
PATCH = {
    "metadata": {"annotations": {"sidecar.example/inject": "false"}},
    "spec": {
        "nodeSelector": {"disk": "fast"},
        "containers": [
            {"name": "engine", "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]},
            {"name": "proxy", "image": "proxy:1"},
        ],
    },
}
CASES: dict[str, list[Any]] = {
    "one-gpu-hugging-face-secret": everything(a_service(serving=HF), an_allocation(Recipe(H100, techniques=("fp8",)))),
    "two-gpus-pvc": everything(
        a_service(serving={"weights": {"pvc": {"claimName": "models", "path": "llama"}}, "image": "reg/vllm:1"}),
        an_allocation(Recipe(H100, tp=2, max_batch=64, techniques=("fp8", "chunked-prefill"))),
    ),
    "oci-weights-on-l4-passthrough": everything(
        a_service(serving={"weights": {"image": {"reference": "reg.example/llama@sha256:0"}}, "podTemplate": PATCH}),
        an_allocation(Recipe("L4"), node_group="l4"),
    ),
    "two-nodes-leader-worker-set": everything(
        a_service(engine="sglang"), an_allocation(Recipe(H100, tp=16), 2, engine="sglang", model=DEEPSEEK)
    ),
    "two-nodes-stateful-set": everything(
        a_service(), an_allocation(Recipe(H100, tp=8, pp=2), 2, model=DEEPSEEK), served=OLD
    ),
    "prefill-and-decode": everything(
        a_service(),
        *(an_allocation(Recipe(H100, techniques=("disaggregation",)), count, pool)
          for pool, count in (("prefill", 1), ("decode", 2))),
    ),
    "experts-and-attention-ranks": everything(
        a_service(engine="sglang"), an_allocation(Recipe(H100, tp=1, ep=8, dp=8), 1, engine="sglang", model=DEEPSEEK)
    ),
    "queue-claims-gateway": everything(
        a_service(serving={
            "queue": "team", "deviceClass": "gpu.nvidia.com", "priorityClass": "high", "maxUnavailable": 2,
            "gateway": {"name": "edge", "namespace": "infra", "hostnames": ["chat.example"]},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        }),
        an_allocation(Recipe(H100)), an_allocation(Recipe("L4"), node_group="l4"),
    ),
    "scaled-to-zero": everything(a_service(), an_allocation(Recipe(H100), 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_plan_becomes_what_its_file_says(name: str) -> None:
    text = "---\n".join(dump(one) for one in CASES[name])
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("MUSTER_UPDATE_GOLDEN"):
        file.write_text(text, "utf-8")
    there = file.read_text("utf-8")
    assert text == there, "".join(difflib.unified_diff(there.splitlines(True), text.splitlines(True), "file", "made"))


@pytest.mark.parametrize("name", CASES)
def test_objects_of_kubernetes_itself_are_valid(name: str) -> None:
    for one in CASES[name]:
        if one["apiVersion"] in ("v1", "apps/v1", "policy/v1"):
            kubernetes_validate.validate(one, "1.34", strict=True)


@pytest.mark.parametrize("name", CASES)
def test_engines_know_every_flag(name: str) -> None:
    """`vllm serve` adds --port and --headless to the engine's own (vllm/entrypoints, release 0.33.0)."""
    for one in CASES[name]:
        if one["kind"] in ("Deployment", "StatefulSet", "LeaderWorkerSet"):
            line = str(one["spec"])
            engine = "sglang" if "sglang.launch_server" in line else "vllm"
            flags = set(re.findall(r"--([a-z][a-z0-9-]+)", line))
            assert flags
            assert flags <= engine_options(engine).flags | ({"port", "headless"} if engine == "vllm" else set())


def test_the_secret_is_named_and_never_read() -> None:
    text = str(CASES["one-gpu-hugging-face-secret"])
    assert "secretKeyRef" in text
    assert "'value': 'token'" not in text


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


def test_a_checkpoint_that_somebody_must_quantise_is_asked_for() -> None:
    wants = next(name for name, one in techniques().items() if one.quantised)
    allocation = an_allocation(Recipe(H100, techniques=(wants,)))
    assert "spec.serving.weights" in unservable(a_service(), allocation, 8, NEW)
    assert unservable(a_service(serving=HF), allocation, 8, NEW) == ""


def test_a_replica_that_cannot_be_split_evenly_over_nodes_is_refused() -> None:
    assert unservable(a_service(), an_allocation(Recipe(H100, tp=3, pp=3)), 8, NEW) == (
        "a replica of 9 GPUs does not fit into a node of group h100, which has 8 GPUs, "
        "and cannot be split evenly over 2 nodes"
    )
    for good in (Recipe(H100, tp=8, pp=2), Recipe(H100, tp=8), Recipe(H100)):
        assert unservable(a_service(), an_allocation(good), 8, NEW) == ""
    assert unservable(a_service(), an_allocation(Recipe(H100, tp=8)), 0, NEW) == "", "no node of the group is there"


def test_claims_are_refused_where_the_server_knows_none() -> None:
    service = a_service(serving={"deviceClass": "gpu.nvidia.com"})
    said = unservable(service, an_allocation(Recipe(H100)), 8, OLD)
    assert said.startswith("spec.serving.deviceClass: got gpu.nvidia.com, but this API server serves no ResourceClaim")
    assert unservable(service, an_allocation(Recipe(H100)), 8, NEW) == ""


@pytest.mark.parametrize(
    "given",
    [{"hostNetwork": True}, {"containers": [{"name": "proxy", "ports": [{"containerPort": 80, "hostPort": 80}]}]}],
    ids=["hostNetwork", "hostPort"],
)
def test_ports_of_nodes_are_for_replicas_of_whole_nodes(given: dict[str, Any]) -> None:
    service = a_service(serving={"podTemplate": {"spec": given}})
    part, one, two = (an_allocation(Recipe(H100, *degrees)) for degrees in ((4,), (8,), (8, 2)))
    assert "pods with 4 of 8 GPUs share nodes; allowed: none, or a plan of whole" in unservable(service, part, 8, NEW)
    assert unservable(service, one, 8, OLD) == unservable(service, two, 8, NEW) == ""
    said = unservable(service, two, 8, OLD)
    assert ("a cluster with LeaderWorkerSets" in said) == ("hostNetwork" in given)


def test_another_device_class_is_another_template_and_the_old_replicas_keep_theirs() -> None:
    old, new = (
        everything(a_service(serving={"deviceClass": name}), an_allocation(Recipe(H100))) for name in ("a.dev", "b.dev")
    )
    names = [
        {one["metadata"]["name"] for one in found if one["kind"] == "ResourceClaimTemplate"} for found in (old, new)
    ]
    assert not names[0] & names[1]
    assert claimed(old) == names[0]
    assert claimed(new) == names[1]


def the_class(**spec: Any) -> str | None:
    pod: dict[str, Any] = made(a_service(**spec), an_allocation(Recipe(H100))).pod.template["spec"]
    return pod.get("priorityClassName")


def test_pods_have_the_class_of_their_services_priority_and_none_at_priority_zero() -> None:
    assert the_class() is None
    assert the_class(priority=7) == "muster-7"
    assert the_class(priority=-1_000_000_000) == "muster-minus-1000000000"
    assert the_class(priority=7, serving={"priorityClass": "gold"}) == "gold"
    own = {"spec": {"priorityClassName": "mine"}}
    assert the_class(priority=7, serving={"podTemplate": own}) == "mine"
    assert class_of(a_service(priority=7, serving={"podTemplate": own})) == ""


@pytest.mark.parametrize("priority", [1, -1, 1_000_000_000, -1_000_000_000])
def test_a_class_ranks_pods_and_preempts_none_and_is_nobodys(priority: int) -> None:
    resource = Resource("priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", False)
    obj = priority_class(a_service(priority=priority), resource)
    kubernetes_validate.validate(obj, "1.34", strict=True)
    assert (obj["value"], obj["preemptionPolicy"], obj["globalDefault"]) == (priority, "Never", False)
    assert "ownerReferences" not in obj["metadata"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", obj["metadata"]["name"])


def test_probes_of_sidecars_stay_theirs_where_replicas_span_nodes() -> None:
    probe = {"httpGet": {"path": "/healthz", "port": 9000}}
    side = {"name": "side", "image": "side:1", "livenessProbe": probe}
    service = a_service(serving={"podTemplate": {"spec": {"containers": [side]}}})
    allocation = an_allocation(Recipe(H100, tp=8, pp=2), model=DEEPSEEK)
    engine, there = workload(made(service, allocation), 1, service, OLD)["spec"]["template"]["spec"]["containers"]
    assert there == side
    assert "exec" in engine["livenessProbe"]


def test_a_slightly_other_prediction_of_a_cold_start_restarts_nothing() -> None:
    slow, slower = (an_allocation(Recipe(H100), cold_start_s=seconds) for seconds in (203.0, 204.0))
    one, other = made(a_service(), slow), made(a_service(), slower)
    assert one.name == other.name == made(a_service(), an_allocation(Recipe(H100))).name
    assert one.pod.deadline_s == 610.0
    assert other.pod.deadline_s == 620.0
    (engine,) = workload(other, 1, a_service(), NEW)["spec"]["template"]["spec"]["containers"]
    assert engine["startupProbe"]["failureThreshold"] == 62
    own = {"spec": {"containers": [{"name": "engine", "startupProbe": {"failureThreshold": 7}}]}}
    mine = a_service(serving={"podTemplate": own})
    (engine,) = workload(made(mine, slow), 1, mine, NEW)["spec"]["template"]["spec"]["containers"]
    assert engine["startupProbe"]["failureThreshold"] == 7
    assert made(mine, slow).name != one.name


def made(service: dict[str, Any], allocation: Allocation) -> Made:
    (one,) = kinds(service, [allocation], {SMALL: 8.0}, GROUPS, {"h100": 8, "l4": 4})
    return one


def test_a_kind_changes_its_name_with_what_would_restart_it_and_with_nothing_else() -> None:
    base = an_allocation(Recipe(H100, techniques=("fp8",)))
    name = made(a_service(), base).name
    same = [replace(base, replicas=7), replace(base, usd_per_hour=9.0), replace(base, busy_ratio=0.1)]
    assert {made(a_service(), one).name for one in same} == {name}
    assert made(a_service(workload={"ratePerSecond": 99, "buckets": []}), base).name == name
    cap = replace(base, recipe=replace(base.recipe, power_cap_w=400.0), replicas=3)
    assert made(a_service(), cap).name == name
    (both,) = kinds(a_service(), [base, cap], {SMALL: 8.0}, GROUPS, {"h100": 8})
    assert (both.name, both.replicas) == (name, base.replicas + 3)
    other = [
        made(a_service(serving={"image": "other:1"}), base),
        made(a_service(serving={"tolerations": [{"key": "x"}]}), base),
        made(a_service(), an_allocation(Recipe(H100))),
        made(a_service(), replace(base, node_group="l4")),
        made(a_service(), replace(base, flags={**base.flags, "max-model-len": "4096"})),
    ]
    assert name not in {one.name for one in other}
    assert len({one.name for one in other}) == len(other)


@settings(max_examples=100)
@given(
    name=st.one_of(
        st.from_regex(SERVICE_NAME, fullmatch=True), st.integers(50, 63).map(lambda size: "a" * (size - 2) + "-9")
    ),
    pool=st.sampled_from(["serve", "prefill"]),
)
def test_names_are_short_enough_for_any_service(name: str, pool: str) -> None:
    for serving, recipe in (({"deviceClass": "gpu.dev"}, Recipe(H100)), ({}, Recipe(H100, tp=8, pp=2))):
        service = a_service(name, serving=serving)
        for served in (OLD, NEW):
            names_are_valid(everything(service, an_allocation(recipe, pool=pool, model=DEEPSEEK), served=served))


def test_long_names_that_begin_alike_have_tables_of_their_own() -> None:
    assert table_name("a" * 60 + "b") != table_name("a" * 60 + "c")
    assert table_name("a" * 55) == "a" * 55 + "-routing"


def names_are_valid(found: list[Any]) -> None:
    for one in found:
        assert len(one["metadata"]["name"]) <= 63
        begins = "[a-z]" if one["kind"] == "Service" else "[a-z0-9]"
        assert re.fullmatch(rf"{begins}([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
        for value in one["metadata"]["labels"].values():
            assert len(value) <= 63


def test_weights_are_read_back_from_their_table() -> None:
    weights = {SMALL: {"team-a/a": 0.25, "team-a/b": 0.75}}
    assert weights_of(table(a_service(), weights)) == weights
    broken = {"metadata": {"namespace": "x"}, "data": {"weights.json": "{nonsense"}}
    assert weights_of(broken) == {}
