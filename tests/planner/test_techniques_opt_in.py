"""Formats and schedules that a service must name: what they change, by hand, and what they refuse."""

import pytest

from planner.base import base_cost
from planner.batching import Sizes, steady
from planner.calibration import ENGINES
from planner.catalog import gpu, model
from planner.cost import At, Case
from planner.technique import cost_of
from planner.techniques import techniques
from planner.techniques.kv_fp8 import KVFP8
from planner.techniques.nvfp4 import NVFP4
from planner.techniques.speculative_decoding import SpeculativeDecoding
from planner.techniques.w8a8_int8 import W8A8Int8

LLAMA = model("llama-3.1-8b")
WEIGHTS, KV = At("weights", "hbm"), At("kv", "hbm")


def case(card: str = "H100", **changed: float) -> Case:
    return Case(LLAMA, gpu(card), **{"batch": 8.0, "input_tokens": 1000.0, "output_tokens": 200.0, **changed})  # type: ignore[arg-type]


def held(made: Case, *names: str) -> dict[str, float]:
    cost = cost_of(made, [techniques()[name]() for name in names])
    return {item: float(amount) for item, amount in cost.resident(cost.pools[0]).items()}


def test_int8_halves_the_weights_and_uses_the_integer_units() -> None:
    assert held(case("A100"), "w8a8-int8")["weights"] == held(case("A100"))["weights"] / 2
    ops = cost_of(case("A100"), [W8A8Int8()]).phases["decode"].ops
    assert {op.engine for op in ops if WEIGHTS in op.traffic} == {"int8"}
    assert "no int8 peak" in str(W8A8Int8().objection(case("V100")))


def test_nvfp4_takes_4_5_bits_and_computes_in_fp4_only_where_there_is_any() -> None:
    assert held(case("B200"), "nvfp4")["weights"] == pytest.approx(held(case("B200"))["weights"] * 4.5 / 16)
    for card, engine in (("B200", "fp4"), ("H100", "bf16")):
        ops = cost_of(case(card), [NVFP4()]).phases["prefill"].ops
        assert {op.engine for op in ops if WEIGHTS in op.traffic} == {engine}
    assert "no NVIDIA GPU" in str(NVFP4().objection(case("MI300X")))


def test_an_fp8_cache_is_half_the_bytes_held_and_read() -> None:
    assert held(case(), "kv-fp8")["kv"] == held(case())["kv"] / 2
    plain, small = (
        sum(float(op.traffic.get(KV, 0.0)) for op in cost_of(case(), chosen).phases["decode"].ops)
        for chosen in ([], [KVFP8()])
    )
    assert small == plain / 2
    assert "no fp8 peak" in str(KVFP8().objection(case("A100")))


def test_three_proposals_accepted_at_0_6_yield_2_176_tokens() -> None:
    """(1 - 0.6^4) / (1 - 0.6) = 0.8704 / 0.4."""
    draft = SpeculativeDecoding()
    assert draft.tokens_per_step == pytest.approx(2.176)
    base, made = base_cost(case()), cost_of(case(), [draft])
    plain, checked = (cost.phases["decode"] for cost in (base, made))
    assert float(checked.tokens) == pytest.approx(8 * 2.176)
    assert sum(float(op.flops) for op in checked.ops) == pytest.approx(4 * sum(float(op.flops) for op in plain.ops))
    weights = [sum(float(op.traffic.get(WEIGHTS, 0.0)) for op in phase.ops) for phase in (plain, checked)]
    assert weights[0] == weights[1]


def test_a_draft_makes_decoding_faster_where_memory_binds() -> None:
    import numpy as np

    one = np.ones((1, 1))
    sizes = Sizes(1000 * one, 200 * one, 1000 * one)
    plain, drafted = (
        steady(cost_of(case(), chosen), gpu("H100"), ENGINES["vllm"], sizes, 8 * one, 1)
        for chosen in ([], [SpeculativeDecoding()])
    )
    assert plain.decode_s[0, 0] / drafted.decode_s[0, 0] == pytest.approx(2.1, abs=0.1)


def test_a_plan_uses_them_only_where_they_are_named() -> None:
    for name in ("w8a8-int8", "nvfp4", "kv-fp8", "speculative-decoding"):
        assert not techniques()[name].searched
        assert techniques()[name]().flags("vllm")
        assert techniques()[name]().flags("sglang")
