"""What is found in the prefix cache is not computed, but met, read and held: by hand calculation."""

from dataclasses import replace
from pathlib import Path

import pytest

from planner.base import HBM_ACTIVATIONS, HBM_KV, HBM_WEIGHTS
from planner.cost import At, Case, Phase
from planner.model import Attention, Block, FeedForward, Model
from planner.profile import demand_of, profile
from planner.recipes import recipes
from planner.technique import Technique, cost_of, sharded
from planner.techniques.chunked_prefill import ChunkedPrefill
from planner.techniques.kv_fp8 import KVFP8
from planner.techniques.prefix_caching import PrefixCaching
from tests.planner.perf_factories import DEEPSEEK, H100, LLAMA_8B, MIXTRAL, case, inventory, service
from tests.planner.spec_factories import SERVICE, service_of, service_with

TOKEN = 32 * 2 * 8 * 128 * 2  # KV bytes of a token of Llama-8B: layers, K and V, heads, width, 2 bytes


def here(model: Model = LLAMA_8B, found: float = 0.5, **changed: float) -> Case:
    figures = {"batch": 8.0, "input_tokens": 1000.0, "output_tokens": 200.0, **changed}
    return replace(case(model, **figures), prefix_hit_ratio=found)  # type: ignore[arg-type]


def prefills(at: Case, *chosen: Technique) -> tuple[Phase, Phase]:
    return sharded(at).phases["prefill"], cost_of(at, [PrefixCaching(), *chosen]).phases["prefill"]


def flops(phase: Phase, *names: str) -> float:
    return sum(float(op.flops) for op in phase.ops if op.name in names)


def read(phase: Phase, at: At) -> float:
    return sum(float(op.traffic.get(at, 0.0)) for op in phase.ops)


def test_half_a_prompt_found_halves_the_gemms_and_leaves_three_quarters_of_the_attention() -> None:
    """500 new tokens meet 500 found ones and half of themselves: 500 x 750 of 1000 x 500 meetings."""
    whole, rest = prefills(here())
    assert flops(rest, "qkv", "out", "up", "down") == pytest.approx(flops(whole, "qkv", "out", "up", "down") / 2)
    assert flops(rest, "attention") == pytest.approx(flops(whole, "attention") * 0.75)
    assert flops(rest, "head") == flops(whole, "head")
    assert read(rest, HBM_ACTIVATIONS) == pytest.approx(read(whole, HBM_ACTIVATIONS) / 2)
    assert read(rest, HBM_WEIGHTS) == read(whole, HBM_WEIGHTS)
    assert float(rest.resident[HBM_ACTIVATIONS]) == float(whole.resident[HBM_ACTIVATIONS]) / 2
    assert rest.tokens == whole.tokens  # the prompt advances by all of itself


def test_what_was_found_is_read_from_the_cache_in_its_format() -> None:
    assert read(prefills(here())[1], HBM_KV) == pytest.approx(500 * TOKEN)
    assert read(prefills(here(), KVFP8())[1], HBM_KV) == pytest.approx(500 * TOKEN / 2)
    # On two GPUs each reads its four of eight heads; three prompts read three times as much.
    assert read(prefills(here(tp=2, prompts=3.0))[1], HBM_KV) == pytest.approx(3 * 500 * TOKEN / 2)


def test_sequences_in_flight_hold_what_they_share_once() -> None:
    kept = cost_of(here(), [PrefixCaching()]).phases["decode"].resident[HBM_KV]
    assert float(kept) == pytest.approx((8 * 700 + 500) * TOKEN)
    two = cost_of(here(), [PrefixCaching(prefixes=2)]).phases["decode"].resident[HBM_KV]
    assert float(two) == pytest.approx((8 * 700 + 2 * 500) * TOKEN)
    own = cost_of(here(), [PrefixCaching(prefixes=100)]).phases["decode"].resident[HBM_KV]
    assert float(own) == pytest.approx(8 * 1200 * TOKEN)


