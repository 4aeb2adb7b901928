"""The decode step's terms against calculations by hand, the fit's Jacobian against differences, and what falls back."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.perf.fit_serving_step import _jacobian, _priors, fit_step
from planner.perf.serving_physics import demand
from planner.perf.serving_rows import Rows, parse
from planner.perf.serving_step import COMMON, Steps, log_step_s, measured_together, placed, prompt_s, runs, steps


def rows(count: int = 1, **given: Any) -> Rows:
    """Rows of Llama-3.1-8B in 16 bits on one H100, with what is given changed."""
    values: dict[str, Any] = {
        "model_path": "llama-3.1-8b",
        "system": "H100-SXM",
        "backend": "vllm",
        "isl": 1024.0,
        "osl": 256.0,
        "concurrency": 1.0,
    }
    lists = {k: v if isinstance(v, list) else [v] * count for k, v in {**values, **given}.items()}
    return parse({k: np.array(v, dtype=object if isinstance(v[0], str) else float) for k, v in lists.items()})


def terms(found: Rows) -> Steps:
    return steps(found, demand(found))


def common(found: Steps) -> tuple[NDArray[np.float64], list[str]]:
    """A vector of the common coefficients alone, as the fit starts with them."""
    names = [f"{key}||" for key in COMMON]
    return np.log([start for start, _ in COMMON.values()]), names


def test_a_lone_user_waits_for_weights_cache_and_launches() -> None:
    found = rows()
    v, names = common(terms(found))
    log_s, shares = log_step_s(v, placed(terms(found), names))
    # 32 layers of 218.1 M weights of 2 bytes at 3.352 TB/s and 1.2 of the ideal time; 1152 tokens of 131,072 bytes of
    # cache at 1.2; the head's 4096 x 128,256 x 2 bytes at 1.2; 32 layers of 20 us, 128 products of 6.6 us, one sequence
    # of 10 us (COMMON), and 0.5 ms a step. Activations: 32 layers x 4096 x 2 x 12 bytes.
    hbm = 3.352e12
    by_hand = 1.2 * 32 * 218.1e6 * 2 / hbm + 1.2 * 1152 * 131072 / hbm + 1.2 * 4096 * 128256 * 2 / hbm
    by_hand += 32 * 20e-6 + 128 * 6.6e-6 + 1 * COMMON["request_s"][0] + 5e-4 + 32 * 4096 * 24 / hbm
    assert np.exp(log_s[0]) == pytest.approx(by_hand, rel=2e-3)
    assert shares.sum() == pytest.approx(1.0)


def test_a_lone_user_meets_no_other_prompts() -> None:
    assert demand(rows()).per_step[0] == 0
    # 15 others bring a prompt each while 256 tokens are made.
    assert demand(rows(concurrency=16.0)).per_step[0] == pytest.approx(15 / 256)


def test_prompts_share_steps_as_poisson_counts_do() -> None:
    d = demand(rows(concurrency=257.0, osl=128.0))
    assert d.per_step[0] == pytest.approx(2.0)
    assert d.mixed_ratio[0] == pytest.approx(1 - np.exp(-2.0))


def test_disaggregated_decode_meets_no_prompts() -> None:
    given: dict[str, Any] = {"mode": "disagg", "decode_tp_size": 1.0, "prefill_tp_size": 1.0, "decode_num_workers": 1.0}
    assert demand(rows(**given, concurrency=16.0)).per_step[0] == 0


def test_more_users_and_longer_contexts_take_longer() -> None:
    found = rows(3, concurrency=[4.0, 64.0, 64.0], isl=[1024.0, 1024.0, 8192.0])
    v, names = common(terms(found))
    log_s = log_step_s(v, placed(terms(found), names))[0]
    assert log_s[0] < log_s[1] < log_s[2]
    d = demand(found)
    own = prompt_s(v, names, found, d, terms(found).levels)
    assert own[0] == own[1] < own[2]


def test_what_was_never_seen_falls_back_to_what_is_common() -> None:
    found = rows(2, backend_version=["0.12.0", "99.0"])
    v, names = common(terms(found))
    v, names = np.append(v, 0.5), [*names, "whole|version|vllm:0.12.0"]
    log_s = log_step_s(v, placed(terms(found), names))[0]
    assert log_s[0] == pytest.approx(log_s[1] + 0.5)


def test_rows_without_version_and_date_belong_to_no_campaign_of_runs() -> None:
    stated = rows(2, isl=[1000.0, 1024.0], backend_version=["0.12.0", "0.12.0"])
    assert runs(rows(isl=1000.0))[0] == 0
    assert runs(stated).tolist() == [3, 1]
    assert runs(rows(backend_version="0.12.0", measured_on="2026-01-05"))[0] == 0


def measured_rows() -> Rows:
    return rows(
        6,
        model_path=["llama-3.1-8b", "deepseek-r1", "gpt-oss-120b", "qwen3-32b", "llama-3.1-70b", "llama-3.1-8b"],
        system=["H100-SXM", "B200", "H200-SXM", "H100-SXM", "B200", "B200"],
        backend=["vllm", "trtllm", "sglang", "vllm", "trtllm", "vllm"],
        tp_size=[1.0, 8.0, 4.0, 2.0, 4.0, 1.0],
        concurrency=[4.0, 64.0, 16.0, 128.0, 8.0, 32.0],
        backend_version=["1", "2", "1", "1", "2", "2"],
    )


def test_the_jacobian_is_that_of_differences() -> None:
    found = terms(measured_rows())
    everything = np.ones(6, dtype=bool)
    names, mean, _ = _priors(found, everything)
    p = placed(found, names)
    v = mean + 0.1 * np.random.default_rng(0).normal(size=len(mean))
    exact = _jacobian(p, log_step_s(v, p)[1], len(v))
    for i in range(0, len(v), 7):
        step = np.zeros(len(v))
        step[i] = 1e-5
        slope = (log_step_s(v + step, p)[0] - log_step_s(v - step, p)[0]) / 2e-5
        assert exact[:, i] == pytest.approx(slope, abs=1e-6)


def test_the_fit_finds_a_version_that_is_slower_and_keeps_no_campaign() -> None:
    found = terms(measured_rows())
    v, names = common(found)
    made = log_step_s(v, placed(found, names))[0]
    slower = np.array([0.0, 0.0, 0.0, 0.0, 0.3, 0.3])
    fitted, kept = fit_step(found, measured_together(measured_rows()), made + slower, np.ones(6, dtype=bool))
    assert not [name for name in kept if "|campaign|" in name]
    effects = dict(zip(kept, fitted, strict=True))
    assert effects["whole|version|trtllm:2"] > effects["whole|version|vllm:1"]
