"""What number formats are taken to keep of a model's accuracy, and how a quality floor uses it."""

from dataclasses import replace

import pytest

from planner.catalog import model, models, recovery
from planner.catalog.quality import qualities
from planner.recipes import technique_sets
from planner.service import Constraints
from planner.technique import Stage
from planner.techniques import techniques
from tests.planner.perf_factories import LLAMA_8B, service


def kept(technique: str, name: str) -> float:
    found = recovery(technique, model(name))
    assert found is not None
    return found.kept_ratio


def test_every_format_has_measurements_each_with_a_source() -> None:
    formats = {name for name, made in techniques().items() if made.stage == Stage.PRECISION}
    assert formats == set(qualities())
    for rows in qualities().values():
        assert all(0 < row.kept_ratio <= 1 and row.source and row.benchmark for row in rows)


def test_the_families_measured_are_those_of_the_catalogue() -> None:
    families = {row.family for row in models()}
    assert {row.family for rows in qualities().values() for row in rows} <= families


def test_fp8_of_llama_keeps_what_its_card_states_for_the_size() -> None:
    """OpenLLM v1 averages: 73.44 of 73.79 for 8B, 84.29 of 84.40 for 70B; 405B is judged by 70B, 1B by 8B."""
    assert kept("fp8", "llama-3.1-8b") == pytest.approx(73.44 / 73.79)
    assert kept("fp8", "llama-3.1-70b") == kept("fp8", "llama-3.1-405b") == pytest.approx(84.29 / 84.40)
    assert kept("fp8", "llama-3.2-1b") == pytest.approx(73.44 / 73.79)


def test_the_worst_of_several_measurements_of_one_size_counts() -> None:
    """With 4-bit weights Qwen2.5-7B keeps 65.86 of 66.49, a reasoning model made of it 97 %, Qwen2-7B 64.1 of 66.9."""
    assert kept("w4a16", "qwen2.5-7b") == pytest.approx(64.1 / 66.9)
    assert kept("w4a16", "qwen2.5-1.5b") == 0.94


def test_no_format_is_said_to_improve_a_model() -> None:
    assert kept("w4a16", "phi-2") == 1.0  # 61.63 against 61.55


def test_a_family_that_nobody_measured_is_judged_by_the_worst_and_says_so() -> None:
    found = recovery("w8a8-int8", model("gemma-3-27b"))
    assert found is not None
    assert found.kept_ratio == min(row.kept_ratio for row in qualities()["w8a8-int8"]) == 0.97
    assert found.evidence == "the Llama-3.1 family, the worst measured; gemma3 was not"


def test_what_computes_the_same_numbers_keeps_them_all() -> None:
    assert [recovery(name, LLAMA_8B) for name in ("chunked-prefill", "prefix-caching", "tensor-parallel")] == [None] * 3


@pytest.mark.parametrize(
    ("name", "floor", "left"),
    [
        ("llama-3.1-8b", 0.99, {"fp8", "fp8-weight-only"}),
        ("llama-3.1-8b", 0.97, {"fp8", "fp8-weight-only", "w4a16", "w8a8-int8"}),
        ("qwen3-32b", 0.99, {"fp8", "fp8-weight-only", "w4a16"}),
        ("qwen3-32b", 0.975, {"fp8", "fp8-weight-only", "nvfp4", "w4a16"}),
        ("mixtral-8x7b", 0.99, {"w4a16"}),
        ("mixtral-8x7b", 0.98, {"fp8", "fp8-weight-only", "w4a16"}),
        ("gemma-2-9b", 0.99, {"w8a8-int8"}),
        ("gemma-3-27b", 0.98, {"fp8", "fp8-weight-only"}),
        ("llama-3.1-8b", 1.0, set()),
    ],
)
def test_a_quality_floor_leaves_the_formats_that_the_family_keeps(name: str, floor: float, left: set[str]) -> None:
    formats = tuple(qualities())
    asked = replace(service(), model=model(name), quality_floor=floor, constraints=Constraints(techniques=formats))
    sets, refused = technique_sets(asked)
    assert {one for names in sets for one in names} == left
    assert {row.recipe for row in refused} == set(formats) - left
    assert all("of the 16-bit model's accuracy (" in row.reason for row in refused)
