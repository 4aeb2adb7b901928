"""Kernels: counts by hand, the measured tables, GPUs never measured, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.perf.op_features import KERNELS, chip
from planner.perf.op_rows import OPERATORS, kernel_code, kernels, usual_kernel, work_of
from planner.perf.operators import (
    ADDED,
    context_attention_s,
    gemm_s,
    generation_attention_s,
    measured_gpus,
    predict,
)
from planner.perf.tables import read
from planner.power import idle_w
from tests.pace import pace

H100 = gpu("H100-SXM")


def table(**columns: object) -> dict[str, NDArray[Any]]:
    lists = {key: value if isinstance(value, list) else [value] for key, value in columns.items()}
    return {
        key: np.array(values, dtype=object if any(isinstance(x, str) for x in values) else float)
        for key, values in lists.items()
    }


GEMM: dict[str, object] = {"gemm_dtype": "bfloat16", "m": 128.0, "n": 4096.0, "k": 8192.0}
HEADS: dict[str, object] = {"num_heads": 32.0, "num_key_value_heads": 8.0, "head_dim": 128.0}
EXPERTS: dict[str, object] = {
    "moe_dtype": "bfloat16",
    "hidden_size": 4096.0,
    "inter_size": 14336.0,
    "topk": 2.0,
    "num_experts": 8.0,
}


def ideal(op: str, **columns: object) -> tuple[float, float]:
    """Seconds of arithmetic and of memory of one kernel on an H100."""
    rows = kernels(op, table(**columns))
    assert rows.refusal[0] == ""
    work = work_of(op, chip(H100, measured_gpus()), rows)
    return float(work.flops_s[0]), float(work.bytes_s[0])


def test_a_gemm_multiplies_and_moves_what_its_shape_says() -> None:
    flops_s, bytes_s = ideal("gemm", **GEMM)
    assert flops_s == pytest.approx(2 * 128 * 4096 * 8192 / 989.4e12)
    assert bytes_s == pytest.approx(2 * (4096 * 8192 + 128 * 8192 + 128 * 4096) / 3.352e12)


def test_a_prompt_attends_to_half_of_itself_or_to_its_window() -> None:
    whole, _ = ideal("context_attention", batch_size=2.0, isl=4096.0, **HEADS)
    assert whole == pytest.approx(2 * 32 * 4 * 128 * 4096 * 2048 / 989.4e12)
    seen, _ = ideal("context_attention", batch_size=2.0, isl=4096.0, window_size=1024.0, **HEADS)
    # A token meets 1,024 others, but for the first 1,024, which meet half as many: 1024 - 1024^2 / (2 x 4096) = 896.
    assert seen == pytest.approx(whole * 896 / 2048)


def test_a_decoding_token_reads_the_cache() -> None:
    _, moved = ideal("generation_attention", batch_size=4.0, step=1023.0, **HEADS)
    queries = 4 * 128 * 2 * 2 * 32
    assert moved == pytest.approx((4 * 1024 * 2 * 8 * 128 * 2 + queries) / 3.352e12)
    _, half = ideal("generation_attention", batch_size=4.0, step=1023.0, kv_cache_dtype="fp8", **HEADS)
    assert half == pytest.approx((4 * 1024 * 2 * 8 * 128 * 1 + queries) / 3.352e12)


def test_experts_split_by_rank_and_by_width() -> None:
    whole, _ = ideal("moe", num_tokens=64.0, **EXPERTS)
    assert whole == pytest.approx(2 * 3 * 4096 * 14336 * 64 * 2 / 989.4e12)
    for split in ({"moe_tp_size": 4.0}, {"moe_ep_size": 4.0}):
        assert ideal("moe", num_tokens=64.0, **EXPERTS, **split)[0] == pytest.approx(whole / 4)


def test_power_law_routing_loads_one_rank_more_and_meets_fewer_experts() -> None:
    even, _ = ideal("moe", num_tokens=4096.0, moe_ep_size=8.0, **EXPERTS)
    skewed, _ = ideal("moe", num_tokens=4096.0, moe_ep_size=8.0, distribution="power_law_1.2", **EXPERTS)
    # Each of 8 ranks holds one expert: 1024 choices of 4096 x 2 if even, at most one for every token, 4096.
    assert 1.5 * even < skewed <= 4 * even * (1 + 1e-9)
    _, few = ideal("moe", num_tokens=8.0, **EXPERTS, distribution="power_law_1.2")
    _, all_met = ideal("moe", num_tokens=8.0, **EXPERTS)
    assert few < all_met


def test_a_table_names_the_library_or_the_usual_one_is_taken() -> None:
    card = chip(H100, measured_gpus())
    assert KERNELS[kernel_code("moe", "vllm_fp8moe_flashinfer_trtllm_trtllmfp8expertsmonolithic")] == "trtllm"
    assert KERNELS[kernel_code("gemm", "DeepGemmFp8BlockScaledMMKernel")] == "deepgemm"
    assert KERNELS[kernel_code("context_attention", "vllm_flash_attn_fa3")] == "fa3"
    assert kernel_code("moe", "") == -1
    assert usual_kernel("moe", card, "bfloat16", 0.0) == "triton"
    assert usual_kernel("context_attention", card, "bfloat16", 512.0) == "fa4"
    assert usual_kernel("context_attention", chip(gpu("RTX-5090"), ()), "bfloat16", 128.0) == "fa2"
    assert usual_kernel("generation_attention", chip(gpu("GB200"), ()), "bfloat16", 128.0) == "trtllm"


def test_a_kernel_far_larger_than_any_measured_is_extrapolated() -> None:
    made = predict("gemm", "H100", table(**{**GEMM, "m": 1e6, "n": 1e6}))
    usual = predict("gemm", "H100", table(**GEMM))
    assert made["source"][0] == "extrapolated"
    assert made["latency_s"][0] > 2 * 1e12 * 8192 / 989.4e12
    assert made["latency_hi_s"][0] / made["latency_s"][0] > usual["latency_hi_s"][0] / usual["latency_s"][0]


def test_a_library_that_a_gpu_was_never_seen_with_is_extrapolated() -> None:
    made = predict(
        "gemm", "H100", table(gemm_dtype=["bfloat16", "nvfp4"], m=[64.0, 64.0], n=[4096.0] * 2, k=[4096.0] * 2)
    )
    assert made["source"].tolist() == ["measured", "extrapolated"]
    assert (made["latency_s"] > 0).all()


@pytest.mark.parametrize("op", OPERATORS)
def test_the_shipped_surfaces_hit_the_measured_tables(op: str, shared: Path) -> None:
    folder = shared / "data" / "perf" / "operators"
    name = "h100_sxm_nccl2.29.2" if op == "allreduce" else f"h100_sxm_vllm0.24.0_{op}"
    columns = {key: values[::7] for key, values in read(folder / f"{name}.parquet").items()}
    made = predict(op, "h100_sxm", columns)
    assert tuple(made) == ADDED
    assert (made["refusal"] == "").all()
    assert set(made["source"]) == {"measured"}
    truth = columns["latency"] / 1e3
    assert np.median(np.abs(made["latency_s"] / truth - 1)) < 0.04
    assert np.mean((made["latency_lo_s"] <= truth) & (truth <= made["latency_hi_s"])) > 0.85


def test_a_gpu_never_measured_gets_a_wider_interval_and_says_so() -> None:
    known, new = (predict("gemm", name, table(**GEMM)) for name in ("H100", "L40S"))
    assert (known["source"][0], new["source"][0]) == ("measured", "extrapolated")
    assert new["latency_hi_s"][0] / new["latency_lo_s"][0] > known["latency_hi_s"][0] / known["latency_lo_s"][0]
    assert new["latency_s"][0] > known["latency_s"][0]


def test_the_measured_watts_of_kernels_are_hit(shared: Path) -> None:
    for op in ("context_attention", "generation_attention", "moe"):
        path = shared / "data" / "perf" / "operators" / f"b200_sxm_vllm0.22.0_{op}_power.parquet"
        columns = {key: values[::11] for key, values in read(path).items()}
        made = predict(op, "B200", columns)
        # Kernels of some 10 us: equal ones were measured a tenth apart.
        assert np.median(np.abs(made["power_w"] / columns["power"] - 1)) < (0.1 if "generation" in op else 0.06)
        assert np.mean((made["power_lo_w"] <= columns["power"]) & (columns["power"] <= made["power_hi_w"])) > 0.85


def test_watts_lie_between_idle_and_the_limit() -> None:
    made = predict(
        "gemm",
        "H100",
        table(gemm_dtype="bfloat16", m=[1.0, 8192.0], n=8192.0, k=[256.0, 8192.0])
        | {"n": np.array([8192.0, 8192.0]), "gemm_dtype": np.array(["bfloat16"] * 2, dtype=object)},
    )
    assert 70 < made["power_w"][0] < made["power_w"][1] <= 700


@pytest.mark.parametrize("name", ["H100", "L40S", "B200", "A100", "GB200"])
def test_intervals_of_watts_stay_between_idle_and_the_limit(name: str) -> None:
    sizes = {"m": [1.0, 128.0, 8192.0], "n": [1.0, 4096.0, 8192.0], "k": [1.0, 4096.0, 8192.0]}
    made, card = predict("gemm", name, table(gemm_dtype=["bfloat16"] * 3, **sizes)), gpu(name)
    assert (idle_w(card) <= made["power_lo_w"]).all()
    assert (made["power_lo_w"] <= made["power_w"]).all()
    assert (made["power_w"] <= made["power_hi_w"]).all()
    assert (made["power_hi_w"] <= card.tdp_w).all()


def test_watts_are_measured_on_the_gpu_whose_watts_were_and_extrapolated_elsewhere() -> None:
    moe = table(num_tokens=64.0, **EXPERTS)
    known, other = predict("moe", "B200", moe), predict("moe", "H100", moe)
    assert (known["source"][0], known["power_source"][0]) == ("measured", "measured")
    assert (other["source"][0], other["power_source"][0]) == ("measured", "extrapolated")
    # GEMMs were not among the kernels whose watts were measured, and collectives have none.
    assert predict("gemm", "B200", table(**GEMM))["power_source"][0] == "extrapolated"
    assert predict("allreduce", "B200", table(num_gpus=2.0, message_size=8.0))["power_source"][0] == ""


@pytest.mark.parametrize(
    ("op", "columns", "words"),
    [
        ("gemm", {**GEMM, "m": -1.0}, "m is -1"),
        ("gemm", {**GEMM, "m": 1.5}, "m is 1.5"),
        ("gemm", {**GEMM, "n": 1e12}, "n is 1e+12"),
        ("gemm", {**GEMM, "n": 1e9, "k": 1e9}, "s at the data sheet's peaks, allowed are 60 s"),
        ("gemm", {**GEMM, "k": "wide"}, "k is no finite number"),
        ("gemm", {**GEMM, "gemm_dtype": "fp3"}, "unknown dtype 'fp3'"),
        ("gemm", {"gemm_dtype": "bfloat16", "m": 1.0, "n": 1.0}, "k is missing"),
        ("context_attention", {"batch_size": 1.0, "isl": 10.0, **HEADS, "num_key_value_heads": 5.0}, "do not divide"),
        ("generation_attention", {"batch_size": 1.0, **HEADS}, "step is missing"),
        ("moe", {"num_tokens": 1.0, **EXPERTS, "topk": 9.0}, "topk is 9 of 8 experts"),
        ("moe", {"num_tokens": 1.0, **EXPERTS, "moe_ep_size": 16.0}, "moe_ep_size is 16 for 8 experts"),
        ("moe", {"num_tokens": 1.0, **EXPERTS, "moe_tp_size": 1e6}, "moe_tp_size is 1e+06 for inter_size 14336"),
        ("moe", {"num_tokens": 1.0, **EXPERTS, "distribution": "odd"}, "unknown distribution 'odd'"),
        ("moe", {"num_tokens": 1.0, **EXPERTS, "distribution": "power_law_1e9"}, "unknown distribution"),
        ("generation_attention", {"batch_size": 1.0, "step": 9.0, **HEADS, "kv_cache_dtype": "int2"}, "KV cache dtype"),
        ("allreduce", {"num_gpus": 1.0, "message_size": 8.0}, "num_gpus is 1"),
        ("allreduce", {"num_gpus": 2.0, "message_size": 8.0, "op_name": "gossip"}, "unknown collective 'gossip'"),
        ("allreduce", {"num_gpus": 2.0, "message_size": 8.0, "nccl_dtype": "bits"}, "unknown dtype 'bits'"),
    ],
)
def test_bad_rows_are_refused_in_words(op: str, columns: dict[str, object], words: str) -> None:
    made = predict(op, "H100", table(**columns))
    assert words in str(made["refusal"][0])
    assert np.isnan(made["latency_s"][0])


def test_unknown_gpus_and_operators_refuse_every_row() -> None:
    assert "unknown GPU 'warp9'" in str(predict("gemm", "warp9", table(**GEMM))["refusal"][0])
    assert "unknown operator 'sort'" in str(predict("sort", "H100", table(**GEMM))["refusal"][0])


def test_arrays_are_estimated_in_under_100_us_each() -> None:
    import time

    m = np.arange(1, 8001, dtype=float)
    gemm_s(H100, "bfloat16", m[:10], m[:10], m[:10])  # reads the surfaces
    began = time.process_time()
    made = gemm_s(H100, "bfloat16", m, np.full(8000, 4096.0), np.full(8000, 4096.0))
    assert (time.process_time() - began) / 8000 < 100e-6 * pace()
    assert (made.lo_s < made.latency_s).all()
    one = np.ones(1)
    assert context_attention_s(H100, one, 512 * one, 32 * one, 8 * one, 128 * one).latency_s[0] > 0
    assert generation_attention_s(H100, one, 512 * one, 32 * one, 8 * one, 128 * one).latency_s[0] > 0
    with pytest.raises(ValueError, match="m is -1"):
        gemm_s(H100, "bfloat16", -one, one, one)
