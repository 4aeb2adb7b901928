"""What the serving model refuses, calls measured, and says of overload, protocols and idle GPUs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.catalog import gpu
from planner.perf.fit_serving import measured
from planner.perf.serving import predict
from planner.perf.serving_physics import index
from planner.perf.serving_ranges import measured_ranges, within
from planner.perf.serving_rows import parse
from planner.power import power_w
from tests.planner.perf.test_serving import columns

# Measured: TensorRT-LLM 1.0.0rc3, Llama-3.1-8B, H100.
KNOWN = {"backend": "trtllm", "backend_version": "1.0.0rc3", "isl": 1024.0, "osl": 128.0}


def one(**given: Any) -> dict[str, Any]:
    return {key: values[0] for key, values in predict(columns(**given)).items()}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"isl": 131_000.0, "osl": 200.0}, "131,200 tokens a request, llama-3.1-8b is made for 131,072"),
        ({"concurrency": 1e6}, "concurrency is 1e+06, allowed are 1 to 100000"),
        ({"tp_size": 3.0}, "tp=3 does not divide 32 heads"),
        ({"tp_size": 72.0}, "tp=72 does not divide 32 heads"),
        ({"tp_size": 1.5}, "tp_size is 1.5, allowed are whole numbers"),
        ({"pp_size": 33.0}, "pp_size=33 is more than 32 layers"),
        ({"tp_size": 8.0, "moe_ep_size": 8.0}, "llama-3.1-8b has no experts"),
        ({"mode": "disagg", "prefill_tp_size": 3.0}, "prefill_tp=3 does not divide 32 heads"),
        ({"mode": "disagg", "decode_num_workers": 1.5}, "decode_num_workers is 1.5, allowed are whole numbers"),
        ({"precision": "fp3"}, "unknown weight format 'fp3'"),
        (
            {"model_path": "deepseek-v3", "system": "h200", "tp_size": 8.0, "moe_ep_size": 3.0},
            "moe_ep_size=3 does not share 8 GPUs out evenly",
        ),
        ({"protocol": "loud"}, "unknown protocol 'loud': sweep or steady"),
    ],
)
def test_what_no_engine_can_run_is_refused(given: dict[str, Any], words: str) -> None:
    assert words in one(**given)["refusal"]


@pytest.mark.parametrize(
    ("given", "gemm", "kv_bytes"),
    [
        ({}, "bf16", 2.0),
        ({"precision": "bf16"}, "bf16", 2.0),
        ({"precision": "fp8"}, "fp8", 1.0),
        ({"precision": "fp4", "system": "b200_sxm"}, "nvfp4", 1.0),
        ({"precision": "fp8", "gemm_quant_mode": "fp8_block"}, "fp8_block", 1.0),
        ({"model_path": "nvidia/Llama-3.1-8B-Instruct-FP8"}, "fp8_block", 2.0),
        ({"model_path": "neuralmagic/Qwen3-32B-FP8-dynamic"}, "fp8", 2.0),
        ({"model_path": "nvidia/DeepSeek-R1-FP4", "system": "b200_sxm", "tp_size": 8.0}, "nvfp4", 2.0),
        ({"model_path": "hugging-quants/Llama-3.1-8B-Instruct-AWQ-INT4"}, "int4", 2.0),
    ],
)
def test_a_format_that_is_left_out_is_that_of_the_precision_or_of_the_name(
    given: dict[str, Any], gemm: str, kv_bytes: float
) -> None:
    rows = parse(columns(**given))
    assert (rows.refusal[0], rows.gemm_format[0], rows.peaks.kv_bytes[0]) == ("", gemm, kv_bytes)


def test_users_may_be_a_mean() -> None:
    assert one(concurrency=16.3)["refusal"] == ""


@pytest.mark.parametrize(
    "given",
    [
        {"backend_version": "banana"},
        {"concurrency": 20_000.0},
        {"isl": 100_000.0},
        {"pp_size": 32.0},
        {"tp_size": 32.0},
        {"gemm_quant_mode": "nvfp4"},
        {"mode": "disagg", "prefill_num_workers": 4096.0, "decode_num_workers": 4096.0, "concurrency": 64.0},
    ],
)
def test_what_is_far_from_all_measured_is_modelled_with_a_wider_interval(given: dict[str, Any]) -> None:
    near, far = one(**KNOWN), one(**{**KNOWN, **given})
    assert (near["source"], far["source"]) == ("measured", "modelled")
    assert far["tpot_hi_s"] / far["tpot_s"] > near["tpot_hi_s"] / near["tpot_s"]


def test_twice_the_measured_size_is_near_and_more_is_not() -> None:
    seen = measured_ranges(parse(columns(2, isl=[500.0, 2000.0])))
    asked = parse(columns(4, isl=[250.0, 4000.0, 249.0, 4001.0]))
    assert within(asked, seen).tolist() == [True, True, False, False]
    assert not within(parse(columns(isl=1000.0, backend="sglang")), seen)[0]


def test_every_shared_row_is_answered_as_measured(shared: Path) -> None:
    made = predict(measured(shared / "data" / "perf"))
    assert set(made["refusal"].tolist()) == {""}
    assert set(made["source"].tolist()) == {"measured"}


def test_throughput_stays_and_waits_grow_once_memory_is_full() -> None:
    users = [256.0, 512.0, 1024.0, 4096.0, 100_000.0]
    made = predict(columns(5, concurrency=users))
    rate = made["tokens_per_s_per_gpu"]
    assert (np.diff(rate) >= -1e-9 * rate[1:]).all()
    assert rate[1:] == pytest.approx(rate[1])
    assert (np.diff(made["ttft_s"]) > 0).all()
    assert made["note"][0] == ""
    assert "overload: 1,024 users, memory holds 399: each waits" in made["note"][2]


def test_lengths_beside_those_of_the_sweep_are_not_worlds_apart_when_the_protocol_is_stated() -> None:
    for protocol in ("steady", "sweep"):
        made = predict(
            columns(3, isl=[8191.0, 8192.0, 8193.0], osl=1024.0, concurrency=64.0, batch_size=64.0, protocol=protocol)
        )
        assert made["ttft_s"] == pytest.approx(made["ttft_s"][1], rel=0.01)


def test_round_thousands_mean_nothing_in_rows_that_nobody_published() -> None:
    assert index(parse(columns(isl=2000.0)), []).round_lengths[0] == 0
    assert index(parse(columns(isl=2000.0, backend_version="0.12.0")), []).round_lengths[0] == 1


def test_prefill_gpus_without_work_draw_what_idle_ones_do() -> None:
    apart = {"mode": "disagg", "decode_num_workers": 1.0, "concurrency": 1.0}
    few, many = one(**apart, prefill_num_workers=1.0), one(**apart, prefill_num_workers=1000.0)
    idle_w = float(power_w(gpu("H100-SXM"), 0.0, 0.0))
    assert many["power_w"] - few["power_w"] == pytest.approx(999 * idle_w, rel=0.02)


def test_weights_in_a_format_without_units_are_said_to_be_weights_alone() -> None:
    assert one(gemm_quant_mode="nvfp4")["note"] == "H100-SXM has no units for nvfp4: only weights are kept in it"
    assert one(gemm_quant_mode="nvfp4", system="b200_sxm")["note"] == ""
