"""Attention of sequences of unequal length: between that of the mean and of the longest."""

import numpy as np
import pytest

from planner.base import HBM_KV, base_cost
from planner.mixing import longer, mixed
from planner.perf import layers
from tests.planner.perf_factories import LLAMA_8B, case

BATCHES = np.array([1.0, 2.0, 16.0])


def test_one_sequence_or_equal_ones_take_what_they_take() -> None:
    assert longer(np.array([500.0, 500.0]), np.array([1.0, 3.0]), BATCHES) == pytest.approx([1, 1, 1])
    assert longer(np.array([100.0, 900.0]), np.array([1.0, 1.0]), BATCHES)[0] == 1


def test_the_longest_of_two_is_weighed_as_measured() -> None:
    # Half of the sequences have 100 tokens, half 900: the longest of two has 100 in a quarter of all cases, so
    # 0.25 x 100 + 0.75 x 900 = 700 on average, against a mean of 500.
    far = np.mean([layers.profile(f"{name}_llama-3.1-8b_tp1").unequal_ratio[0] for name in ("rtx4090", "rtxpro6000")])
    made = longer(np.array([900.0, 100.0]), np.array([1.0, 1.0]), BATCHES)
    assert made[1] == pytest.approx(1 + far * (700 / 500 - 1))


def test_a_window_hides_what_is_longer() -> None:
    assert longer(np.array([900.0, 1800.0]), np.array([1.0, 1.0]), BATCHES, window=800) == pytest.approx([1, 1, 1])


def test_only_reading_the_cache_while_decoding_takes_longer() -> None:
    plain = base_cost(case(batch=BATCHES[None, :]))
    made = mixed(plain, LLAMA_8B, np.array([900.0, 100.0]), np.array([1.0, 1.0]), BATCHES)
    factor = longer(np.array([900.0, 100.0]), np.array([1.0, 1.0]), BATCHES)
    before, after = (
        next(op for op in one.phases["decode"].ops if op.name == "attention").traffic[HBM_KV] for one in (plain, made)
    )
    assert after == pytest.approx(before * factor)
    assert made.phases["prefill"] == plain.phases["prefill"] or made.phases["prefill"] is plain.phases["prefill"]
    assert made.resident(made.pools[0])["kv"] == pytest.approx(plain.resident(plain.pools[0])["kv"])
