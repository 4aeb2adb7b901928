"""Metrics of engines to what was observed: increases, quantiles, load, and silence."""

import math

import pytest

from controller.metrics import parse
from planner.perf.observed import Histogram, Observed, Sample, Scrape, observe
from tests.controller.engine_text import MODEL, Served, sglang, steady, vllm

HALVES = Histogram((1.0, 2.0, math.inf), (50.0, 100.0, 100.0), 120.0, 100.0)


def seen(text: str, **known: float) -> Observed:
    answer = observe(parse(text.encode(), "test"), concurrency=known.get("concurrency"))
    assert isinstance(answer, Observed), answer
    return answer


def refused(text: str, model: str = "") -> str:
    answer = observe(parse(text.encode(), "test"), model)
    assert isinstance(answer, str)
    return answer


def test_quantiles_lie_on_straight_lines_within_buckets() -> None:
    assert (HALVES.quantile(0.25), HALVES.quantile(0.5), HALVES.quantile(0.75)) == (0.5, 1.0, 1.5)
    assert HALVES.mean == 1.2


def test_what_lies_beyond_the_last_bound_is_that_bound() -> None:
    assert Histogram((1.0, math.inf), (10.0, 100.0), 500.0, 100.0).quantile(0.9) == 1.0


def test_the_variation_of_a_histogram_is_that_of_the_middles_of_its_buckets() -> None:
    even = Histogram((1.0, 2.0), (50.0, 100.0), 100.0, 100.0)  # half at 0.5, half at 1.5, mean 1
    assert even.variation_ratio == 0.5


def test_two_scrapes_count_what_lies_between_them() -> None:
    first, later = steady(100, ttft_s=5.0), steady(50, ttft_s=0.2)
    found = seen(vllm(first, at_s=1000.0) + vllm([*first, *later], at_s=1100.0))
    assert found.requests == 50
    assert found.ttft.mean == pytest.approx(0.2)
    assert found.window_s == 100.0
    assert (found.input_tokens, found.output_tokens) == (1000.0, 200.0)
    # Little's law: 50 requests of 0.2 + 199 x 0.02 s in 100 s.
    assert found.concurrency == pytest.approx(max(50 * (0.2 + 199 * 0.02) / 100, 1.0))


def test_one_scrape_counts_since_the_engine_started() -> None:
    found = seen(vllm(steady(100), running=3.0, waiting=1.0))
    assert (found.requests, found.window_s, found.concurrency) == (100, None, 4.0)
    assert found.tpot_s == pytest.approx(0.02)
    assert (found.kv_blocks, found.block_tokens, found.utilisation_ratio) == (2588, 16, 0.9)


def test_an_engine_that_started_anew_counts_from_zero() -> None:
    found = seen(vllm(steady(100), at_s=0.0) + vllm(steady(20, ttft_s=0.4), at_s=60.0))
    assert found.requests == 20
    assert found.ttft.mean == pytest.approx(0.4)


def test_ranks_of_one_model_are_added_up() -> None:
    found = seen(
        vllm(steady(10), running=1.0, engine="0")
        + vllm(steady(30), running=2.0, engine="1").replace("# TYPE", "# type")
    )
    assert found.requests == 40
    assert found.concurrency == 3.0


def test_sglang_tells_lengths_by_counters_and_time_between_tokens() -> None:
    found = seen(sglang(steady(100), running=8.0, waiting=3.0))
    assert found.engine == "sglang"
    assert (found.input_tokens, found.output_tokens, found.concurrency) == (1000.0, 200.0, 11.0)
    assert found.tpot_from == "between tokens"


def test_without_a_metric_of_tokens_tpot_is_what_is_left_of_the_whole() -> None:
    lines = [line for line in vllm(steady(100), running=1.0).splitlines() if "per_output_token" not in line]
    found = seen("\n".join(lines) + "\n")
    assert found.tpot_from == "end to end less first token"
    assert found.tpot_s == pytest.approx(0.02)


def test_silence_is_refused_and_never_zero() -> None:
    words = refused(vllm(steady(100), at_s=0.0) + vllm(steady(100), at_s=300.0))
    assert words.startswith("no request got its first token within 300 s")
    assert "no request got its first token:" in refused(vllm([]))


def test_a_lone_scrape_of_an_idle_engine_needs_to_be_told_the_load() -> None:
    assert "say --concurrency" in refused(vllm(steady(100)))
    assert seen(vllm(steady(100)), concurrency=7.0).concurrency == 7.0


def test_foreign_metrics_and_several_models_are_refused_in_words() -> None:
    assert "no metric of vLLM or SGLang" in refused("# TYPE up gauge\nup 1.0\n")
    two = vllm(steady(3), model="a") + vllm(steady(3), model="b").replace("# TYPE", "# type")
    assert "metrics of 2 models (a, b)" in refused(two)
    assert "no metrics of a model called 'c'; there are: a, b" in refused(two, "c")


def test_scrapes_out_of_order_are_refused() -> None:
    assert refused(vllm(steady(3), at_s=9.0) + vllm(steady(5), at_s=1.0)) == "the scrapes are not in order of time"


def test_numbers_that_are_none_are_left_out() -> None:
    labels = (("model_name", MODEL),)
    broken = Scrape((Sample("vllm:time_to_first_token_seconds_count", labels, math.nan),))
    assert isinstance(observe([broken]), str)


def test_served_requests_tell_their_own_times() -> None:
    one = Served(1.0, 1.5, 3.5, 10, 5)
    assert (one.ttft_s, one.tpot_s, one.e2e_s) == (0.5, 0.5, 2.5)


def test_sums_without_buckets_are_not_taken_for_silence() -> None:
    kept = [line for line in vllm(steady(100)).splitlines() if "_bucket" not in line]
    assert "without buckets: read the engine's own /metrics" in refused("\n".join(kept) + "\n")
