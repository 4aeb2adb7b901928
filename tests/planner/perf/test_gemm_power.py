"""Matrix products: counts by hand, what the shipped model says of the shipped sweep, the power limit, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.perf.gemm_features import DTYPES, LAUNCH_S, Products, features, products
from planner.perf.gemm_power import SWEEP, Estimate, estimate, meta
from planner.perf.power_cap import Work, settle


def product(m: int = 1000, n: int = 6144, k: int = 4096, dtype: str = "bf16") -> Products:
    one = (np.array([m]), np.array([n]), np.array([k]), np.array([dtype]))
    return products(gpu("H200"), 132, *one)


def answer(m: float = 1000, n: float = 6144, k: float = 4096, dtype: str = "bf16") -> Estimate:
    return estimate(np.array([m]), np.array([n]), np.array([k]), np.array([dtype], dtype=object))


def one_kernel(time_s: float = 1e-3, core_j: float = 0.5, hbm_j: float = 0.1, core: float = 0.5) -> Work:
    cells = (np.array([[x]]) for x in (time_s, core_j, hbm_j, core))
    return Work(*cells)


def test_flops_and_bytes_are_those_of_a_hand_calculation() -> None:
    p = product()
    assert p.flops[0] == 2 * 1000 * 6144 * 4096
    assert [x[0] for x in p.moved_bytes] == [6144 * 4096 * 2, 1000 * 4096 * 2, 1000 * 6144 * 2]
    # Inputs of 8 MB and outputs of 12 MB are still in the cache; the weights are not.
    assert p.hbm_bytes[0] == 6144 * 4096 * 2


def test_the_roofline_is_the_longer_of_arithmetic_and_memory() -> None:
    card = gpu("H200")
    large, small = product(8192, 8192, 8192), product(1, 8192, 8192)
    assert large.roof_s[0] == pytest.approx(2 * 8192**3 / card.flops("bf16") + LAUNCH_S)
    moved = 2 * (8192 * 8192 + 2 * 8192)
    assert small.roof_s[0] == pytest.approx(moved / card.hbm_bytes_per_s + LAUNCH_S)


def test_an_fp8_product_reads_one_byte_and_writes_two() -> None:
    weights, inputs, outputs = product(16, 128, 64, "fp8").moved_bytes
    assert (weights[0], inputs[0], outputs[0]) == (128 * 64, 16 * 64, 16 * 128 * 2)


def test_tiles_waves_and_padding_are_counted() -> None:
    # 1000 x 6144 in tiles of 128 x 128: 8 x 48 = 384 tiles on 132 multiprocessors are 2.91 waves of 3.
    row = features(product())[0]
    tiles, full, waves, padding = row[10 + 4 * 2 : 10 + 4 * 3]
    assert tiles == pytest.approx(np.log2(384))
    assert full == pytest.approx(384 / 132 / 3)
    assert waves == 3
    assert padding == pytest.approx(1000 * 6144 / (384 * 128 * 128))


def test_below_the_limit_nothing_slows_down() -> None:
    settled = settle(one_kernel(), idle_w=100.0, exponent=2.0, limit_w=701.0)
    assert (settled.clock[0], settled.time_s[0]) == (1.0, 1e-3)
    assert settled.power_w[0] == pytest.approx(100 + 0.6 / 1e-3)


def test_over_the_limit_the_clock_falls_until_power_meets_it() -> None:
    # No HBM, time as clock^-1, energy as clock^2: power above idle is 900 clock^3, so 400 W of it leave clock 0.763.
    work = one_kernel(core_j=0.9, hbm_j=0.0, core=1.0)
    settled = settle(work, idle_w=100.0, exponent=2.0, limit_w=500.0)
    clock = (400 / 900) ** (1 / 3)
    assert settled.clock[0] == pytest.approx(clock)
    assert settled.time_s[0] == pytest.approx(1e-3 / clock)
    assert settled.power_w[0] == pytest.approx(500.0)


def test_a_kernel_that_waits_for_memory_keeps_its_time_under_a_cap() -> None:
    settled = settle(one_kernel(core=0.0), idle_w=100.0, exponent=2.0, limit_w=500.0)
    assert settled.clock[0] < 1
    assert settled.time_s[0] == pytest.approx(1e-3)


def test_kernels_of_one_step_share_power_under_the_cap() -> None:
    """900 W for half the time and 300 W for the other half are 600 W: together they need no slower clock."""
    alone = one_kernel(core_j=0.8, hbm_j=0.0)
    both = Work(*(np.array([[a, b]]) for a, b in ((1e-3, 1e-3), (0.8, 0.2), (0.0, 0.0), (0.5, 0.5))))
    assert settle(alone, 100.0, 2.0, 650.0).clock[0] < 1
    assert settle(both, 100.0, 2.0, 650.0).clock[0] == 1.0


def sweep() -> dict[str, NDArray[Any]]:
    with SWEEP.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def test_the_shipped_sweep_is_as_large_as_it_says() -> None:
    data = sweep()
    product_row = data["dtype"] != ""
    long = (data["kind"] == "sustained") & product_row
    assert np.count_nonzero((data["kind"] == "burst") & product_row) >= 2000
    assert np.count_nonzero(long) >= 300
    assert float(np.min(data["seconds"][long])) >= 1.0
    assert len(np.unique(data["part"])) == 3


def test_errors_on_shapes_left_out_meet_what_is_wanted() -> None:
    held_out = meta()["cross_validation"]
    assert min(held_out["runtime"]["r2"], held_out["runtime"]["r2_log"]) >= 0.98
    assert min(held_out["power"]["r2"], held_out["power"]["r2_log"]) >= 0.78
    assert held_out["runtime"]["mean_ape"] <= 0.08
    assert held_out["power"]["median_ape"] <= 0.03


def test_the_shipped_model_agrees_with_the_shipped_sweep() -> None:
    data = sweep()
    keep = np.flatnonzero((data["kind"] == "burst") & (data["dtype"] != ""))[::9]
    made = estimate(*(data[name][keep] for name in ("m", "n", "k", "dtype")))
    measured = data["time_s"][keep].astype(float)
    assert float(np.median(np.abs(made.time_s / measured - 1))) <= 0.04
    inside = (made.time_lo_s <= measured) & (measured <= made.time_hi_s)
    assert float(np.mean(inside)) >= 0.85
    assert set(made.source) == {"measured"}


@pytest.mark.slow
def test_a_fit_on_two_thirds_of_the_shapes_predicts_the_rest() -> None:
    fit = pytest.importorskip("planner.perf.fit_gemm_power", reason="fitting needs scikit-learn")
    pytest.importorskip("sklearn", reason="fitting needs scikit-learn")
    pytest.importorskip("scipy", reason="fitting needs scipy")
    bursts, long, _ = fit.read(Path(str(SWEEP)))
    some = bursts.rows(bursts.shape % 3 == 0)
    found = fit.cross_validate(some, long, folds=2)
    assert found["runtime"]["r2_log"] >= 0.98
    assert found["power"]["r2"] >= 0.78


def test_a_large_product_runs_at_the_limit_and_a_tiny_one_far_below() -> None:
    large, tiny = answer(8192, 8192, 8192), answer(1, 256, 256)
    assert large.power_w[0] == pytest.approx(700.0, abs=1.0)
    assert large.sustained_s[0] > large.time_s[0]
    assert tiny.power_w[0] < 250
    assert tiny.sustained_s[0] == tiny.time_s[0]


def test_what_was_never_swept_is_extrapolated_with_wider_intervals() -> None:
    inside, outside = answer(), answer(m=1_000_000)
    assert (inside.source[0], outside.source[0]) == ("measured", "extrapolated")
    assert outside.time_hi_s[0] / outside.time_lo_s[0] > inside.time_hi_s[0] / inside.time_lo_s[0]
    assert answer(n=6145).source[0] == "extrapolated"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (answer(m=0), "m: got 0, allowed: a whole number from 1 to 16777216"),
        (answer(n=-16), "n: got -16, allowed: a whole number from 1 to 16777216"),
        (answer(k=float("nan")), "k: got nan, allowed: a whole number from 1 to 16777216"),
        (answer(k=float("inf")), "k: got inf, allowed: a whole number from 1 to 16777216"),
        (answer(m=1.5), "m: got 1.5, allowed: a whole number from 1 to 16777216"),
        (answer(m=1e30), "m: got 1e+30, allowed: a whole number from 1 to 16777216"),
        (answer(dtype="int3"), f"dtype: got 'int3', allowed: {', '.join(DTYPES)}"),
        (answer(n=100, dtype="fp8"), "n: got 100, allowed in fp8: multiples of 16"),
        (answer(2**24, 2**24, 16), "m, n, k: got 2.81e+14 elements, more than the GPU's memory holds"),
    ],
)
def test_absurd_sizes_are_refused_in_words(asked: Estimate, words: str) -> None:
    assert asked.refusal[0] == words
    assert np.isnan(asked.time_s[0])
    assert np.isnan(asked.power_w[0])
    assert asked.source[0] == ""


def test_one_bad_row_leaves_the_others_answered() -> None:
    sizes = np.array([16, 0, 64])
    made = estimate(sizes, np.full(3, 4096), np.full(3, 4096), np.full(3, "bf16"))
    assert np.isfinite(made.time_s).tolist() == [True, False, True]
    assert made.time_s[0] < made.time_s[2] * 1.2
