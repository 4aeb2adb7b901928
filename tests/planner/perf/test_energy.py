"""Power and energy of engines: intervals, sources, limits, refusals, and the measured rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.perf.energy import ADDED, predict
from planner.perf.energy_tasks import TASKS
from planner.perf.tables import read


def row(**changed: object) -> dict[str, NDArray[Any]]:
    """Qwen3-8B on one H100 at 32 sequences, with what is given changed."""
    values: dict[str, object] = {"task": "lm-arena-chat", "model_id": "Qwen/Qwen3-8B", "gpu_model": "H100"}
    values |= {"num_gpus": 1.0, "max_num_seqs": 32.0, "weight_precision": "bfloat16", **changed}
    return {key: np.array([value], dtype=object if isinstance(value, str) else float) for key, value in values.items()}


def test_power_lies_between_idle_and_the_limit_and_grows_with_the_batch() -> None:
    small, large = (predict(row(max_num_seqs=float(n))) for n in (8, 256))
    assert 70 < small["power_w"][0] < large["power_w"][0] <= 700
    assert small["joules_per_token"][0] > large["joules_per_token"][0]
    assert tuple(small) == ADDED


def test_the_assumed_prompt_is_stated() -> None:
    for task, lengths in TASKS.items():
        assert predict(row(task=task))["assumed_input_tokens"][0] == lengths.input_tokens


def test_intervals_hold_the_prediction_and_widen_with_distance() -> None:
    made = [
        predict(row(**changed)) for changed in ({}, {"model_id": "mistralai/Mistral-7B-v0.1"}, {"gpu_model": "L40S"})
    ]
    assert [str(one["source"][0]) for one in made] == ["measured", "modelled", "extrapolated"]
    for one in made:
        assert one["power_lo_w"][0] < one["power_w"][0] <= one["power_hi_w"][0]
        assert one["joules_per_token_lo"][0] < one["joules_per_token"][0] < one["joules_per_token_hi"][0]


@pytest.mark.parametrize(
    "changed",
    [
        {"model_id": "no/such"},
        {"gpu_model": "TPU"},
        {"gpu_model": "x" * 50_000},
        {"model_id": "x" * 50_000},
        {"gpu_model": "H100-SXM-1g.10gb"},
        {"num_gpus": 0.0},
        {"max_num_seqs": -3.0},
        {"max_num_seqs": float("inf")},
        {"max_num_seqs": "many"},
        {"weight_precision": "fp3"},
        {"model_id": "no/such", "total_params_billions": 5e-324},
        {"model_id": "no/such", "total_params_billions": 8.0, "activated_params_billions": 5e-324},
    ],
)
def test_bad_rows_are_refused_in_words_and_get_no_number(changed: dict[str, object]) -> None:
    made = predict(row(**changed))
    assert 0 < len(str(made["refusal"][0])) < 600
    assert np.isnan(made["power_w"][0])
    assert made["source"][0] == ""


def test_a_table_without_any_column_that_is_read_is_refused_row_by_row() -> None:
    made = predict({"name": np.array(["x", "y"], dtype=object)})
    assert [str(words).split(":")[0] for words in made["refusal"]] == ["model_id", "model_id"]
    assert np.isnan(made["power_w"]).all()


def test_intervals_of_watts_stay_between_idle_and_the_limit() -> None:
    for gpu_model, idle_w, limit_w in (("H100", gpu("H100").idle_w, 700), ("L40S", None, 350)):
        made = predict(row(gpu_model=gpu_model, max_num_seqs=1.0))
        assert (idle_w or 0.0) <= made["power_lo_w"][0] <= made["power_hi_w"][0] <= limit_w


def test_what_is_to_be_predicted_is_never_read(shared: Path) -> None:
    columns = read(shared / "data" / "perf" / "engine" / "ml_energy_llm.csv")
    told = ("power", "energy", "itl", "throughput")
    blank = {name: column for name, column in columns.items() if not any(word in name for word in told)}
    assert len(blank) == len(columns) - 8
    made, again = predict(columns), predict(blank)
    assert np.array_equal(made["power_w"], again["power_w"])
    assert np.array_equal(made["joules_per_token"], again["joules_per_token"])


def test_a_slice_of_a_gpu_is_refused_as_nobody_measured_its_power() -> None:
    assert "MIG slice" in str(predict(row(gpu_model="H100-SXM-1g.10gb"))["refusal"][0])


def test_a_new_gpu_gets_a_wider_interval_than_a_measured_one() -> None:
    known, new = (predict(row(gpu_model=name)) for name in ("H100", "H200"))
    for name in ("power{}_w", "joules_per_token{}"):
        low, high = (np.array([made[name.format(end)][0] for made in (known, new)]) for end in ("_lo", "_hi"))
        ratio = high / low
        assert ratio[1] > ratio[0]


@pytest.mark.parametrize("far", [{"num_gpus": 256.0}, {"avg_output_len": 1e6}])
def test_a_load_far_above_all_measured_is_extrapolated_with_a_wider_interval(far: dict[str, object]) -> None:
    near, there = predict(row()), predict(row(**far))
    assert (near["source"][0], there["source"][0]) == ("measured", "extrapolated")
    ratios = [made["joules_per_token_hi"][0] / made["joules_per_token_lo"][0] for made in (near, there)]
    assert ratios[1] > ratios[0]


def test_llama_3_8b_on_an_a100_draws_what_argonne_measured() -> None:
    # LLM-Inference-Bench, vLLM, 1,024 tokens in and out: 229 W at batch 1, 264 W at 16, 279 W at 32; 19.4 ms a step
    # of 16 sequences, prefill included, so 264 x 0.0194 / 16 = 0.32 J a token.
    lengths = {"avg_input_len": 1024.0, "avg_output_len": 1024.0, "gpu_model": "A100-40GB"}
    for batch, watts in ((1.0, 229.0), (16.0, 264.0), (32.0, 279.0)):
        made = predict(row(model_id="meta-llama/Meta-Llama-3-8B", max_num_seqs=batch, **lengths))
        assert made["power_w"][0] == pytest.approx(watts, rel=0.1)
    made = predict(row(model_id="meta-llama/Meta-Llama-3-8B", max_num_seqs=16.0, **lengths))
    assert made["joules_per_token"][0] == pytest.approx(264 * 0.0194 / 16, rel=0.1)


def test_measured_engines_are_answered_and_hit(shared: Path) -> None:
    columns = read(shared / "data" / "perf" / "engine" / "ml_energy_llm.csv")
    made = predict(columns)
    assert (made["refusal"] == "").all()
    for name, truth in (
        ("power", columns["avg_power_watts"]),
        ("joules_per_token", columns["energy_per_token_joules"]),
    ):
        value = made["power_w" if name == "power" else name]
        assert np.median(np.abs(value / truth - 1)) < 0.05
        assert np.mean(np.abs(value / truth - 1)) < 0.10
