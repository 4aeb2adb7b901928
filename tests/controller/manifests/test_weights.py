"""Which weights the engine of a service loads, and what requests may call its model."""

from typing import Any

import pytest

from planner.catalog import model
from planner.plan import Recipe
from tests.controller.manifests.factories import H100, HF, an_allocation, made
from tests.controller.objects import a_service


def words(asked: str, planned: str = "", engine: str = "vllm", serving: Any = None) -> list[str]:
    """The command of a replica."""
    allocation = an_allocation(Recipe(H100), model=planned or model(asked).name, engine=engine)
    spec = made(a_service(model=asked, engine=engine, serving=serving or {}), allocation).pod.template["spec"]
    found: list[str] = spec["containers"][0]["command"]
    return found


@pytest.mark.parametrize(
    ("asked", "loaded"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("meta-llama/llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "nvidia/Llama-3.1-8B-Instruct-FP8"),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", "Qwen/Qwen3-30B-A3B-Thinking-2507"),
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("gemma-3-4b", "google/gemma-3-4b-it"),
    ],
)
def test_the_engine_loads_the_weights_that_the_service_names(asked: str, loaded: str) -> None:
    assert words(asked)[2] == loaded
    assert words(asked, engine="sglang")[4] == loaded


def test_weights_of_ones_own_come_before_the_name_and_another_model_waits_for_its_plan() -> None:
    assert words("meta-llama/Llama-3.1-8B-Instruct", serving=HF)[2] == "team/private"
    # The spec names another model already; what runs is still what was planned.
    assert words("Qwen/Qwen3-32B", planned="llama-3.1-8b")[2] == "meta-llama/Llama-3.1-8B"


def test_requests_may_call_the_model_by_the_services_name_and_by_the_name_in_its_spec() -> None:
    asked = "meta-llama/Llama-3.1-8B-Instruct"
    assert words(asked)[-3:] == ["--served-model-name", "chat", asked]
    assert words(asked, engine="sglang")[-2:] == ["--served-model-name", "chat"], "SGLang takes any name in requests"
