"""Prefill and decode in pools of their own: what is sent and held, by hand, and a service planned with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.base import HBM_KV, HBM_WEIGHTS
from planner.batching import LOADS, Replica, Sizes, objective, steady
from planner.calibration import ENGINES
from planner.check import violations
from planner.cost import At
from planner.dominance import undominated
from planner.hardware import Inventory
from planner.perf.explain import explain
from planner.plan import Profile, Recipe, Refusal
from planner.planning import plan
from planner.pools import DECODE_SHARES, apart, operate_apart
from planner.profile import demand_of, profile, profiles
from planner.recipes import gpu_of
from planner.roofline import BARE, seconds, step_time
from planner.service import SLO, Bucket, ServiceSpec
from planner.spec.plan_file import load_plan, plan_text
from planner.technique import cost_of
from planner.techniques.chunked_prefill import ChunkedPrefill
from planner.techniques.disaggregation import SENT_KV, Disaggregation
from planner.techniques.kv_fp8 import KVFP8
from tests.planner.perf_factories import H100, L4, case, inventory, service

VLLM = ENGINES["vllm"]
KV_BYTES = 32 * 2 * 8 * 128 * 2.0  # of one token of Llama-8B: layers, keys and values, heads, width, 16 bits
ONE = np.ones((1, 1))
# A prompt of 8K takes longer than 20 tokens may: where phases take turns, one prompt spoils a short answer's TPOT.
LONG = Bucket("chat", 8192, 64)
TIGHT = SLO("chat", ttft_s=2.0, tpot_s=0.012, percentile=0.95)


def summaries(techniques: tuple[str, ...] | None = None) -> ServiceSpec:
    return service(rates_per_s={LONG: 4.0}, slos=(TIGHT,), techniques=techniques)


def test_the_keys_and_values_of_every_prompt_token_are_sent_once() -> None:
    prefill = cost_of(case(prompts=3.0), [Disaggregation()]).phases["prefill"]
    assert float(prefill.ops[0].traffic[SENT_KV]) == pytest.approx(3 * 1024 * KV_BYTES)
    narrow = cost_of(case(prompts=3.0), [Disaggregation(), KVFP8()]).phases["prefill"]
    assert float(narrow.ops[0].traffic[SENT_KV]) == pytest.approx(3 * 1024 * KV_BYTES / 2)


def test_sending_1024_tokens_takes_2_8_ms_over_pcie_and_3_6_ms_over_a_400_gbit_card() -> None:
    """1,024 x 131,072 B = 134.2 MB; PCIe 64 GB/s x 0.75 = 48 GB/s: 2.80 ms; 50 GB/s x 0.75 = 37.5 GB/s: 3.58 ms."""
    [send, *_] = cost_of(case(), [Disaggregation()]).phases["prefill"].ops
    assert float(seconds(send, H100, BARE)) == pytest.approx(2.796e-3, rel=1e-3)
    assert float(seconds(send, replace(H100, network_bytes_per_s=50e9), BARE)) == pytest.approx(3.579e-3, rel=1e-3)


def test_prefill_holds_the_caches_of_its_prompts_and_both_pools_hold_the_weights() -> None:
    here = case(batch=16.0, prompts=2.0)
    plain, split = cost_of(here, []), cost_of(here, [Disaggregation()])
    assert split.pools == (("prefill",), ("decode",))
    assert float(split.phases["prefill"].resident[HBM_KV]) == pytest.approx(2 * 1024 * KV_BYTES)
    assert float(split.phases["decode"].resident[HBM_KV]) == pytest.approx(16 * (1024 + 128) * KV_BYTES)
    weights = {name: phase.resident[HBM_WEIGHTS] for name, phase in split.phases.items()}
    assert set(weights.values()) == {plain.phases["decode"].resident[HBM_WEIGHTS]}


def test_neither_pool_waits_for_the_other() -> None:
    """Decode: B / (n t) requests/s, a step between tokens. Prefill: 1 / t. Together in turns, both carry less."""
    here, batch = case(batch=32 * ONE, input_tokens=1024 * ONE, output_tokens=128 * ONE, prompts=ONE), 32 * ONE
    sizes, cost = Sizes(1024 * ONE, 128 * ONE, 1024 * ONE), cost_of(here, [Disaggregation()])
    two = apart(cost, Replica(H100, VLLM, sizes, batch, 1))
    times = [step_time(cost.phases[name], H100, VLLM).total_s for name in ("decode", "prefill")]
    step_s, prompt_s = (float(np.max(time_s)) for time_s in times)
    assert float(two.decode.requests_per_s[0, 0]) == pytest.approx(32 / (128 * step_s))
    assert float(two.decode.decode_s[0, 0]) == pytest.approx(step_s)
    assert float(two.prefill.requests_per_s[0, 0]) == pytest.approx(1 / prompt_s)
    in_turns = float(steady(cost_of(here, []), Replica(H100, VLLM, sizes, batch, 1)).requests_per_s[0, 0])
    assert in_turns < min(32 / (128 * step_s), 1 / prompt_s)


def test_both_waits_and_the_first_decode_step_fit_into_the_ttft_objective() -> None:
    batch = np.array([[1.0, 8.0, 32.0]])
    here = case(batch=batch, input_tokens=1024 * ONE, output_tokens=128 * ONE, prompts=ONE)
    sizes, limits = Sizes(1024 * ONE, 128 * ONE, 1024 * ONE), objective([SLO("a", 0.5, 0.02, percentile=0.95)])
    two = apart(cost_of(here, [Disaggregation()]), Replica(H100, VLLM, sizes, batch, 1))
    fits = np.ones((1, 3), dtype=bool)
    prefill, decode = operate_apart(two, sizes, batch, 1, (fits, fits), limits, LOADS)
    assert 0 < float(prefill.ttft_s[0]) <= 0.5
    assert float(decode.tpot_s[0]) <= 0.02
    assert float(decode.e2e_s[0]) == pytest.approx(float(prefill.ttft_s[0]) + 127 * float(decode.tpot_s[0]))
    assert float(prefill.requests_per_s[0]) <= 0.95 * float(two.prefill.requests_per_s[0, 0])
    assert max(DECODE_SHARES) < 1


def test_a_service_that_names_it_is_planned_with_two_pools_of_equal_shares(tmp_path: Path) -> None:
    spec, hardware = summaries(techniques=("disaggregation",)), inventory(H100, gpus_per_node=1)
    offers, refused = profiles(spec, hardware)
    assert {len(offer.pools) for offer in offers} == {2}, "in turns, TPOT is out of reach"
    assert any("TPOT is" in refusal.reason for refusal in refused)
    answer = plan([spec], hardware)
    assert answer.status == "optimal"
    assert violations(answer, [spec], hardware, offers) == []
    pools = {allocation.pool: allocation for allocation in answer.allocations}
    assert set(pools) == {"prefill", "decode"}
    assert pools["prefill"].shares == pools["decode"].shares == {LONG: pytest.approx(1.0)}
    for name, at in pools.items():
        load = next(p for o in offers if o.recipe == at.recipe for p in o.pools if p.pool == name).load[LONG]
        assert at.replicas >= 4 * load - 1e-6
        assert at.busy_ratio == pytest.approx(4 * load / at.replicas)
        assert at.predicted.ttft_s <= 2.0
        assert at.predicted.tpot_s <= 0.012
    path = tmp_path / "plan.yaml"
    path.write_text(plan_text(answer, "summaries"), encoding="utf-8")
    assert {a.pool for a in load_plan(path).allocations} == {"prefill", "decode"}


def test_it_is_explained_with_the_transfer_as_an_operation_of_its_own() -> None:
    here = case()
    prefill = next(b for b in explain(here, cost=cost_of(here, [Disaggregation()])) if b.phase == "prefill")
    send = next(line for line in prefill.lines if line.operation == "send")
    assert send.bound == "network"
    assert send.link_bytes == pytest.approx(1024 * KV_BYTES)


def test_a_plan_does_not_use_it_unasked() -> None:
    assert all(len(offer.pools) == 1 for offer in profiles(service(), inventory(H100))[0])


def test_prompts_cannot_ride_on_decode_steps_of_other_gpus() -> None:
    spec = summaries()
    recipe = Recipe("H100", techniques=("chunked-prefill", "disaggregation"))
    answer = profile(spec, recipe, H100, demand_of(spec), {})
    assert isinstance(answer, Refusal)
    assert "no decode steps for prompts to ride on" in answer.reason
    assert cost_of(case(), [Disaggregation(), ChunkedPrefill()]).pools == (("prefill",), ("decode",))


def test_a_recipe_of_two_pools_is_beaten_only_where_both_its_pools_are() -> None:
    spec = summaries()
    made = [
        profile(spec, Recipe("H100", tp=tp, techniques=("disaggregation",)), H100, demand_of(spec), {}) for tp in (1, 2)
    ]
    one, two = (answer for answer in made if isinstance(answer, Profile))
    worse = replace(one, pools=tuple(replace(p, load={b: 2 * x for b, x in p.load.items()}) for p in one.pools))
    half = replace(one, pools=(worse.pools[0], replace(one.pools[1], load={LONG: one.pools[1].load[LONG] / 4})))
    assert undominated([one, worse], watts=False)[0] == [one]
    assert undominated([one, half], watts=False)[0] == [one, half]
    assert two.pools[0].gpus_per_replica == 2


def test_the_network_of_the_slowest_node_group_is_shared_by_its_gpus() -> None:
    [group] = inventory(H100).node_groups
    groups = (replace(group, network_bytes_per_s=400e9), replace(group, name="b", network_bytes_per_s=200e9))
    assert gpu_of(Recipe("H100"), Inventory("two", groups)).network_bytes_per_s == 25e9
    assert gpu_of(Recipe("H100"), inventory(H100)) is H100


def test_objections_and_flags() -> None:
    assert Disaggregation().objection(case()) is None
    assert "neither a network nor PCIe" in str(Disaggregation().objection(case(gpu=replace(L4, pcie_bytes_per_s=None))))
    assert "NixlConnector" in Disaggregation().flags("vllm")["kv-transfer-config"]
    assert Disaggregation().flags("sglang") == {"disaggregation-transfer-backend": "nixl"}
    assert Disaggregation().pool_flags("sglang", "decode") == {"disaggregation-mode": "decode"}
    prefill = {"disaggregation-mode": "prefill", "disaggregation-bootstrap-port": "8998"}
    assert Disaggregation().pool_flags("sglang", "prefill") == prefill
    assert At("kv", "network") == SENT_KV
