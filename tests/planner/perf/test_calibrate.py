"""Corrections learnt from metrics: factors by hand, shrinkage, scope, and the real runs."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.metrics import parse
from planner.corrections import Correction, Deployment
from planner.perf.calibrate import Calibration, calibrate, corrected
from planner.perf.observed import Observed, observe
from planner.perf.serving import predict
from tests.controller.engine_text import run_of, steady, vllm

H100 = Deployment("vllm", "", "meta-llama/Llama-3.1-8B", "H100")


def seen(count: int = 1000, ttft_s: float = 0.2, tpot_s: float = 0.02, running: float = 16.0) -> Observed:
    answer = observe(parse(vllm(steady(count, ttft_s, tpot_s), running=running).encode(), "test"))
    assert isinstance(answer, Observed), answer
    return answer


def learnt(observed: Observed, deployment: Deployment = H100, earlier: tuple[Correction, ...] = ()) -> Calibration:
    answer = calibrate(observed, deployment, "2026-01-01T00:00:00+00:00", "0" * 64, earlier)
    assert isinstance(answer, Calibration), answer
    return answer


def columns(concurrency: float = 16.0, isl: float = 1000.0, system: str = "H100") -> dict[str, np.ndarray]:
    row = {"model_path": "llama-3.1-8b", "system": system, "isl": isl, "osl": 200.0, "concurrency": concurrency}
    return {key: np.array([value], dtype=object if isinstance(value, str) else float) for key, value in row.items()}


def test_a_factor_is_the_posterior_of_two_normal_distributions() -> None:
    raw = predict(columns())
    observed = seen(tpot_s=0.03)
    factor = learnt(observed).correction.decode
    prior = math.log(raw["tpot_hi_s"][0] / raw["tpot_s"][0]) / 1.645
    assert observed.tpot is not None
    error = math.hypot(observed.tpot.variation_ratio / math.sqrt(1000), 0.018)
    weight = prior**2 / (prior**2 + error**2)
    assert factor.ratio == pytest.approx((0.03 / raw["tpot_s"][0]) ** weight)
    assert factor.hi_ratio / factor.ratio == pytest.approx(math.exp(1.645 * math.sqrt(weight) * error))


def test_few_requests_move_the_factor_less_and_leave_it_wider() -> None:
    many, few = (learnt(replace(seen(ttft_s=2.0), requests=n)).correction.prefill for n in (1000.0, 2.0))
    assert 1 < few.ratio < many.ratio
    assert few.hi_ratio / few.lo_ratio > many.hi_ratio / many.lo_ratio


def test_calibrating_again_with_the_correction_finds_nothing_off() -> None:
    first = learnt(seen(ttft_s=0.5, tpot_s=0.05))
    again = learnt(seen(ttft_s=0.5, tpot_s=0.05), earlier=(first.correction,))
    assert first.drifted(0.2)
    assert not again.drifted(0.2)
    assert again.correction.decode == first.correction.decode  # always learnt from the bare model


def test_predictions_of_the_deployment_are_corrected_and_called_measured_near_its_load() -> None:
    correction = learnt(seen(ttft_s=0.5, tpot_s=0.05)).correction
    for load, near in ((16.0, True), (30.0, True), (64.0, False)):
        raw = predict(columns(load))
        made = corrected(columns(load), raw, (correction,))
        assert made["tpot_s"][0] == pytest.approx(raw["tpot_s"][0] * correction.decode.ratio)
        width = made["tpot_hi_s"][0] / made["tpot_s"][0]
        if near:
            assert made["source"][0] == "measured"
            assert width == pytest.approx(correction.decode.hi_ratio / correction.decode.ratio)
        else:
            assert made["source"][0] == raw["source"][0]
            assert width == pytest.approx(raw["tpot_hi_s"][0] / raw["tpot_s"][0])
        life_s = made["ttft_s"][0] + 199 * made["tpot_s"][0]
        assert made["tokens_per_s_per_gpu"][0] == pytest.approx(load * 200 / life_s)


def test_other_deployments_and_refused_rows_stay_as_they_are() -> None:
    correction = learnt(seen(tpot_s=0.05)).correction
    for system in ("A100", "nothing"):
        raw = predict(columns(system=system))
        made = corrected(columns(system=system), raw, (correction,))
        assert {key: str(values[0]) for key, values in made.items()} == {k: str(v[0]) for k, v in raw.items()}
    bare = predict(columns())
    for other in (replace(correction, tp=2), replace(correction, engine_version="0.19.0")):
        assert corrected(columns(), bare, (other,))["tpot_s"][0] == bare["tpot_s"][0]


def test_what_cannot_be_predicted_is_refused_in_words() -> None:
    answer = calibrate(seen(), H100._replace(gpu="nothing"), "", "")
    assert "unknown GPU 'nothing'" in str(answer)
    answer = calibrate(seen(), H100._replace(model="nothing"), "", "")
    assert "unknown model 'nothing'" in str(answer)


@pytest.mark.parametrize(
    ("run", "card"), [("rtx4090_llama-3.1-8b_tp1", "RTX-4090"), ("rtxpro6000_llama-3.1-8b_tp1", "RTXPRO6000")]
)
def test_the_calibration_of_a_real_run_recovers_its_latencies(shared: Path, run: str, card: str) -> None:
    done = run_of(shared / "data/perf/requests" / run)
    end_s = max(one.last_s for one in done)
    observed = observe(parse((vllm([], at_s=0.0) + vllm(done, at_s=end_s)).encode(), "run"))
    assert isinstance(observed, Observed)
    means = {
        "TTFT": sum(one.ttft_s for one in done) / len(done),
        "TPOT": sum(one.tpot_s for one in done) / len(done),
        "E2E": sum(one.e2e_s for one in done) / len(done),
    }
    answer = learnt(observed, Deployment("vllm", "", "meta-llama/Llama-3.1-8B", card))
    for row in answer.compared:
        assert row.measured_s == pytest.approx(means[row.name])
        assert row.corrected_s == pytest.approx(means[row.name], rel=0.03)
    assert observed.concurrency == pytest.approx(sum(one.e2e_s for one in done) / end_s)
