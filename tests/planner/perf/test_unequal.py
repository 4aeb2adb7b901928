"""Batches of unequal lengths: between mean and longest, and the medians that say how far."""

from pathlib import Path

import numpy as np
import pytest

from planner.catalog import gpu
from planner.perf.operators import context_attention_s, generation_attention_s
from planner.perf.tables import read
from planner.perf.unequal import ALONE, SEQUENCES, decoding_s, prompts_s, unequal_share

H100 = gpu("H100-SXM")


def test_equal_lengths_are_the_equal_batch() -> None:
    made = decoding_s(H100, np.full(16, 2048.0), 32, 8, 128)
    one = np.ones(1)
    equal = generation_attention_s(H100, 16 * one, 2048 * one, 32 * one, 8 * one, 128 * one)
    assert made.latency_s[0] == pytest.approx(equal.latency_s[0])
    prompts = prompts_s(H100, np.full(4, 1024.0), 32, 8, 128)
    assert prompts.latency_s[0] == pytest.approx(
        context_attention_s(H100, 4 * one, 1024 * one, 32 * one, 8 * one, 128 * one).latency_s[0]
    )


def test_a_mixed_batch_lies_a_share_of_the_way_from_mean_to_longest() -> None:
    lengths = np.array([1000.0] * 7 + [9000.0])
    two = np.ones(2)
    ends = generation_attention_s(H100, 8 * two, np.array([2000.0, 9000.0]), 32 * two, 8 * two, 128 * two).latency_s
    made = decoding_s(H100, lengths, 32, 8, 128).latency_s[0]
    assert made == pytest.approx(ends[0] + ALONE[2] * (ends[1] - ends[0]))
    assert decoding_s(H100, lengths, 32, 8, 128, beside_prompt=True).latency_s[0] > made


def test_the_shares_are_the_medians_of_the_measured_tables(shared: Path) -> None:
    parts = [read(path) for path in sorted((shared / "data" / "perf" / "operators").glob("vllm_*_skew.parquet"))]
    n, regime, mean, longest, mixed = (
        np.concatenate([part[key] for part in parts]) for key in ("n", "regime", "t_mean_us", "t_max_us", "t_skew_us")
    )
    plain = (longest > 1.02 * mean) & (regime == "pure")
    share = np.clip((mixed - mean) / np.where(plain, longest - mean, 1.0), 0, 1)
    for count, stated in zip(SEQUENCES, ALONE, strict=True):
        assert np.median(share[plain & (n == count)]) == pytest.approx(stated, abs=0.001)
        assert unequal_share(count, 2.0) == pytest.approx(stated)
    assert unequal_share(3, 2.0) == pytest.approx(np.interp(np.log2(3), [1, 2], ALONE[:2]))


def test_unequal_prompts_cost_their_squares() -> None:
    made = prompts_s(H100, np.array([8192.0, 8192.0, 64.0]), 32, 8, 128).latency_s[0]
    pair = prompts_s(H100, np.array([8192.0, 8192.0]), 32, 8, 128).latency_s[0]
    assert made == pytest.approx(pair, rel=0.05)
