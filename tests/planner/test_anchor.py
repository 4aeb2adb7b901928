"""The plan's seconds are those of the measured model where it answers, and the roofline's elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from planner.anchor import USERS, Anchor, Key, anchors, key_of, source_of
from planner.base import base_cost
from planner.calibration import ENGINES
from planner.catalog import gpu, model
from planner.corrections import Correction, Factor
from planner.cost import ONE_GPU, Case, Degrees
from planner.perf.serving import predict
from planner.plan import Profile, Recipe, Refusal
from planner.profile import BATCHES, anchored, demand_of, profile
from planner.roofline import step_time
from planner.service import SLO, Bucket, ServiceSpec
from tests.planner.perf_factories import LLAMA_8B, inventory, service

H100, L4, LLAMA = gpu("H100-SXM"), gpu("L4"), model("llama-3.1-8b")
MEAN = (900.0, 250.0)
PLAIN = Key("H100-SXM", ONE_GPU, "")


def anchor(key: Key = PLAIN, batches: np.ndarray = USERS) -> Anchor:
    return anchors(LLAMA, {"H100-SXM": H100, "L4": L4}, "vllm", [key], MEAN, batches)[key]


def computed_s(batch: float) -> tuple[float, float]:
    """Seconds of a decode step and of one prompt of the mean request, by the roofline."""
    prompts = max(batch / MEAN[1], 1.0)
    phases = base_cost(Case(LLAMA, H100, batch, *MEAN, prompts)).phases
    decode, prefill = (float(step_time(phases[name], H100, ENGINES["vllm"]).total_s) for name in ("decode", "prefill"))
    return decode, prefill / prompts


def measured(users: float) -> dict[str, float]:
    """What the serving model says of so many users in a closed loop."""
    row = {"model_path": LLAMA.name, "system": "H100-SXM", "backend": "vllm", "isl": MEAN[0], "osl": MEAN[1]}
    columns = {name: np.array([value]) for name, value in {**row, "concurrency": users}.items()}
    return {name: values[0] for name, values in predict(columns).items()}


def test_a_request_lives_as_long_as_in_the_measured_closed_loop() -> None:
    made = anchor()
    for at, users in enumerate(USERS):
        decode_s, prefill_s = computed_s(users)
        life_s = made.first_s + MEAN[1] * made.decode[at] * decode_s + users * made.prefill * prefill_s
        found = measured(users)
        assert life_s == pytest.approx(found["ttft_s"] + MEAN[1] * found["tpot_s"], rel=0.1)


def test_the_first_token_of_a_lone_user_takes_the_measured_time() -> None:
    made, (decode_s, prefill_s) = anchor(), computed_s(1.0)
    ttft_s = made.decode[0] * decode_s + made.prefill * prefill_s + made.first_s
    assert ttft_s == pytest.approx(measured(1.0)["ttft_s"], rel=0.05)


def test_factors_are_interpolated_between_batches_and_kept_where_memory_is_full() -> None:
    three = anchor(batches=np.array([4.0, 8.0, 16.0]))
    assert three.decode[1] == pytest.approx(np.sqrt(three.decode[0] * three.decode[2]), rel=0.01)
    # Beside 16 GB of weights an L4 has room for some 15 of these requests (1025 tokens of 131 kB).
    small = anchor(Key("L4", ONE_GPU, ""))
    assert (small.decode[2:] == small.decode[2]).all()


def test_a_format_has_the_factors_of_the_published_one_and_its_own_interval() -> None:
    both = anchors(LLAMA, {"H100-SXM": H100}, "vllm", [PLAIN, PLAIN._replace(form="fp8")], MEAN, USERS)
    plain, narrow = both.values()
    assert (narrow.decode == plain.decode).all()
    assert (narrow.prefill, narrow.first_s) == (plain.prefill, plain.first_s)
    assert (narrow.tpot_half != plain.tpot_half).any()


def test_what_the_catalogue_does_not_have_keeps_the_roofline() -> None:
    assert anchors(LLAMA_8B, {"H100-SXM": H100}, "vllm", [PLAIN], MEAN, USERS) == {}
    other = replace(H100, hbm_bytes_per_s=1e12)
    assert anchors(LLAMA, {"H100-SXM": other}, "vllm", [PLAIN], MEAN, USERS) == {}
    large = model("llama-3.1-70b")
    assert anchors(large, {"L4": L4}, "vllm", [Key("L4", ONE_GPU, "")], MEAN, USERS) == {}  # its weights do not fit


def test_only_what_was_measured_is_called_measured() -> None:
    # Of vLLM on one H100, Qwen3-32B was measured, Llama-3.1-8B was not.
    made = anchors(model("qwen3-32b"), {"H100-SXM": H100}, "vllm", [PLAIN], MEAN, USERS)[PLAIN]
    assert source_of(made, Recipe("H100-SXM", techniques=("chunked-prefill", "fp8")), H100) == "measured"
    assert source_of(anchor(), Recipe("H100-SXM"), H100) == "modelled"
    for recipe in (
        Recipe("H100-SXM", techniques=("w4a16",)),
        Recipe("H100-SXM", pp=2),
        Recipe("H100-SXM", power_cap_w=350.0),
    ):
        assert source_of(made, recipe, H100) == "modelled"
    assert source_of(anchor(Key("L4", ONE_GPU, "")), Recipe("L4"), L4) == "extrapolated"
    # Without an anchor the engine's own costs decide, which were fitted on some GPUs alone.
    assert source_of(None, Recipe("H100-SXM"), H100) == "modelled"
    assert source_of(None, Recipe("L4"), L4) == "extrapolated"


def chat(**slo: float) -> ServiceSpec:
    return service(LLAMA, {Bucket("chat", 900, 250): 5.0}, (SLO("chat", **slo, percentile=0.5),))


def made(spec: ServiceSpec, confidence: float = 0.5) -> Profile | Refusal:
    """One H100 of the service."""
    recipe = Recipe("H100-SXM")
    here = anchored(spec, [recipe], inventory(H100))[key_of(recipe)]
    return profile(spec, recipe, H100, demand_of(spec), {}, here, confidence)


def test_a_prediction_carries_its_interval_and_its_source() -> None:
    answer = made(chat(ttft_s=1.0, tpot_s=0.03))
    assert isinstance(answer, Profile)
    one = answer.pools[0].prediction
    assert one.source == answer.source == "modelled"
    assert one.tpot_lo_s is not None
    assert one.tpot_hi_s is not None
    assert one.tpot_lo_s < one.tpot_s < one.tpot_hi_s
    assert one.tpot_s / one.tpot_lo_s == pytest.approx(one.tpot_hi_s / one.tpot_s)
    at = int(np.flatnonzero(BATCHES[0] == answer.recipe.max_batch)[0])
    half = anchored(chat(), [Recipe("H100-SXM")], inventory(H100))[PLAIN].tpot_half[at]
    assert np.log(one.tpot_hi_s / one.tpot_s) == pytest.approx(half)


def test_confidence_lowers_the_objectives_by_the_error_of_the_model() -> None:
    even, sure = (made(chat(ttft_s=5.0, tpot_s=0.03), confidence) for confidence in (0.5, 0.95))
    assert isinstance(even, Profile)
    assert isinstance(sure, Profile)
    widest = anchored(chat(), [Recipe("H100-SXM")], inventory(H100))[PLAIN].tpot_half.max()
    assert sure.pools[0].prediction.tpot_s * np.exp(widest) <= 0.03 * (1 + 1e-9)
    assert sure.recipe.max_batch < even.recipe.max_batch


def test_a_deployment_that_runs_corrects_its_own_recipes_only() -> None:
    slower, sooner = Factor(1.2, 1.15, 1.25), Factor(0.9, 0.8, 1.0)
    learnt = Correction(
        "vllm", "", LLAMA.name, "H100-SXM", 1, 1, 1, "bf16", sooner, slower, 1000, *MEAN, 16.0, "2026-01-01", "0" * 64
    )
    keys = [PLAIN, PLAIN._replace(split=Degrees(2))]
    before, after = (
        anchors(LLAMA, {"H100-SXM": H100}, "vllm", keys, MEAN, USERS, corrections) for corrections in ((), (learnt,))
    )
    assert after[PLAIN].decode == pytest.approx(1.2 * before[PLAIN].decode, rel=0.02)
    assert after[PLAIN].source == "measured"
    # Sixteen users of such requests were seen, so there the interval is the correction's.
    assert after[PLAIN].tpot_half[2] == pytest.approx(np.log(1.25 / 1.2), rel=0.01)
    assert (after[keys[1]].decode == before[keys[1]].decode).all()