def test_decoding_still_reads_every_sequence_whole() -> None:
    whole, shared = (cost_of(here(), chosen).phases["decode"] for chosen in ([], [PrefixCaching()]))
    assert read(shared, HBM_KV) == read(whole, HBM_KV)


def test_within_a_window_the_rest_meets_no_more_than_the_window() -> None:
    """The second half of 4096 tokens meets 256 each, of (256 x 128 + 3840 x 256) meetings in all."""
    windowed = Model("w", "test", 512, 1000, (Block(1, Attention("gqa", 8, 8, 64, window=256), FeedForward(2048)),))
    whole, rest = prefills(here(windowed, input_tokens=4096.0))
    share = 2048 * 256 / (256 * 128 + 3840 * 256)
    assert flops(rest, "attention") == pytest.approx(flops(whole, "attention") * share)
    assert read(rest, HBM_KV) == pytest.approx(256 * 2 * 8 * 64 * 2)
    kept = cost_of(here(windowed, input_tokens=4096.0), [PrefixCaching()]).phases["decode"].resident[HBM_KV]
    assert float(kept) == pytest.approx(8 * 256 * 2 * 8 * 64 * 2)  # nothing of it is shared any more


def test_a_latent_cache_is_unpacked_for_the_tokens_found_as_well() -> None:
    whole, rest = prefills(here(DEEPSEEK))
    assert flops(rest, "kv_up") == flops(whole, "kv_up")
    assert flops(rest, "q_up") == pytest.approx(flops(whole, "q_up") / 2)


def test_fewer_tokens_touch_fewer_experts() -> None:
    """4 of 8 tokens, two of eight experts each: 8 (1 - 0.75^4) = 5.47 experts instead of 8 (1 - 0.75^8) = 7.20."""
    whole, rest = prefills(here(MIXTRAL, input_tokens=8.0))
    of = [sum(float(op.traffic[HBM_WEIGHTS]) for op in phase.ops if op.name == "expert_up") for phase in (whole, rest)]
    assert of[1] / of[0] == pytest.approx((1 - 0.75**4) / (1 - 0.75**8))


def test_chunks_ride_on_what_is_left() -> None:
    whole, rest = (
        cost_of(here(input_tokens=4096.0), [*more, ChunkedPrefill()]).phases["prefill"]
        for more in ([], [PrefixCaching()])
    )
    assert rest.rides == "decode"
    assert flops(rest, "up") == pytest.approx(flops(whole, "up") / 2)


def test_it_needs_a_share_that_the_workload_states(tmp_path: Path) -> None:
    words = "the workload's prefixHitRatio is 0, prefix caching needs one between 0 and 1"
    assert PrefixCaching().objection(here(found=0.0)) == words
    assert PrefixCaching(hit_ratio=0.3).objection(here(found=0.0)) is None
    assert service_of(tmp_path, SERVICE).workload.prefix_hit_ratio == 0
    stated = service_with({("workload", "prefixHitRatio"): 0.4})
    assert service_of(tmp_path, stated).workload.prefix_hit_ratio == 0.4


def test_a_replica_carries_more_where_prefixes_are_found() -> None:
    asked = service(techniques=("prefix-caching",))
    asked = replace(asked, workload=replace(asked.workload, prefix_hit_ratio=0.8))
    made, _ = recipes(asked, inventory(H100, gpus_per_node=1))
    plain, caching = (profile(asked, recipe, H100, demand_of(asked), {}) for recipe in made)
    assert made[1].techniques == ("prefix-caching",)
    for bucket, load in caching.pools[0].load.items():  # type: ignore[union-attr]
        assert load < plain.pools[0].load[bucket]  # type: ignore[union-attr]


def test_vllm_is_told_and_sglang_does_it_anyway() -> None:
    assert PrefixCaching().flags("vllm") == {"enable-prefix-caching": ""}
    assert PrefixCaching().flags("sglang") == {}
