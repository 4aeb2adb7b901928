"""What one replica carries, or why it is refused: by hand, and for any sizes and objectives."""

import json
import math
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.base import kv_bytes_per_token
from planner.batching import Operating, Replica, operate, steady
from planner.calibration import ENGINES, HBM_RATIO, LOAD_BYTES_PER_S, MAX_UTILISATION_RATIO
from planner.hardware import GPUType
from planner.model import Model
from planner.plan import Allocation, Plan, Profile, Recipe, Refusal
from planner.power import capped
from planner.profile import BATCHES, WHOLE_PROMPT_TOKENS, demand_of, profile, profiles
from planner.refusals import telling
from planner.service import SLO, Bucket, ServiceSpec
from planner.spec.plan_file import load_plan, plan_text
from planner.technique import cost_of
from planner.view import plan_json
from tests.pace import pace
from tests.planner.factories import gpu
from tests.planner.perf_factories import (
    A100,
    BULK,
    CHAT,
    DEEPSEEK,
    GPUS,
    H100,
    L4,
    LLAMA_8B,
    LLAMA_70B,
    MODELS,
    SIZES,
    case,
    grid,
    inventory,
    service,
)

ONE = Bucket("chat", 1024, 128)


def made(spec: ServiceSpec, on: GPUType = H100, **degrees: object) -> Profile | Refusal:
    """One recipe of a service."""
    return profile(spec, Recipe(on.name, **degrees), on, demand_of(spec), {})  # type: ignore[arg-type]  # by field name


def good(spec: ServiceSpec, on: GPUType = H100, **degrees: object) -> Profile:
    answer = made(spec, on, **degrees)
    assert isinstance(answer, Profile), answer
    return answer


def refused(spec: ServiceSpec, on: GPUType = H100, **degrees: object) -> str:
    answer = made(spec, on, **degrees)
    assert isinstance(answer, Refusal), answer
    return answer.reason


def best_by_hand(spec: ServiceSpec, on: GPUType) -> Operating:
    """The chosen point of the only bucket of a service, from the parts that `planner.batching` tests."""
    demand = demand_of(spec)
    prompts = np.clip(BATCHES / demand.sizes.output_tokens, 1.0, WHOLE_PROMPT_TOKENS / demand.sizes.input_tokens)
    sizes = (demand.sizes.input_tokens, demand.sizes.output_tokens)
    here = case(spec.model, on, BATCHES, *sizes, prompts=prompts)
    cost = cost_of(here, [])
    fits = np.asarray(sum(cost.resident(("prefill", "decode")).values())) <= HBM_RATIO * on.hbm_bytes
    run = steady(cost, Replica(on, ENGINES["vllm"], demand.sizes, BATCHES, 1))
    return operate(run, demand.sizes, BATCHES, 1, fits, demand.limits, demand.loads)


def test_load_is_replicas_for_one_request_a_second() -> None:
    spec = service(rates_per_s={ONE: 5.0})
    point, one = best_by_hand(spec, H100), good(spec)
    assert one.pools[0].load == {ONE: pytest.approx(1 / point.requests_per_s[0])}
    assert one.recipe.max_batch == point.batch[0]
    assert one.pools[0].prediction.ttft_s == point.ttft_s[0]


def test_an_h100_carries_llama_8b_in_the_tens_of_requests_a_second() -> None:
    # A batch of some 256: prefill 2 x 7.5e9 x 1024 flops at 791e12 are 19 ms, decode 128 x 27 ms / 256 = 14 ms.
    assert 15 < 1 / good(service(rates_per_s={ONE: 5.0})).pools[0].load[ONE] < 35


def test_the_mean_sizes_of_a_bucket_carry_the_load_and_its_edge_bounds_the_prompt() -> None:
    edge, mean = service(rates_per_s={ONE: 5.0}), service(rates_per_s={ONE: 5.0}, means={ONE: (600.0, 60.0)})
    small = service(rates_per_s={Bucket("chat", 600, 60): 5.0})
    loads = [next(iter(good(spec).pools[0].load.values())) for spec in (edge, mean, small)]
    assert loads[0] > loads[1] >= loads[2]


