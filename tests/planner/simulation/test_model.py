"""The pace of replicas is what the planner computes with, for every way to run one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.anchor import key_of
from planner.batching import Factors, Replica, steady
from planner.calibration import ENGINES
from planner.plan import Allocation, Recipe
from planner.profile import BATCHES, anchored, case_of, demand_of
from planner.recipes import gpu_of
from planner.simulation.fleet import Fleet
from planner.simulation.model import pace_of
from planner.simulation.pace import Pace
from planner.spec.load import load_inventory, load_services
from planner.technique import cost_of, sharded
from planner.techniques import techniques
from tests.planner.factories import prediction

EXAMPLES = Path("deploy/examples")
WAYS = [
    Recipe("H100-SXM", max_batch=128),
    Recipe("H100-SXM", max_batch=64, techniques=("chunked-prefill", "fp8")),
    Recipe("A100-SXM-80GB", tp=2, max_batch=64, techniques=("w4a16",)),
    Recipe("L40S", pp=2, max_batch=32),
    Recipe("H100-SXM", tp=4, max_batch=64, techniques=("chunked-prefill",)),
    Recipe("H100-SXM", max_batch=64, power_cap_w=350.0),
]


def an_allocation(recipe: Recipe, pool: str = "serve") -> Allocation:
    return Allocation("chat", "m", pool, "h100-owned", "a", recipe, 1, recipe.gpus, 1.0, 500.0, prediction(), {})


@pytest.mark.parametrize("recipe", WAYS, ids=str)
def test_steps_and_prompts_take_what_the_planner_says(recipe: Recipe) -> None:
    [service] = load_services(EXAMPLES / "chat.yaml")
    hardware = load_inventory(EXAMPLES / "cluster.yaml")
    pace = pace_of(service, an_allocation(recipe), hardware)
    if isinstance(pace, str):
        pytest.skip(pace)
    sizes = demand_of(service).sizes
    gpu = gpu_of(recipe, hardware)
    case = case_of(service, recipe, gpu, sizes)
    cost = cost_of(case, [techniques()[name]() for name in recipe.techniques], sharded(case))
    anchor = anchored(service, [recipe], hardware).get(key_of(recipe))
    factors = Factors() if anchor is None else Factors(anchor.decode[None, :], anchor.prefill, anchor.first_s)
    run = steady(cost, Replica(gpu, ENGINES[service.engine], sizes, BATCHES, recipe.pp, factors))
    column = int(np.flatnonzero(BATCHES[0] == 32)[0])
    row = int(np.abs(sizes.input_tokens[:, 0] - 900).argmin())
    inputs, outputs = float(sizes.input_tokens[row, 0]), float(sizes.output_tokens[row, 0])
    flying = 32 * recipe.pp
    step_s = pace.decode_s[flying] + pace.context_s[flying] * flying * (inputs + outputs / 2)
    assert step_s == pytest.approx(float(run.decode_s[row, column]), rel=0.02)
    together = float(np.asarray(case.prompts)[row, column])
    prompt_s = (pace.prompts_s(together * inputs) / together + pace.prompt_until_s(inputs)) * recipe.pp
    assert prompt_s == pytest.approx(float(run.prefill_s[row, column]), rel=0.05)


def test_what_cannot_be_simulated_says_why() -> None:
    [service] = load_services(EXAMPLES / "chat.yaml")
    hardware = load_inventory(EXAMPLES / "cluster.yaml")
    beside = pace_of(service, an_allocation(Recipe("H100-SXM", techniques=("intra-gpu-split",))), hardware)
    assert isinstance(beside, str)
    assert "not simulated" in beside


def test_a_cap_slows_prompts_and_draws_less() -> None:
    [service] = load_services(EXAMPLES / "chat.yaml")
    hardware = load_inventory(EXAMPLES / "cluster.yaml")
    free, capped = (
        pace_of(service, an_allocation(replace(WAYS[0], power_cap_w=cap)), hardware) for cap in (None, 350.0)
    )
    assert isinstance(free, Pace)
    assert isinstance(capped, Pace)
    assert capped.prompts_s(2000) > free.prompts_s(2000)
    assert capped.prompt_w <= 350 < free.prompt_w


def test_pools_of_phases_serve_a_request_one_after_the_other() -> None:
    [service] = load_services(EXAMPLES / "chat.yaml")
    hardware = load_inventory(EXAMPLES / "cluster.yaml")
    recipe = Recipe("H100-SXM", max_batch=64, techniques=("disaggregation",))
    fleet = Fleet()
    for pool in ("prefill", "decode"):
        pace = pace_of(service, an_allocation(recipe, pool), hardware)
        assert isinstance(pace, Pace)
        fleet.add(pool, pool, "chat", pool, pace)
    fleet.submit("chat", np.zeros(1), np.full(1, 900), np.full(1, 50), np.zeros(1, dtype=np.int64))
    found = fleet.advance(100.0)["chat"]
    assert len(found) == 1
    assert 0 < found.ttft_s[0] < found.e2e_s[0] < 5
