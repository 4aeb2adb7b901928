"""The layer stack: predicted before it was measured, and within what is wanted."""

import hashlib
import json

import pytest

from planner.perf.gemm_power import fitted
from tests.benchmarks.layer_stack import MEASURED, PREDICTED, compare, operations, predictions, step
from workloads.cases import Layer


def test_the_run_names_the_predictions_that_were_made_before_it() -> None:
    head = json.loads(MEASURED.read_text("utf-8").splitlines()[0])
    assert head["predicted_sha256"] == hashlib.sha256(PREDICTED.read_bytes()).hexdigest()
    assert head["gpu"] == "NVIDIA H200"


def test_time_and_power_are_within_eight_percent_at_the_median() -> None:
    assert compare()


def test_the_model_still_says_what_it_said_then() -> None:
    """A new fit may move a little; predictions made before stay as they were made."""
    then = json.loads(PREDICTED.read_text("utf-8"))
    for old, new in zip(then, predictions(), strict=True):
        assert new["time_s"] == pytest.approx(old["time_s"], rel=0.05)
        assert new["power_w"] == pytest.approx(old["power_w"], rel=0.05)


def test_a_decode_step_of_one_sequence_waits_for_its_weights() -> None:
    # 218.1 million weights in each of 32 layers, 2 bytes each: 14.0 GB at 4.8 TB/s are 2.9 ms.
    known = operations(fitted().energy)
    gemms_s = step(Layer("decode", 1, 1, 256), known).time_s[0, :4].sum()
    assert 2.9e-3 < gemms_s < 2.9e-3 * 1.5


def test_operations_are_interpolated_between_measured_sizes() -> None:
    norm = operations(fitted().energy)["norm"]
    low, middle, high = (norm.time_s(1, tokens) for tokens in (1024, 1200, 1536))
    assert norm.times[(1, 1024)] == pytest.approx(low)
    assert low < middle < high