def test_kv_cache_of_the_largest_batch_fits_beside_the_weights() -> None:
    for model, on, tp in ((LLAMA_8B, L4, 1), (LLAMA_70B, H100, 4), (LLAMA_70B, A100, 8)):
        expected = good(service(model, {Bucket("bulk", 4096, 512): 1.0}), on, tp=tp).pools[0].prediction
        assert expected.weights_bytes + expected.kv_cache_bytes < HBM_RATIO * on.hbm_bytes * tp
        each = kv_bytes_per_token(case(model, tp=tp)) * tp * (4096 + 512)
        sequences = expected.kv_cache_bytes / each
        assert sequences == pytest.approx(round(sequences))
        assert expected.cold_start_s == pytest.approx(60 + expected.weights_bytes / LOAD_BYTES_PER_S)


def test_weights_that_do_not_fit_are_refused_in_words() -> None:
    # 70.6 B parameters, of which all are 2 bytes; 0.9 of 24 GB.
    assert refused(service(LLAMA_70B), L4) == "llama-70b needs 141.1 GB of weights, 1xL4 holds 21.6 GB"
    assert refused(service(DEEPSEEK), H100, tp=8, ep=8).endswith("GB of weights, 8xH100 holds 576.0 GB")


def test_weights_that_leave_no_room_for_a_request_are_refused_in_words() -> None:
    long = service(rates_per_s={Bucket("bulk", 100_000, 1000): 1.0})
    words = "16.1 GB of weights leave no room for 28.0 GB of KV cache, activations and workspace: 1xL4 holds 21.6 GB"
    assert refused(long, L4) == words


def test_a_prompt_that_takes_too_long_is_refused_with_the_best_that_there_is() -> None:
    # GEMMs: 2 x 7.0e9 x 8192 flops at 121e12 x 0.64 are 1.48 s; attention: 32 x 4 x 4096 x 8192 x 4096 flops at
    # 121e12 x 0.43 are 0.34 s; norms: 64 x 4 x 4096 x 8192 x 2 bytes at 300e9 x 0.85 are 0.07 s; a decoding step in
    # progress 0.06 s. The median request waits for nothing else.
    half = SLO("chat", ttft_s=1.0, percentile=0.5)
    reason = refused(service(rates_per_s={Bucket("chat", 8192, 128): 1.0}, slos=(half,)), L4)
    assert reason.startswith("TTFT is ")
    assert reason.endswith(" s at best (8192 in, 128 out), the objective is 1 s")
    assert float(reason.split()[2]) == pytest.approx(1.48 + 0.34 + 0.07 + 0.06, rel=0.01)


def test_a_token_that_takes_too_long_is_refused_with_the_best_that_there_is() -> None:
    # 15 GB of weights at 300 GB/s x 0.85 are 59 ms.
    reason = refused(service(rates_per_s={Bucket("chat", 128, 128): 1.0}), L4)
    assert reason.startswith("TPOT is 0.06")
    assert reason.endswith("(128 in, 128 out), the objective is 0.05 s")


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    slo = SLO("chat", ttft_s=1.0, tpot_s=0.001)
    one, two = (service(rates_per_s={Bucket("chat", 512, n): 1.0}, slos=(slo,)) for n in (1, 2))
    assert set(good(one).pools[0].load) == {Bucket("chat", 512, 1)}
    assert refused(two).startswith("TPOT is ")


def test_limits_that_conflict_only_together_say_so() -> None:
    slo = SLO("chat", tpot_s=0.05, e2e_s=0.93)  # 128 tokens: each limit alone can be met
    answer = made(service(rates_per_s={Bucket("chat", 1024, 128): 1.0}, slos=(slo,)))
    assert isinstance(answer, Refusal)
    assert answer.reason.startswith("end-to-end time is")


def test_an_objection_and_a_missing_figure_are_refusals_in_words() -> None:
    assert refused(service(), A100, techniques=("fp8",)) == "A100 has no fp8 peak in the catalogue"
    words = "G1 has no 16-bit peak in the catalogue (has: fp32)"
    assert refused(service(), gpu(flops_per_s={"fp32": 1e13})) == words
    assert refused(service(), replace(L4, pcie_bytes_per_s=None), tp=2) == "L4 has no pcie bandwidth in the catalogue"


