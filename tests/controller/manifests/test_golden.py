"""What plans become in Kubernetes, as files to read; LeaderWorkerSet, HTTPRoute, Kueue and DRA by these files alone.

To write them anew: MUSTER_UPDATE_GOLDEN=1 pytest tests/controller/manifests
"""

import difflib
import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from planner.catalog.engines import engine_options
from planner.plan import Recipe
from planner.yaml_text import dump
from tests.controller.manifests.factories import DEEPSEEK, H100, HF, OLD, PATCH, an_allocation, everything
from tests.controller.objects import a_service, routed

GOLDEN = Path(__file__).with_name("golden")
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
        a_service(engine="sglang", model="deepseek-ai/DeepSeek-V3"),
        an_allocation(Recipe(H100, tp=16), 2, engine="sglang", model=DEEPSEEK)
    ),
    "two-nodes-stateful-set": everything(
        a_service(model="deepseek-v3"), an_allocation(Recipe(H100, tp=8, pp=2), 2, model=DEEPSEEK), served=OLD
    ),
    "prefill-and-decode": everything(
        routed(a_service()),
        *(an_allocation(Recipe(H100, techniques=("disaggregation",)), count, pool)
          for pool, count in (("prefill", 1), ("decode", 2))),
    ),
    "experts-and-attention-ranks": everything(
        a_service(engine="sglang", model="deepseek-v3"),
        an_allocation(Recipe(H100, tp=1, ep=8, dp=8), 1, engine="sglang", model=DEEPSEEK)
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
