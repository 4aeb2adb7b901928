"""The serving model: operation counts by hand, gaps and refusals, intervals, and the measured rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.base import base_cost
from planner.catalog import gpu, model
from planner.cost import Case
from planner.perf.fit_serving import measured
from planner.perf.formats import flops
from planner.perf.serving import ADDED, predict
from planner.perf.serving_rows import parse, published
from planner.perf.steps import Layout, Peaks, held_bytes, kv_bytes, table, work
from planner.perf.tables import read

Columns = dict[str, NDArray[Any]]


def columns(rows: Any = 1, **given: Any) -> Columns:
    """Rows of Llama-3.1-8B on one H100, with what is given changed."""
    values: dict[str, object] = {
        "model_path": "meta-llama/Llama-3.1-8B-Instruct",
        "system": "h100_sxm",
        "backend": "vllm",
    }
    values |= {"isl": 1000.0, "osl": 200.0, "batch_size": 16.0, "tp_size": 1.0, **given}
    return {
        key: np.array(value if isinstance(value, list) else [value] * rows, dtype=float if _number(value) else object)
        for key, value in values.items()
    }


def _number(value: object) -> bool:
    first = value[0] if isinstance(value, list) else value
    return isinstance(first, float)


def alone(**given: object) -> str:
    """The refusal of a single row."""
    return str(predict(columns(**given))["refusal"][0])


def peaks(weight_bytes: float = 2.0) -> Peaks:
    card = gpu("H100-SXM")
    one = np.ones(1)
    bf16 = card.flops_per_s["bf16"] * one
    return Peaks(
        bf16, bf16, bf16, card.hbm_bytes_per_s * one, 450e9 * one, weight_bytes * one, weight_bytes * one, 2 * one
    )


def layout(tp: float = 1, dp: float = 1, moe_tp: float = 1, moe_ep: float = 1) -> Layout:
    return Layout(*(np.array([float(x)]) for x in (tp, dp, moe_tp, moe_ep)))


def test_a_dense_decode_step_reads_every_matrix_once() -> None:
    llama = model("llama-3.1-8b")
    done = work(table([llama]), peaks(), layout(), np.array([4.0]), np.ones(1), np.array([1000.0]))
    # 32 layers of 4096 x (4096 + 2 x 1024), 4096 x 4096, 3 x 4096 x 14336 weights of 2 bytes at 3.352 TB/s.
    weights = 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)
    assert done.gemm_hbm[0] == pytest.approx(weights * 2 / 3.352e12)
    assert done.gemm_flops[0] == pytest.approx(2 * weights * 4 / 989.4e12)
    # KV: 4 sequences x 1000 tokens x 32 layers x 2 x 8 heads x 128 x 2 bytes.
    assert done.kv[0] == pytest.approx(4 * 1000 * 32 * 2 * 8 * 128 * 2 / 3.352e12)
    assert done.reductions[0] == 0


def test_a_prompt_meets_half_of_itself() -> None:
    llama = model("llama-3.1-8b")
    done = work(table([llama]), peaks(), layout(tp=2), np.ones(1), np.array([1024.0]), None)
    # 32 layers, 32 heads over 2 GPUs, 2 x (128 + 128) flops a pair of tokens, 1024 x 512 pairs.
    assert done.attention_flops[0] == pytest.approx(32 * 16 * 2 * 256 * 1024 * 512 / 989.4e12)
    assert done.reductions[0] == 64  # two all-reduces a layer
    assert done.reduce_link[0] == pytest.approx(64 * 1024 * 4096 * 2 * 2 * (1 / 2) / 450e9)


def test_few_tokens_touch_few_experts() -> None:
    mixtral = model("mixtral-8x7b")
    one = work(table([mixtral]), peaks(), layout(moe_ep=1), np.ones(1), np.ones(1), np.array([10.0]))
    many = work(table([mixtral]), peaks(), layout(moe_ep=1), np.array([64.0]), np.ones(1), np.array([10.0]))
    # 2 of 8 experts for one token; all for 64 (1 - 0.75^64 = 1 - 1e-8). 32 layers, 3 x 4096 x 14336 weights each.
    each = 32 * 3 * 4096 * 14336 * 2 / 3.352e12
    assert one.moe_hbm[0] == pytest.approx(2 * each)
    assert many.moe_hbm[0] == pytest.approx(8 * each, rel=1e-6)
    halves = work(table([mixtral]), peaks(), layout(tp=2, moe_tp=1, moe_ep=2), np.ones(1), np.ones(1), np.array([10.0]))
    assert halves.moe_hbm[0] == pytest.approx(each)


@pytest.mark.parametrize("name", ["llama-3.1-70b", "mixtral-8x7b", "deepseek-v3", "gemma-3-27b", "qwen3-30b-a3b"])
def test_steps_count_what_the_planner_counts(name: str) -> None:
    """FLOPs and bytes of a decode step and of resident memory agree with `planner.base` on one GPU."""
    found = model(name)
    cost = base_cost(Case(found, gpu("H100-SXM"), batch=8.0, input_tokens=1000.0, output_tokens=200.0))
    t, one = table([found]), np.ones(1)
    done = work(t, peaks(), layout(), 8 * one, one, 1100 * one)
    ops = cost.phases["decode"].ops
    kv = sum(float(x) for op in ops for at, x in op.traffic.items() if at.item in ("kv", "state"))
    assert done.kv[0] * 3.352e12 == pytest.approx(kv, rel=1e-6)
    matrices = sum(float(op.flops) for op in ops if op.name not in ("attention", "head"))
    assert (done.gemm_flops[0] + done.moe_flops[0]) * 989.4e12 == pytest.approx(matrices, rel=1e-6)
    attention = sum(float(op.flops) for op in ops if op.name == "attention")
    assert done.attention_flops[0] * 989.4e12 == pytest.approx(attention, rel=1e-6)
    whole = {at.item: float(x) for at, x in cost.phases["decode"].resident.items()}
    assert kv_bytes(t, peaks(), layout(), 1200 * one)[0] * 8 == pytest.approx(whole["kv"] + whole["state"], rel=1e-6)
    width = 1.0 if found.weight_dtype == "fp8" else 2.0
    assert held_bytes(t, peaks(width), layout())[0] == pytest.approx(whole["weights"] + whole["embeddings"], rel=0.1)


def test_every_row_gets_all_columns_and_missing_ones_their_default() -> None:
    made = predict({"model_path": np.array(["llama-3.1-8b"], dtype=object), "system": np.array(["H100"], dtype=object)})
    assert tuple(made) == ADDED
    assert made["refusal"][0] == ""
    stated = predict(columns(isl=1024.0, osl=1024.0, batch_size=1.0))
    assert made["tpot_s"][0] == stated["tpot_s"][0]


def test_the_interval_holds_the_prediction_and_widens_with_distance() -> None:
    near = {"backend": "trtllm", "backend_version": "1.0.0rc3", "isl": 1024.0, "osl": 128.0}
    made = predict(
        columns(3, model_path=["llama-3.1-8b", "mistral-7b", "mistral-7b"], system=["h100", "h100", "l40s"], **near)
    )
    assert made["source"].tolist() == ["measured", "modelled", "extrapolated"]
    for key in ("ttft", "tpot"):
        assert (made[f"{key}_lo_s"] < made[f"{key}_s"]).all()
        assert (made[f"{key}_s"] < made[f"{key}_hi_s"]).all()
        ratio = made[f"{key}_hi_s"] / made[f"{key}_lo_s"]
        assert ratio[0] < ratio[1] < ratio[2]


def test_power_is_the_energy_models_with_an_interval_where_it_knows_the_gpu() -> None:
    made = predict(columns(3, system=["h100_sxm", "h200_sxm", "h100_sxm"], mode=["agg", "agg", "disagg"]))
    assert made["power_source"].tolist() == ["measured", "roofline", "roofline"]
    assert made["power_lo_w"][0] < made["power_w"][0] < made["power_hi_w"][0] <= 700
    assert np.isnan(made["power_lo_w"][1:]).all()


def test_power_of_measured_engines_is_within_a_tenth(shared: Path) -> None:
    """vLLM on one H100, LMArena prompts of about 250 tokens (ML.ENERGY leaderboard, arXiv 2505.06371)."""
    rows = read(shared / "data" / "perf" / "engine" / "ml_energy_llm.csv")
    here = (rows["model_id"] == "Qwen/Qwen3-8B") & (rows["gpu_model"] == "H100") & (rows["task"] == "lm-arena-chat")
    names = ("avg_batch_size", "avg_output_len", "avg_power_watts")
    batch, written, drawn_w = (rows[key][here].astype(float) for key in names)
    asked = columns(len(batch), model_path="qwen3-8b", isl=250.0, osl=list(written), batch_size=list(batch))
    made = predict({**asked, "protocol": np.array(["steady"] * len(batch), dtype=object)})
    assert len(batch) > 5
    assert np.median(np.abs(made["power_w"] / drawn_w - 1)) < 0.1


def test_throughput_power_and_energy_add_up() -> None:
    made = predict(columns(tp_size=2.0, concurrency=16.0))
    life_s = made["ttft_s"] + 199 * made["tpot_s"]
    assert made["tokens_per_s_per_gpu"][0] == pytest.approx(16 * 200 / life_s[0] / 2)
    assert made["joules_per_token"][0] == pytest.approx(made["power_w"][0] / (2 * made["tokens_per_s_per_gpu"][0]))
    assert 2 * 70 < made["power_w"][0] <= 2 * 700


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model_path": "no/such-model"}, "unknown model 'no/such-model'"),
        ({"system": "tpu_v9"}, "unknown GPU 'tpu_v9'"),
        ({"system": ""}, "no system given"),
        ({"backend": "ollama"}, "unknown engine 'ollama'"),
        ({"mode": "both"}, "unknown mode 'both'"),
        ({"gemm_quant_mode": "fp3"}, "unknown weight format 'fp3'"),
        ({"batch_size": -4.0}, "batch_size is -4"),
        ({"batch_size": "many"}, "is no number"),
        ({"isl": 1e9}, "isl is 1e+09, allowed are 1 to 4e+06"),
        ({"isl": 900000.0}, "llama-3.1-8b is made for 131,072"),
        ({"tp_size": 0.5}, "tp_size is 0.5"),
        ({"osl": float("inf")}, "osl is no number"),
        ({"model_path": "llama-3.1-405b"}, "weights take 812 GB a GPU, H100-SXM has 85 GB"),
    ],
)
def test_bad_rows_are_refused_in_words_and_get_no_number(given: dict[str, object], words: str) -> None:
    made = predict(columns(**given))
    assert words in str(made["refusal"][0])
    assert all(np.isnan(made[key][0]) for key in ADDED if key not in ("source", "refusal", "note", "power_source"))
    assert made["source"][0] == ""


def test_a_refused_row_leaves_the_others_alone() -> None:
    good = predict(columns())
    both = predict(columns(2, batch_size=[16.0, -1.0]))
    assert both["tpot_s"][0] == good["tpot_s"][0]
    assert np.isnan(both["tpot_s"][1])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nvidia/DeepSeek-R1-NVFP4", "deepseek-r1"),
        ("nvidia/Qwen3-32B-NVFP4", "qwen3-32b"),
        ("RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", "llama-4-scout"),
        ("meta-llama/Llama-3.1-70B", "llama-3.1-70b"),
    ],
)
def test_a_quantised_checkpoint_has_the_architecture_it_was_made_from(name: str, found: str) -> None:
    seen = published(name)
    assert seen is not None
    assert seen.name == found


def test_attention_ranks_counted_twice_over_are_read_as_the_row_that_they_repeat() -> None:
    written = {"model_path": "deepseek-ai/DeepSeek-R1", "system": "b200_sxm", "backend": "trtllm", "tp_size": 1.0}
    twice = parse(columns(**written, attention_dp_size=64.0, moe_tp_size=8.0, moe_ep_size=8.0, batch_size=4.0))
    once = parse(columns(**written, attention_dp_size=8.0, moe_tp_size=1.0, moe_ep_size=8.0, batch_size=32.0))
    assert twice.gpus_used[0] == once.gpus_used[0] == 8
    assert twice.concurrency[0] == once.concurrency[0] == 256


def test_four_bit_weights_compute_in_what_the_gpu_has() -> None:
    assert flops(gpu("H100-SXM"), "mxfp4") == gpu("H100-SXM").flops_per_s["bf16"]
    assert flops(gpu("B200"), "mxfp4") == gpu("B200").flops_per_s["fp8"]
    assert flops(gpu("B200"), "nvfp4") == gpu("B200").flops_per_s["fp4"]


def test_measured_rows_are_answered_and_hit(shared: Path) -> None:
    """The shipped model on the rows that it was fitted on; errors of rows left out are the benchmark's business."""
    rows = measured(shared / "data" / "perf")
    made = predict(rows)
    assert np.mean(made["refusal"] == "") >= 0.99
    for key in ("tpot", "ttft"):
        truth = rows[f"silicon_{key}_ms"] / 1e3
        assert np.median(np.abs(made[f"{key}_s"] / truth - 1)) < 0.02
        assert np.mean((made[f"{key}_lo_s"] <= truth) & (truth <= made[f"{key}_hi_s"])) > 0.9


def test_the_model_names_the_files_it_was_fitted_on(shared: Path) -> None:
    import hashlib

    from planner.perf.serving import fitted

    meta = fitted().meta
    for name, digest in meta["inputs_sha256"].items():
        assert hashlib.sha256((shared / "data" / "perf" / name).read_bytes()).hexdigest() == digest
    assert "Apache-2.0" in meta["source"]


def test_the_model_is_small() -> None:
    """With trees for TPOT and for TTFT of 50 trees each."""
    from importlib.resources import files

    assert (files("planner.perf") / "data" / "serving.npz").stat().st_size < 1.5e6  # type: ignore[attr-defined]