def test_only_the_sizes_that_meet_their_objective_are_carried() -> None:
    strict, loose = Bucket("chat", 8192, 128), Bucket("bulk", 8192, 128)
    one = good(service(rates_per_s={strict: 1.0, loose: 1.0}), L4)
    assert set(one.pools[0].load) == {loose}
    assert [row.slo_class for row in one.pools[0].prediction.by_class] == ["bulk"]


def test_latency_is_told_apart_by_class_and_each_keeps_its_own_objective() -> None:
    expected = good(service(rates_per_s=dict.fromkeys(grid(), 0.2))).pools[0].prediction
    limits = {"chat": CHAT, "bulk": BULK}
    assert [row.slo_class for row in expected.by_class] == ["chat", "bulk"]
    for row in expected.by_class:
        limit = limits[row.slo_class]
        assert row.ttft_s <= (limit.ttft_s or 0)
        assert row.tpot_s <= (limit.tpot_s or 0)
    assert expected.ttft_s == max(row.ttft_s for row in expected.by_class) > (CHAT.ttft_s or 0)


def test_latency_by_class_survives_the_file_and_is_in_the_json(tmp_path: Path) -> None:
    one = good(service(rates_per_s=dict.fromkeys(grid(), 0.2)))
    expected = one.pools[0].prediction
    shares = {bucket: 1.0 for bucket in one.pools[0].load}
    row = Allocation("chat", "llama-8b", "serve", "a", "z", one.recipe, 1, 1, 1.0, 300.0, expected, shares)
    plan = Plan("optimal", 1.0, 1.0, 0.0, 300.0, 0.1, (row,))
    (tmp_path / "plan.yaml").write_text(plan_text(plan, "p"), "utf-8")
    assert load_plan(tmp_path / "plan.yaml").allocations[0].predicted == expected
    shown = json.dumps(plan_json(plan))
    assert shown.count('{"slo_class": ') == 2
    assert f'{{"slo_class": "chat", "ttft_s": {expected.by_class[0].ttft_s!r}, ' in shown


def test_a_batch_job_has_no_objective_and_runs_at_full_load() -> None:
    slow = service(rates_per_s={Bucket("chat", 8192, 128): 1.0})
    assert isinstance(made(slow, L4), Refusal)
    job = good(replace(slow, deployment="batch"), L4).pools[0]
    assert job.prediction.utilisation_ratio == 1.0
    online = good(service(rates_per_s={Bucket("bulk", 8192, 128): 1.0}), L4).pools[0]
    assert job.load[Bucket("chat", 8192, 128)] < online.load[Bucket("bulk", 8192, 128)]
    assert online.prediction.utilisation_ratio <= MAX_UTILISATION_RATIO


def test_fp8_carries_more_and_w4a16_fits_where_16_bits_do_not() -> None:
    plain, narrow = (good(service(), techniques=names).pools[0].load for names in ((), ("fp8",)))
    assert all(narrow[bucket] < plain[bucket] for bucket in SIZES)
    small = service(LLAMA_70B, {Bucket("bulk", 512, 128): 1.0})
    assert isinstance(made(small, H100), Refusal)
    good(small, H100, techniques=("w4a16",))


def test_a_cap_saves_watts_and_carries_no_more() -> None:
    spec = service(rates_per_s={ONE: 5.0})
    free, held = good(spec).pools[0], good(spec, capped(H100, 350.0)).pools[0]
    assert held.power_w <= 350.0 < free.power_w
    assert held.load[ONE] > free.load[ONE]


def test_a_gpu_whose_engines_nobody_measured_is_marked_as_extrapolated() -> None:
    assert good(service(), replace(H100, name="H100-SXM")).source == "modelled"
    assert good(service(), replace(H100, name="H100-SXM5-96GB")).source == "extrapolated"


def test_a_service_without_traffic_has_no_profiles() -> None:
    assert profiles(service(rates_per_s={}), inventory(*GPUS)) == ([], [])


def test_every_type_is_either_offered_or_refused_with_a_telling_reason() -> None:
    fast = SLO("chat", ttft_s=0.5, tpot_s=0.04)
    offered, why = profiles(service(LLAMA_70B, slos=(fast,)), inventory(*GPUS))
    assert {one.recipe.gpu for one in offered} == {"H100", "A100"}
    told = telling(why, "L4")
    assert told is not None
    assert told.startswith("8xL4 tp8")  # whose weights fit, and which is too slow
    assert " the objective is " in told or "no batch meets" in told


