"""A service that nobody calls: its recipes are profiled all the same, and a plan keeps what minReplicas says."""

from dataclasses import replace
from pathlib import Path

import pytest

from planner.plan import Plan, Profile
from planner.planning import plan
from planner.profile import MOST_KNOWN_ROWS, Known, demand_of, profile, profiles
from planner.recipes import recipes
from planner.service import Bucket, Constraints, ServiceSpec, Workload
from planner.spec.plan_file import load_plan, plan_text
from tests.planner.perf_factories import H100, L4, SIZES, inventory, service

FLEET = inventory(H100, L4)


def idle(least: int = 0) -> ServiceSpec:
    """A service of two request sizes, of which none comes."""
    workload = Workload(dict.fromkeys(SIZES, 0.0))
    return replace(service(), workload=workload, constraints=Constraints(min_replicas=least))


def busy() -> ServiceSpec:
    return replace(idle(), workload=Workload(dict.fromkeys(SIZES, 1.0)))


def best(spec: ServiceSpec) -> dict[str, Profile]:
    """Recipe as shown -> profile."""
    return {str(made.recipe): made for made in profiles(spec, FLEET)[0]}


def planned(spec: ServiceSpec) -> Plan:
    return plan([spec], FLEET, compare=False)


def test_what_a_replica_can_carry_does_not_depend_on_what_comes() -> None:
    waiting, serving = best(idle()), best(busy())
    assert waiting.keys() == serving.keys()
    for name, made in waiting.items():
        assert made.pools[0].load == serving[name].pools[0].load
        assert made.pools[0].prediction.cold_start_s == serving[name].pools[0].prediction.cold_start_s > 0
    assert any(set(made.pools[0].load) == set(SIZES) for made in waiting.values())


def test_an_idle_service_has_no_replicas_and_its_first_request_waits_for_the_quickest_start() -> None:
    answer = planned(idle())
    assert (answer.status, answer.allocations, answer.usd_per_hour) == ("optimal", (), 0.0)
    assert answer.idle_cold_start_s == {
        "chat": min(made.pools[0].prediction.cold_start_s for made in best(idle()).values())
    }


@pytest.mark.parametrize("least", [1, 2])
def test_an_idle_service_keeps_warm_what_it_asks_for(least: int) -> None:
    answer = planned(idle(least))
    assert answer.status == "optimal"
    assert sum(allocation.replicas for allocation in answer.allocations) == least
    able = best(idle())
    assert all(set(able[str(a.recipe)].pools[0].load) == set(SIZES) for a in answer.allocations)
    assert answer.idle_cold_start_s == {}


def test_a_plan_without_replicas_is_read_back(tmp_path: Path) -> None:
    answer = planned(idle())
    (tmp_path / "plan.yaml").write_text(plan_text(answer, "idle"), "utf-8")
    assert load_plan(tmp_path / "plan.yaml") == answer


def test_costs_that_are_kept_between_recipes_are_bounded() -> None:
    sizes = [Bucket("chat", 16 + n, 64) for n in range(12_000)]
    spec = replace(service(), workload=Workload(dict.fromkeys(sizes, 1e-4)))
    demand, known = demand_of(spec), Known()
    for recipe in [recipe for recipe in recipes(spec, inventory(L4))[0] if not recipe.techniques]:
        profile(spec, recipe, L4, demand, known)
        assert len(known) * len(sizes) <= MOST_KNOWN_ROWS
    assert known
