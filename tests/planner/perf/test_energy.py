"""Power and energy of engines: intervals, sources, limits, refusals, and the measured rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
        {"num_gpus": 0.0},
        {"max_num_seqs": -3.0},
        {"max_num_seqs": float("inf")},
        {"max_num_seqs": "many"},
        {"weight_precision": "fp3"},
    ],
)
def test_bad_rows_are_refused_in_words_and_get_no_number(changed: dict[str, object]) -> None:
    made = predict(row(**changed))
    assert str(made["refusal"][0])
    assert np.isnan(made["power_w"][0])
    assert made["source"][0] == ""


def test_measured_engines_are_answered_and_hit(shared: Path) -> None:
    columns = read(shared / "data" / "perf" / "engine" / "ml_energy_llm.csv")
    made = predict(columns)
    assert (made["refusal"] == "").all()
    for name, truth in (
        ("power", columns["avg_power_watts"]),
        ("joules_per_token", columns["energy_per_token_joules"]),
    ):
        value = made["power_w" if name == "power" else name]
        assert np.median(np.abs(value / truth - 1)) < 0.10
