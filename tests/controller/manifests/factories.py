"""Plans, servers and services that the tests of manifests are made from."""

from dataclasses import replace
from typing import Any

from controller.kube.discovery import Resource, Served
from controller.manifests.service import around, route, table
from controller.manifests.workload import Made, kinds, workload
from planner.launch import engine_flags
from planner.plan import Allocation, Prediction, Recipe
from planner.service import Bucket

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
LLAMA, DEEPSEEK = "llama-3.1-8b", "deepseek-v3"
"""As plans name the models that services ask for by other names."""


def an_allocation(recipe: Recipe, replicas: int = 2, pool: str = "serve", **more: Any) -> Allocation:
    engine = more.get("engine", "vllm")
    predicted = Prediction(0.2, 0.02, 3.0, 1000.0, 0.7, 1e9, 1e10, 400.0, more.pop("cold_start_s", 90.0))
    made = Allocation(
        "team-a/chat", more.pop("model", LLAMA), pool, more.pop("node_group", "h100"), "a", recipe, replicas,
        recipe.gpus, 5.0, 800.0, predicted, {SMALL: 1.0}, 0.8, engine, engine_flags(recipe, engine, pool, 2048),
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


def made(service: dict[str, Any], allocation: Allocation) -> Made:
    (one,) = kinds(service, [allocation], {SMALL: 8.0}, GROUPS, {"h100": 8, "l4": 4})
    return one
