"""Among plans of the same cost: no power cap that nothing asks for."""

from dataclasses import replace

import pytest

from planner.decide import decide
from planner.hardware import PowerDomain
from planner.options import Objective
from planner.plan import Plan, Profile
from planner.search import Search
from tests.planner.factories import LARGE, SMALL, group, inventory, profile, service

FULL = profile(power_w=300.0)  # 8 x 0.1 + 2 x 0.5 = 1.8 replicas
LOW = profile(load={SMALL: 0.105, LARGE: 0.52}, power_w=200.0)  # 1.88
CAPPED = replace(LOW, recipe=replace(LOW.recipe, power_cap_w=200.0))


def planned(profiles: list[Profile], budget_w: float, usd_per_joule: float = 0.0) -> Plan:
    hardware = inventory(group("a", domain="rack"), domains=(PowerDomain("rack", budget_w),))
    objective = Objective(usd_per_joule=usd_per_joule, energy_everywhere=True)
    return decide([service()], profiles, hardware, objective, {}, Search())


def caps(plan: Plan) -> list[float | None]:
    return [one.recipe.power_cap_w for one in plan.allocations for _ in range(one.replicas)]


@pytest.mark.parametrize("profiles", [[CAPPED, FULL], [FULL, CAPPED]])
def test_nothing_is_capped_where_watts_are_plentiful(profiles: list[Profile]) -> None:
    plan = planned(profiles, budget_w=10_000.0)
    assert plan.status == "optimal"
    assert plan.usd_per_hour == pytest.approx(2.0)
    assert caps(plan) == [None, None]


def test_as_many_are_capped_as_the_budget_asks() -> None:
    assert sorted(caps(planned([CAPPED, FULL], budget_w=450.0)), key=str) == [200.0, 200.0]
    assert sorted(caps(planned([CAPPED, FULL], budget_w=520.0)), key=str) == [200.0, None]


def test_a_cap_that_saves_money_stays() -> None:
    assert caps(planned([CAPPED, FULL], budget_w=10_000.0, usd_per_joule=1e-7)) == [200.0, 200.0]
