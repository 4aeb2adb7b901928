"""Which ways to run a replica are tried."""

from dataclasses import replace
from typing import get_args

import pytest

from planner.catalog import engine_options
from planner.cost import Degrees
from planner.hardware import Inventory, NodeGroup, PowerDomain
from planner.power import capped
from planner.recipes import Offer, caps_w, degrees, gpu_of, offers, recipes, stages, technique_sets
from planner.service import Constraints, Engine
from tests.planner.perf_factories import (
    A100,
    DEEPSEEK,
    GPUS,
    H100,
    L4,
    LLAMA_8B,
    LLAMA_70B,
    MIXTRAL,
    dense,
    inventory,
    service,
)


def test_tp_divides_the_heads_and_stays_within_a_node() -> None:
    assert degrees(LLAMA_70B, 4) == [Degrees(1), Degrees(2), Degrees(4)]
    assert degrees(dense("odd", 4, 1536, 12, 12, 4096, 1000), 4) == [Degrees(1), Degrees(2), Degrees(4)]


def test_experts_are_split_like_the_heads_or_not_at_all() -> None:
    assert degrees(MIXTRAL, 2) == [Degrees(1), Degrees(2), Degrees(2, ep=2)]
    assert Degrees(8, ep=8) in degrees(DEEPSEEK, 8)


def test_pipeline_stages_are_for_gpus_that_no_tp_can_use() -> None:
    assert degrees(dense("odd", 4, 1536, 12, 12, 4096, 1000), 8)[-1] == Degrees(4, 2)
    assert degrees(dense("prime", 4, 896, 7, 7, 4096, 1000), 4) == [Degrees(1), Degrees(1, 2), Degrees(1, 4)]
    assert all(split.pp == 1 for split in degrees(LLAMA_8B, 8))


def test_at_most_one_number_format_and_any_schedule() -> None:
    sets, refused = technique_sets(service())
    assert (sets[0], sets[1], sets[3]) == ((), ("chunked-prefill",), ("chunked-prefill", "fp8"))
    assert all(len({"fp8", "w4a16"} & set(names)) < 2 for names in sets)
    assert refused == []


def test_a_quality_floor_rules_out_number_formats_in_words() -> None:
    sets, refused = technique_sets(replace(service(), quality_floor=0.98))
    assert all("w4a16" not in names for names in sets)
    assert ("fp8",) in sets
    measured = "DeepSeek-R1-Distill-Qwen-1.5B, the worst measured; test was not"
    words = f"keeps 0.9400 of the 16-bit model's accuracy ({measured}), the quality floor is 0.98"
    assert {(r.recipe, r.reason) for r in refused} == {("w4a16", words), ("chunked-prefill w4a16", words)}


def test_an_owner_may_forbid_techniques() -> None:
    assert technique_sets(service(techniques=()))[0] == [()]
    assert technique_sets(service(techniques=("fp8",)))[0] == [(), ("fp8",)]


def test_an_owner_may_choose_and_exclude_gpu_types() -> None:
    everything = inventory(*GPUS)
    assert [offer.gpu for offer in offers(everything, Constraints())] == list(GPUS)
    assert [offer.gpu for offer in offers(everything, Constraints(gpu_types=("L4",)))] == [L4]
    assert [offer.gpu for offer in offers(everything, Constraints(excluded_gpu_types=("L4",)))] == [H100, A100]


def test_the_largest_node_of_a_type_bounds_its_replicas() -> None:
    groups = [NodeGroup(f"g{n}", A100, n, 1, "z", 1.0, power_domain=d) for n, d in ((4, None), (8, None), (2, "hall"))]
    scarce = (PowerDomain("hall", 500.0),)
    assert offers(Inventory("i", tuple(groups), power_domains=scarce), Constraints()) == [Offer(A100, 8, True)]


def test_a_breaker_that_feeds_everything_at_full_power_makes_no_watts_scarce() -> None:
    group = NodeGroup("g", A100, 2, 1, "z", 1.0, power_domain="hall")  # two A100 of 400 W
    for budget_w, scarce in ((799.0, True), (800.0, False)):
        made = offers(Inventory("i", (group,), power_domains=(PowerDomain("hall", budget_w),)), Constraints())
        assert made == [Offer(A100, 2, scarce)]


def test_pipelines_are_tried_where_weights_fill_more_than_half_of_the_memory() -> None:
    # 16.06 GB of weights; 0.9 of 24 GB is 21.6, half of it 10.8: one GPU is too small, two stages hold 8.03 each.
    assert stages(LLAMA_8B, Offer(L4, 8, False)) == [Degrees(1, 2)]
    assert stages(LLAMA_8B, Offer(H100, 8, False)) == []
    # 141.1 GB, half of an H100 is 36: four stages of one GPU (35.3), two of two.
    assert stages(LLAMA_70B, Offer(H100, 8, False)) == [Degrees(1, 2), Degrees(1, 4), Degrees(2, 2)]
    assert stages(LLAMA_8B, Offer(L4, 8, False), ("chunked-prefill", "fp8")) == []  # 8.03 GB are less than half
    assert stages(LLAMA_70B, Offer(H100, 2, False)) == [Degrees(1, 2)]  # a replica stays within a node


def test_power_caps_are_tried_only_behind_a_breaker() -> None:
    assert caps_w(Offer(H100, 8, metered=False)) == [None]
    assert caps_w(Offer(H100, 8, metered=True)) == [None, pytest.approx(490.0), 350.0]
    assert caps_w(Offer(L4, 8, metered=True)) == [None]  # no range is published in this row


def test_a_cap_below_what_the_driver_accepts_is_not_tried() -> None:
    assert caps_w(Offer(replace(H100, min_cap_w=400.0), 8, metered=True)) == [None, pytest.approx(490.0)]


def test_a_recipe_with_a_cap_runs_on_the_capped_gpu() -> None:
    made, _ = recipes(service(gpu_types=("H100",)), inventory(H100, metered=True))
    half = next(recipe for recipe in made if recipe.power_cap_w == 350.0)
    assert gpu_of(half, inventory(H100)) == capped(H100, 350.0)


def test_every_combination_is_tried_once() -> None:
    made, _ = recipes(service(), inventory(*GPUS, gpus_per_node=4))
    # Three GPU types x tp 1 to 4 x technique sets, and two stages of one L4 for 16-bit weights.
    assert len(made) == len(set(map(str, made))) == 3 * 3 * 6 + 2


def test_what_the_engine_has_no_switch_for_is_refused_in_words() -> None:
    asked = service(techniques=("chunked-prefill", "nano-batch"))
    made, refused = recipes(asked, inventory(H100))
    assert {recipe.techniques for recipe in made} == {(), ("chunked-prefill",)}
    reason = f"vllm has no switch for nano-batch (looked for in vllm {engine_options('vllm').version})"
    assert [(r.recipe, r.reason) for r in refused] == [("nano-batch", reason)]


def test_attention_on_other_gpus_than_ffn_is_refused_by_the_releases_of_both_engines() -> None:
    for engine in get_args(Engine):
        asked = replace(service(techniques=("attention-ffn-disaggregation",)), engine=engine)
        made, refused = recipes(asked, inventory(H100))
        assert {recipe.techniques for recipe in made} == {()}
        assert [r.reason.partition(" (")[0] for r in refused] == [
            f"{engine} has no switch for attention-ffn-disaggregation"
        ]
