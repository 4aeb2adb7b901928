"""Attention and feed-forward layers on different servers: Step-3's throughputs, and its rules by hand."""

from dataclasses import replace

import pytest

from planner.base import HBM_WEIGHTS
from planner.catalog import gpu, model
from planner.cost import At, Case
from planner.plan import Recipe, Refusal
from planner.profile import demand_of, profile
from planner.roofline import BARE
from planner.technique import cost_of
from planner.techniques.attention_ffn_disaggregation import (
    AttentionFFNDisaggregation,
    ffn_share,
    least_activation_ratio,
    stages_s,
    tpot_s,
)
from planner.techniques.fp8 import FP8
from planner.techniques.kv_fp8 import KVFP8
from tests.benchmarks.anchors_step3 import afd_tokens_per_s
from tests.planner.perf_factories import H100, LLAMA_8B, case, service

CARD = replace(H100, network_bytes_per_s=50e9)
AFD = AttentionFFNDisaggregation()


def test_step3_on_32_and_40_hopper_gpus() -> None:
    """4,039 tokens/s and GPU at the peak, 3,910 over a long time (FP8 attention), 3,321 with BF16 attention."""
    fp8, bf16 = afd_tokens_per_s(2, 2, 6144, [FP8(), KVFP8()]), afd_tokens_per_s(3, 2, 6048, [FP8()])
    assert fp8 == pytest.approx(4039, rel=0.15)
    assert fp8 == pytest.approx(3910, rel=0.15)
    assert bf16 == pytest.approx(3321, rel=0.15)


def test_a_feed_forward_gpu_works_for_every_attention_gpu() -> None:
    """Llama-8B, 2A1F: 64 sequences on each of 16 attention GPUs, one server of 8 for their 1,024 tokens.

    Up: 2 x 4,096 x 28,672 x 32 layers x 64 tokens on a lone GPU; two attention GPUs for each feed-forward GPU.
    """
    afd = AttentionFFNDisaggregation(2, 1)
    cost = cost_of(case(gpu=CARD, batch=64.0), [afd])
    up = next(op for op in cost.phases["ffn"].ops if op.name == "up")
    assert float(up.flops) == 2 * (2 * 4096 * 28672 * 32 * 64)
    assert float(up.traffic[HBM_WEIGHTS]) == 4096 * 28672 * 32 * 2 / 8  # bytes, a GPU of the server reads an eighth
    assert {op.name for op in cost.phases["decode"].ops}.isdisjoint({"up", "down"})
    assert afd.gpus == 24


def test_a_token_crosses_the_network_in_8_bits_and_comes_back_in_16() -> None:
    """4,096 elements x 3 bytes x 32 layers x 64 sequences, to each of 2 feed-forward servers."""
    ops = cost_of(case(gpu=CARD, batch=64.0), [AFD]).phases["decode"].ops
    wire = next(op for op in ops if op.name == "exchange")
    assert float(wire.traffic[At("activations", "network")]) == 4096 * 3 * 32 * 64 * 2


def test_a_token_takes_three_times_the_slowest_stage() -> None:
    cost = cost_of(case(gpu=CARD, batch=64.0), [AFD])
    assert float(tpot_s(cost, CARD, BARE)) == pytest.approx(3 * max(float(s) for s in stages_s(cost, CARD, BARE)))


def test_weights_are_held_where_they_are_used() -> None:
    """Llama-8B: 3 x 4,096 x 14,336 of feed-forward and (2 x 4,096 + 2 x 1,024) x 4,096 of attention weights a layer."""
    share = 3 * 14336 / (3 * 14336 + 2 * 4096 + 2 * 1024)
    assert ffn_share(LLAMA_8B) == pytest.approx(share)
    plain, split = cost_of(case(gpu=CARD), []), cost_of(case(gpu=CARD), [AFD])
    whole = float(plain.phases["decode"].resident[HBM_WEIGHTS])
    assert float(split.phases["decode"].resident[HBM_WEIGHTS]) == pytest.approx(whole * (1 - share))
    assert float(split.phases["ffn"].resident[HBM_WEIGHTS]) == pytest.approx(whole * share / 16)


def test_the_least_share_of_active_experts_by_hand() -> None:
    """H800: 7,168 x 1,979 TFLOP/s x 61 / (400 GB/s x 3.35 TB/s x 11.07 ms) = 0.058 (table 7)."""
    card = gpu("H800")
    least = least_activation_ratio(card.flops_per_s["fp8"], card.hbm_bytes_per_s, 400e9, model("step-3"))
    assert least == pytest.approx(0.058, abs=0.001)


def test_step3_activates_more_than_the_network_asks_for() -> None:
    """3 of 48 routed experts are 0.0625, above 0.058."""
    ffn = model("step-3").blocks[1].ffn
    assert ffn is not None
    assert ffn.experts_per_token / ffn.experts > 0.058


def test_objections_in_words_and_no_flags() -> None:
    assert AFD.objection(case(gpu=CARD)) is None
    assert "keeps a sequence's attention on one GPU, not on tp2" in str(AFD.objection(case(gpu=CARD, tp=2)))
    plain = case(gpu=CARD)
    wider = {"pp": replace(plain, pp=2), "ep": replace(plain, ep=2), "dp": replace(plain, dp=2)}
    for degree, other in {**wider, "cp": replace(plain, cp=2)}.items():
        assert f"not on {degree}2" in str(AFD.objection(other))
    assert "the inventory states no network" in str(AFD.objection(case()))
    assert AFD.flags("vllm") is AFD.flags("sglang") is None


def test_the_planner_says_that_it_does_not_place_it() -> None:
    spec = service()
    answer = profile(spec, Recipe("H100", techniques=("attention-ffn-disaggregation",)), CARD, demand_of(spec), {})
    assert isinstance(answer, Refusal)
    assert "costed but not placed" in answer.reason


def test_experts_of_a_server_are_read_by_all_tokens_together() -> None:
    """Step-3, a token on each of 16 attention GPUs: 1 - (1 - 3/48)^16 = 0.644 of the experts, over 16 GPUs."""
    step3 = model("step-3")
    cost = cost_of(Case(step3, CARD, 1.0, 4096.0, 128.0), [AFD])
    read = sum(float(op.traffic[HBM_WEIGHTS]) for op in cost.phases["ffn"].ops if op.name == "expert_up")
    held = sum(b.count * 48 * 7168 * 2 * b.ffn.inner * 2 for b in step3.blocks if b.ffn and b.ffn.experts)
    assert read == pytest.approx(held * (1 - (1 - 3 / 48) ** 16) / 16)
