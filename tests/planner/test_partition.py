"""A GPU whose SMs are divided between prefill and decode: curves as measured, Nexus' rules by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.batching import Replica, Sizes, steady
from planner.calibration import ENGINES
from planner.cost import At, Cost, Op, Phase
from planner.partition import ALONE, BESIDE, DECODE_SLOWDOWN, PREFILL_SLOWDOWN, SHARES, Curve, divided, loads
from planner.plan import Recipe, Refusal
from planner.pools import run_of
from planner.profile import demand_of, profile
from planner.technique import cost_of
from planner.techniques.chunked_prefill import ChunkedPrefill
from planner.techniques.intra_gpu_split import IntraGPUSplit
from tests.planner.perf_factories import H100, case, service

VLLM = ENGINES["vllm"]
ONE = np.ones((1, 1))


MEASURED = Path(__file__).parents[1] / "benchmarks" / "data" / "sm_partition_h200.jsonl"
KINDS = {
    "prompt_product": "compute",
    "prompt_attention": "compute",
    "decode_attention": "kv",
    "decode_product": "other",
    "copy": "other",
}


def points(beside: bool) -> dict[str, list[tuple[float, float]]]:
    """(share of SMs, speed over the whole GPU's) by kind, the other SMs idle or busy."""
    rows = [json.loads(line) for line in MEASURED.read_text("utf-8").splitlines()]
    alone = {(row["kernel"], row["sms"]): row["time_s"] for row in rows if row["kind"] == "alone"}
    times = [(kernel, sms, time_s) for (kernel, sms), time_s in alone.items()]
    if beside:
        pairs = [row for row in rows if row["kind"] == "pair" and row["sms"] < 132]
        times = [(row["first"], row["sms"], row["first_s"]) for row in pairs]
        times += [(row["second"], row["rest_sms"], row["second_s"]) for row in pairs]
    found: dict[str, list[tuple[float, float]]] = {"compute": [], "kv": [], "other": []}
    for kernel, sms, time_s in times:
        if kernel in KINDS and time_s is not None:
            found[KINDS[kernel]].append((sms / 132, alone[kernel, 132] / time_s))
    return found


def error(curve: Curve, at: list[tuple[float, float]]) -> float:
    return float(np.mean([abs(np.log(curve.speed(share) / speed)) for share, speed in at]))


@pytest.mark.parametrize(
    ("curves", "beside", "errors"),
    [
        (ALONE, False, {"compute": 0.034, "kv": 0.044, "other": 0.088}),
        (BESIDE, True, {"compute": 0.094, "kv": 0.051, "other": 0.071}),
    ],
    ids=["the rest idle", "the rest busy"],
)
def test_the_curves_are_as_far_off_as_they_say_and_hardly_any_is_nearer(
    curves: dict[str, Curve], beside: bool, errors: dict[str, float]
) -> None:
    tried = [Curve(early, late) for early in np.arange(0.9, 3.0, 0.1) for late in np.arange(0.0, 1.1, 0.1)]
    for kind, at in points(beside).items():
        assert error(curves[kind], at) == pytest.approx(errors[kind], abs=0.0015)
        assert error(curves[kind], at) < min(error(curve, at) for curve in tried) + 0.012


def two_phases(prefill: Op, decode: Op) -> Cost:
    phases = {"prefill": Phase((prefill,), {}, 1.0, beside="decode"), "decode": Phase((decode,), {}, 1.0)}
    return Cost(phases, (("prefill", "decode"),))


def test_a_curve_rises_to_its_saturation_point_and_slowly_after_it() -> None:
    """1.26 r and 1 - 0.82 (1 - r) meet at r = 0.18 / 0.44 = 0.409."""
    curve = ALONE["compute"]
    assert curve.saturation == pytest.approx(0.409, abs=1e-3)
    assert [float(curve.speed(r)) for r in (0.2, 0.409, 1.0)] == pytest.approx([0.252, 0.515, 1.0], abs=1e-3)
    assert float(Curve(2.0, 0.5).speed(0.5)) == pytest.approx(0.75)


def test_beside_the_other_phase_arithmetic_has_its_share_of_sms_and_no_more() -> None:
    measured = ((32, 0.23), (64, 0.48), (96, 0.74), (112, 0.87))  # products beside decode attention
    for sms, speed in measured:
        assert float(BESIDE["compute"].speed(sms / 132)) == pytest.approx(speed, rel=0.06)


def test_a_division_that_only_computes_gives_each_phase_the_speed_of_its_share() -> None:
    """Equal work on both sides: the slower is fastest at half, which lies between the two modes."""
    cost = two_phases(Op("up", 1e12 * ONE), Op("down", 1e12 * ONE))
    made = divided(cost, H100, lambda prefill_s, decode_s: np.maximum(prefill_s, decode_s))
    ratios = [float(np.max(made.phases[name].compute_ratio)) for name in ("prefill", "decode")]
    assert ratios == pytest.approx([0.5, 0.5])


def test_the_division_stays_between_nexus_two_modes() -> None:
    """Prefill computes: within 1.3 of its best from 1 / 1.3 = 0.77, so 0.8 of the SMs on. Decode streams weights:

    1 / min(1.98 r, 1 - 0.5 (1 - r)) <= 1.1 from r = 0.82 on, so prefill has 0.1 at most. Between 0.1 and 0.8.
    """
    cost = two_phases(Op("up", 1e12 * ONE), Op("down", 0.0 * ONE, traffic={At("weights", "hbm"): 1e9 * ONE}))
    greedy = divided(cost, H100, lambda prefill_s, _: prefill_s)
    modest = divided(cost, H100, lambda _, decode_s: decode_s)
    shares = [float(np.max(made.phases["prefill"].compute_ratio)) for made in (greedy, modest)]
    assert shares == pytest.approx([0.8, 0.1])
    assert (PREFILL_SLOWDOWN, DECODE_SLOWDOWN) == (1.3, 1.1)
    assert SHARES[0] == pytest.approx(0.1)


def test_two_phases_that_stream_share_the_bandwidth_by_what_they_ask_for() -> None:
    stream = {At("weights", "hbm"): 1e9 * ONE}
    made = divided(
        two_phases(Op("up", 0.0 * ONE, traffic=stream), Op("down", 0.0 * ONE, traffic=stream)), H100, np.maximum
    )
    total = sum(float(np.max(made.phases[name].hbm_ratio)) for name in ("prefill", "decode"))
    assert total == pytest.approx(1.0, abs=0.02)


def test_loads_are_the_seconds_of_kernels_alone() -> None:
    """1 TFLOP at 0.8 x 989 TFLOP/s; 1 GB of cache at 0.86 x 3.35 TB/s."""
    load = loads(Phase((Op("up", 1e12, traffic={At("kv", "hbm"): 1e9}),), {}, 1.0), H100)
    assert float(load.compute_s[0]) == pytest.approx(1e12 / (0.8 * 989e12))
    assert float(load.kv_s[0]) == pytest.approx(1e9 / (0.86 * 3.35e12))


def test_decode_no_longer_waits_for_prompts_and_the_slower_side_sets_the_rate() -> None:
    sizes, batch = Sizes(2000 * ONE, 200 * ONE, 2000 * ONE), 32 * ONE
    here = case(batch=batch, input_tokens=2000 * ONE, output_tokens=200 * ONE)
    turns = steady(cost_of(here, []), Replica(H100, VLLM, sizes, batch, 1))
    split = run_of(cost_of(here, [IntraGPUSplit()]), Replica(H100, VLLM, sizes, batch, 1))
    between_s = [float((run.decode_s + batch / 200 * run.prefill_s)[0, 0]) for run in (turns, split)]
    assert float(split.prefill_s[0, 0]) == 0
    assert between_s[1] < between_s[0]
    assert float(split.prompt_s[0, 0]) > float(turns.prompt_s[0, 0])
    per_request = [float(x[0, 0]) for x in (split.prefill_slot_s, 200 * split.decode_s / batch)]
    assert float(split.requests_per_s[0, 0]) == pytest.approx(1 / max(per_request))


def test_prompts_do_not_ride_and_run_beside_at_once() -> None:
    spec = service()
    recipe = Recipe("H100", techniques=("chunked-prefill", "intra-gpu-split"))
    answer = profile(spec, recipe, H100, demand_of(spec), {})
    assert isinstance(answer, Refusal)
    assert "both ride on decode steps in chunks and run beside them" in answer.reason
    assert cost_of(case(), [IntraGPUSplit(), ChunkedPrefill()]).phases["prefill"].beside == "decode"


def test_the_shortest_prompt_is_next_unless_another_waited_long() -> None:
    """1,000 tokens that waited 40 s: 1,000 - 15 x 40 = 400, before 500 tokens just in."""
    split = IntraGPUSplit()
    assert split.turn(1000, 40) == 400
    assert split.turn(1000, 40) < split.turn(500, 0)
    assert split.flags("sglang") == {"enable-pdmux": ""}
    assert split.flags("vllm") is None
    assert "no NVIDIA GPU" in str(split.objection(case(gpu=replace(H100, vendor="amd"))))
