"""Formats and schedules that a service must name: what they change, by hand, and what they refuse."""

import pytest

from planner.batching import Replica, Sizes, steady
from planner.calibration import ENGINES
from planner.catalog import gpu, model
from planner.cost import At, Case
from planner.roofline import step_time
from planner.technique import cost_of, sharded
from planner.techniques import techniques
from planner.techniques.fp8_weight_only import FP8WeightOnly
from planner.techniques.kv_fp8 import KVFP8
from planner.techniques.mxfp4 import MXFP4
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


def test_mxfp4_takes_4_25_bits_and_is_weight_only_where_nothing_multiplies_it() -> None:
    """4 bits and 8 for each 32."""
    assert held(case("H100"), "mxfp4")["weights"] == pytest.approx(held(case("H100"))["weights"] * 4.25 / 16)
    for card, engine in (("B200", "fp4"), ("H100", "bf16"), ("A100", "bf16")):
        ops = cost_of(case(card), [MXFP4()]).phases["prefill"].ops
        assert {op.engine for op in ops if WEIGHTS in op.traffic} == {engine}
    assert MXFP4().objection(case("A100")) is None
    words = "has no fp4 peak in the catalogue, and engines do not unpack MXFP4 on it"
    assert [MXFP4().objection(case(card)) for card in ("T4", "MI300X")] == [f"T4 {words}", f"MI300X {words}"]
    assert MXFP4().objection(case("MI355X")) is None  # has the units


def test_fp8_on_an_a100_halves_the_weights_and_computes_in_16_bits() -> None:
    assert held(case("A100"), "fp8-weight-only")["weights"] == held(case("A100"))["weights"] / 2
    ops = cost_of(case("A100"), [FP8WeightOnly()]).phases["prefill"].ops
    assert {op.engine for op in ops if WEIGHTS in op.traffic} == {"bf16"}
    assert FP8WeightOnly().objection(case("H100")) == "H100-SXM has FP8 units, which fp8 uses"
    assert "no Turing or Ampere GPU" in str(FP8WeightOnly().objection(case("V100")))


def test_weight_only_formats_gain_where_weights_are_read_and_not_where_prompts_are_computed() -> None:
    def seconds(name: str, phase: str) -> float:
        made = case("A100", batch=1.0, input_tokens=4000.0)
        cost = cost_of(made, [techniques()[name]()] if name else [])
        return float(step_time(cost.phases[phase], gpu("A100"), ENGINES["vllm"]).total_s)

    for name in ("w4a16", "nvfp4", "mxfp4", "fp8-weight-only"):
        assert seconds(name, "decode") < 0.75 * seconds("", "decode")
        assert seconds(name, "prefill") == pytest.approx(seconds("", "prefill"), rel=0.01)


def test_blackwell_has_no_int8_kernels_and_volta_none_for_4_bits() -> None:
    words = "B200 is a Blackwell GPU, for which engines have no INT8 kernels"
    assert W8A8Int8().objection(case("B200")) in (words, "B200 has no int8 peak above its 16-bit one in the catalogue")
    assert "older than the GPUs" in str(NVFP4().objection(case("V100")))


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
    base, made = sharded(case()), cost_of(case(), [draft])
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
        steady(cost_of(case(), chosen), Replica(gpu("H100"), ENGINES["vllm"], sizes, 8 * one, 1))
        for chosen in ([], [SpeculativeDecoding()])
    )
    assert plain.decode_s[0, 0] / drafted.decode_s[0, 0] == pytest.approx(2.1, abs=0.1)


def test_a_plan_uses_them_only_where_they_are_named() -> None:
    for name in ("w8a8-int8", "nvfp4", "mxfp4", "fp8-weight-only", "kv-fp8", "speculative-decoding"):
        assert not techniques()[name].searched
        assert techniques()[name]().flags("vllm")
        assert techniques()[name]().flags("sglang")