def test_a_running_recipe_is_offered_although_another_is_better() -> None:
    fewer = {str(one.recipe) for one in profiles(service(), inventory(H100))[0]}
    dropped = next(r.recipe for r in profiles(service(), inventory(H100))[1] if "does as much" in r.reason)
    assert dropped not in fewer
    assert dropped in {str(one.recipe) for one in profiles(service(), inventory(H100), [dropped])[0]}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("on", GPUS, ids=lambda on: on.name)
@pytest.mark.parametrize("names", [(), ("chunked-prefill",)], ids=["whole", "chunked"])
def test_more_tokens_never_take_fewer_replicas(model: Model, on: GPUType, names: tuple[str, ...]) -> None:
    inputs, outputs = (1, 100, 1000, 3000, 10_000, 30_000), (1, 2, 30, 300, 3000)
    spec = service(model, {Bucket("bulk", i, o): 1.0 for i, o in product(inputs, outputs)})
    for tp, deployment in product((1, 8), ("online", "batch")):
        answer = made(replace(spec, deployment=deployment), on, tp=tp, techniques=names)  # type: ignore[arg-type]
        if isinstance(answer, Refusal):
            continue
        load = answer.pools[0].load
        table = np.array([[load.get(Bucket("bulk", i, o), math.inf) for o in outputs] for i in inputs])
        assert (table[1:] >= table[:-1] * (1 - 1e-9)).all()
        if deployment == "batch":  # online, a longer answer spreads the prefills that delay it over more tokens
            assert (table[:, 1:] >= table[:, :-1] * (1 - 1e-9)).all()


SECONDS = st.none() | st.floats(1e-3, 100)
ANY_SLO = st.builds(SLO, st.just("chat"), SECONDS, SECONDS, SECONDS, st.sampled_from([0.5, 0.9, 0.99, 1.0]))
ANY_BUCKET = st.builds(Bucket, st.just("chat"), st.integers(0, 200_000), st.integers(0, 20_000))


@settings(max_examples=60)
@given(
    slo=ANY_SLO,
    rates=st.dictionaries(ANY_BUCKET, st.floats(0, 1e4), min_size=1, max_size=4),
    model=st.sampled_from(MODELS),
    on=st.sampled_from(GPUS),
    tp=st.sampled_from([1, 2, 8]),
    names=st.sampled_from([(), ("fp8",), ("chunked-prefill", "w4a16"), ("chunked-prefill",)]),
)
def test_any_sizes_and_objectives_give_sound_figures_or_words(
    slo: SLO, rates: dict[Bucket, float], model: Model, on: GPUType, tp: int, names: tuple[str, ...]
) -> None:
    answer = made(service(model, rates, (slo,)), on, tp=tp, techniques=names)
    if isinstance(answer, Refusal):
        assert answer.reason
        assert "nan" not in answer.reason
        assert "inf" not in answer.reason
        return
    pool, expected = answer.pools[0], answer.pools[0].prediction
    figures = [*pool.load.values(), expected.ttft_s, expected.e2e_s, expected.tokens_per_s, pool.power_w]
    assert all(0 < figure < math.inf for figure in figures)
    assert 0 <= expected.tpot_s < math.inf
    assert pool.power_w <= on.tdp_w * tp * (1 + 1e-9)
    for value, limit in ((expected.ttft_s, slo.ttft_s), (expected.tpot_s, slo.tpot_s), (expected.e2e_s, slo.e2e_s)):
        assert limit is None or value <= limit * (1 + 1e-9)


def test_profiling_60_sizes_on_6_gpu_types_takes_at_most_600_ms_of_cpu() -> None:
    types = [replace(one, name=f"{one.name}{i}") for one in GPUS for i in (1, 2)]
    spec = service(rates_per_s=dict.fromkeys(grid(), 0.2))

    def spent_s() -> float:
        began_s = time.process_time()
        profiles(spec, inventory(*types))
        return time.process_time() - began_s

    assert min(spent_s() for _ in range(3)) <= 0.6 * pace()
