"""Seconds of ops and steps by hand calculation, and the model against published measurements."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.base import HBM_KV, HBM_WEIGHTS
from planner.calibration import COLLECTIVE_S, ENGINES, HOP_S, KERNELS, LINK_RATIO, UNMEASURED, kernels
from planner.cost import At, Op, Phase
from planner.errors import MissingFigure
from planner.model import Model
from planner.roofline import BARE, memory_bytes, reached, seconds, step_time
from planner.technique import sharded
from tests.benchmarks.splitwise import BAR_RATIO, HARDWARE, errors, read
from tests.planner.perf_factories import A100, DEEPSEEK, H100, L4, LLAMA_8B, LLAMA_70B, MIXTRAL, case

VLLM = ENGINES["vllm"]
POOL = ("prefill", "decode")


def decode_s(model: Model = LLAMA_8B, batch: float = 1.0, tp: int = 1, context: float = 1024.0) -> float:
    phase = sharded(case(model, batch=batch, tp=tp, input_tokens=context)).phases["decode"]
    return float(step_time(phase, H100, VLLM).total_s)


def test_an_op_takes_as_long_as_its_slowest_resource() -> None:
    # H100: 989 Tflop/s x 0.80 in GEMMs, 3.35 TB/s x 0.80 of weights.
    compute_s, memory_s = 1e12 / (989e12 * 0.80), 1e9 / (3.35e12 * 0.80)
    assert seconds(Op("gemm", 1e12, "bf16", {HBM_WEIGHTS: 1e9}), H100, VLLM) == pytest.approx(compute_s)
    assert seconds(Op("gemm", 1e9, "bf16", {HBM_WEIGHTS: 1e9}), H100, VLLM) == pytest.approx(memory_s)


def test_a_gpu_of_little_arithmetic_per_watt_keeps_its_clock() -> None:
    """H20: 148 TFLOP/s at 400 W. The measured Hoppers hold 1,470 of 1,980 MHz: attention 0.56 / 0.742 = 0.754 there."""
    h20 = replace(H100, name="H20", flops_per_s={"bf16": 148e12, "fp8": 296e12}, tdp_w=400.0, max_cap_w=400.0)
    assert reached(h20).attention_ratio == pytest.approx(0.56 * 1980 / 1470)
    assert reached(h20).by_dtype["fp8"] == pytest.approx(0.52 * 1980 / 1470)
    assert reached(h20).gemm_ratio == 1.0  # no more than the peak
    assert reached(H100) is KERNELS["hopper"]
    assert reached(replace(h20, max_cap_w=200.0)) is KERNELS["hopper"]  # capped


def test_the_network_is_no_faster_than_the_pcie_that_its_card_hangs_on() -> None:
    op = Op("send", traffic={At("kv", "network"): 1e9})
    for card_bytes_per_s, reached_bytes_per_s in ((50e9, 50e9), (100e9, 64e9), (None, 64e9)):
        gpu = replace(H100, network_bytes_per_s=card_bytes_per_s)
        assert seconds(op, gpu, BARE) == pytest.approx(1e9 / (reached_bytes_per_s * LINK_RATIO))


def test_items_on_one_place_add_up_each_at_its_own_efficiency() -> None:
    op = Op("attention", traffic={HBM_WEIGHTS: 1e9, HBM_KV: 1e9})
    assert seconds(op, H100, VLLM) == pytest.approx(1e9 / (3.35e12 * 0.80) + 1e9 / (3.35e12 * 0.86))


def test_attention_reaches_less_of_the_peak_than_gemms() -> None:
    assert seconds(Op("attention", 1e12), H100, VLLM) == pytest.approx(1e12 / (989e12 * 0.56))
    assert seconds(Op("gemm", 1e12, "fp8"), H100, VLLM) == pytest.approx(1e12 / (1979e12 * 0.52))


def test_an_all_reduce_pays_for_bytes_hops_and_its_start() -> None:
    at = {At("activations", "scale_up"): 1e6, At("collectives", "scale_up"): 1.0, At("hops", "scale_up"): 2.0}
    link_s = 1e6 / (450e9 * LINK_RATIO * VLLM.link_ratio)
    assert seconds(Op("all_reduce", traffic=at), H100, VLLM) == pytest.approx(link_s + COLLECTIVE_S + 2 * HOP_S)


def test_a_decode_step_of_llama_8b_on_an_h100_is_its_weights_over_its_bandwidth() -> None:
    # 32 layers of 218.1 M weights and the head of 525.3 M, 2 bytes each: 15.0 GB at 2.68 TB/s are 5.60 ms.
    weights_s = (32 * 218_103_808 + 525_336_576) * 2 / (3.35e12 * 0.80)
    assert weights_s == pytest.approx(5.60e-3, rel=1e-3)
    cache_s = 1088 * 131072 / (3.35e12 * 0.86)  # 0.05 ms
    engine_s = 1.48e-3 + 32 * 25.4e-6 + 42.5e-6  # step, layers, one request
    assert decode_s() == pytest.approx(weights_s + cache_s + engine_s, rel=0.01)  # what is left: activations


def test_tp_2_halves_the_gemm_time_and_adds_the_all_reduce() -> None:
    def part(tp: int, name: str) -> float:
        phase = sharded(case(LLAMA_70B, tp=tp)).phases["decode"]
        return sum(float(seconds(op, H100, VLLM)) for op in phase.ops if op.name == name)

    for gemm in ("qkv", "out", "up", "down"):
        assert part(2, gemm) == pytest.approx(part(1, gemm) / 2)
    link_s = 8192 * 2 / (450e9 * LINK_RATIO * VLLM.link_ratio) + COLLECTIVE_S + 2 * HOP_S
    assert part(1, "all_reduce") == 0
    assert part(2, "all_reduce") == pytest.approx(160 * link_s)


def test_an_eager_engine_takes_the_longer_of_launching_and_running() -> None:
    eager = ENGINES["vllm-2023"]
    phase = sharded(case()).phases["decode"]
    launched_s = 32 * eager.layer_s + eager.step_s + eager.request_s  # 12.9 ms of launches hide 6 ms of kernels
    assert step_time(phase, H100, eager).total_s == pytest.approx(launched_s)
    graphs = replace(eager, overlapped=False)
    assert float(step_time(phase, H100, graphs).total_s) > launched_s


def test_a_link_without_a_published_bandwidth_raises_in_words() -> None:
    alone = replace(L4, pcie_bytes_per_s=None)
    with pytest.raises(MissingFigure, match="L4 has no pcie bandwidth in the catalogue"):
        seconds(Op("all_reduce", traffic={At("activations", "pcie"): 1.0}), alone, VLLM)


def test_a_dtype_without_a_published_peak_raises_in_words() -> None:
    with pytest.raises(MissingFigure, match="A100 has no fp8 peak in the catalogue"):
        seconds(Op("gemm", 1e12, "fp8"), A100, VLLM)


def test_an_architecture_that_nobody_measured_takes_the_median() -> None:
    assert kernels("cdna3") is UNMEASURED
    measured = [row.gemm_ratio for row in KERNELS.values()]
    assert min(measured) < UNMEASURED.gemm_ratio < max(measured)


def test_memory_of_a_gpu_is_the_sum_of_what_it_holds() -> None:
    cost = sharded(case(batch=8.0, input_tokens=1000.0, output_tokens=24.0))
    held = {at.item: float(amount) for at, amount in cost.phases["prefill"].resident.items()}
    assert held["weights"] + held["embeddings"] == pytest.approx(16.06e9, rel=1e-3)
    assert held["kv"] == 8 * 1024 * 131072
    assert held["activations"] == 2 * 1000 * (3 * 14336 + 7 * 4096)  # feed-forward, hidden vectors
    assert float(memory_bytes(cost, POOL)) == pytest.approx(sum(held.values()))


@pytest.mark.parametrize("model", [LLAMA_8B, MIXTRAL, DEEPSEEK], ids=lambda model: model.name)
@given(
    batch=st.floats(1, 1024), more=st.floats(1.0, 8.0), context=st.floats(1, 100_000), tp=st.sampled_from([1, 2, 4, 8])
)
def test_a_step_is_finite_and_no_shorter_for_more_sequences_or_tokens(
    model: Model, batch: float, more: float, context: float, tp: int
) -> None:
    before = decode_s(model, batch, tp, context)
    assert 0 < before < 1e4
    assert decode_s(model, batch * more, tp, context) >= before * (1 - 1e-12)
    assert decode_s(model, batch, tp, context * more) >= before * (1 - 1e-12)


@given(st.floats(0, 1e18), st.floats(0, 1e15), st.sampled_from([H100, A100, L4]))
def test_seconds_are_never_negative_nor_nan(flops: float, moved: float, gpu: object) -> None:
    value = seconds(Op("gemm", flops, "bf16", {HBM_WEIGHTS: moved}), gpu, VLLM)  # type: ignore[arg-type]  # a sample
    assert np.isfinite(value)
    assert value >= 0


def test_an_empty_phase_takes_the_step_alone() -> None:
    phase = Phase((Op("host", traffic={At("steps", "host"): 1.0}),), {}, 1.0)
    assert step_time(phase, H100, VLLM).total_s == VLLM.step_s


def test_the_median_error_on_the_runs_of_splitwise_is_at_most_30_percent(shared: Path) -> None:
    runs = read(shared / "data" / "planner")
    assert runs.tp.size == 945
    wrong = errors(runs, ENGINES["vllm-2023"])
    for hardware in HARDWARE:
        medians = np.median(wrong[:, runs.hardware == hardware], axis=1)
        assert (medians <= BAR_RATIO).all(), (hardware, medians)
