"""A dropped recipe is one that no plan needs: by hand, and by planning with and without it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.decide import decide
from planner.dominance import undominated
from planner.hardware import Inventory, PowerDomain
from planner.options import Objective
from planner.plan import Plan, Profile
from planner.search import Search
from planner.service import Bucket
from tests.planner.factories import LARGE, SMALL, group, inventory, profile, service


def made(
    load: Mapping[Bucket, float] | None = None, gpus: int = 1, power_w: float = 300.0, name: str = "", gpu: str = "G1"
) -> Profile:
    return profile(gpu_name=gpu, load=load, gpus=gpus, power_w=power_w, techniques=(name,) if name else ())


def capped(one: Profile, cap_w: float) -> Profile:
    return replace(one, recipe=replace(one.recipe, power_cap_w=cap_w))


FAST, SLOW = {SMALL: 0.1, LARGE: 0.5}, {SMALL: 0.2, LARGE: 0.5}


def test_a_recipe_that_is_slower_in_one_size_and_faster_in_none_is_dropped() -> None:
    slow, fast = made(SLOW, name="a"), made(FAST, name="b")
    kept, refused = undominated([slow, fast])
    assert kept == [fast]
    assert [(r.recipe, r.reason) for r in refused] == [("G1 a", "G1 b does as much with no more GPUs or energy")]


def test_a_recipe_that_alone_carries_some_size_remains() -> None:
    only_small, both = made({SMALL: 0.05}, name="a"), made(FAST, name="b")
    assert undominated([only_small, both])[0] == [only_small, both]


def test_two_single_gpus_beat_a_pair_that_is_less_than_twice_as_fast() -> None:
    single = made(FAST, power_w=300.0)
    for speed, remains in ((1.9, [single]), (2.1, [single, made({b: x / 2.1 for b, x in FAST.items()}, 2, 600.0)])):
        pair = made({b: x / speed for b, x in FAST.items()}, gpus=2, power_w=600.0)
        assert undominated([single, pair])[0] == remains


def test_where_replicas_are_limited_two_singles_do_not_replace_a_pair() -> None:
    single, pair = made(FAST), made({b: x / 1.5 for b, x in FAST.items()}, gpus=2, power_w=600.0)
    assert undominated([single, pair], copies=False)[0] == [single, pair]


def test_a_faster_recipe_that_draws_more_replaces_another_only_where_watts_do_not_count() -> None:
    frugal, hungry = made(SLOW, power_w=200.0, name="a"), made(FAST, power_w=300.0, name="b")
    assert undominated([frugal, hungry])[0] == [frugal, hungry]
    assert undominated([frugal, hungry], watts=False)[0] == [hungry]


def test_of_equals_the_first_remains() -> None:
    one, two = made(FAST, name="a"), made(FAST, name="b")
    assert undominated([one, two])[0] == [one]


def test_a_capped_recipe_beats_none_without_a_cap() -> None:
    free, cheap = made(FAST, power_w=300.0), capped(made(FAST, power_w=250.0), 250.0)
    assert undominated([cheap, free])[0] == [cheap, free]
    worse = capped(made(SLOW, power_w=260.0), 260.0)
    assert undominated([cheap, worse, free])[0] == [cheap, free]


def test_another_gpu_type_does_not_count() -> None:
    slow, fast = made(SLOW, gpu="G1"), made(FAST, gpu="G2")
    assert undominated([slow, fast])[0] == [slow, fast]


def test_a_running_recipe_remains() -> None:
    slow, fast = made(SLOW, name="a"), made(FAST, name="b")
    assert undominated([slow, fast], running=["G1 a"])[0] == [slow, fast]


def test_the_named_winner_is_one_that_remains() -> None:
    loads = [{SMALL: x} for x in (0.3, 0.2, 0.1)]
    _, refused = undominated([made(load, name=n) for load, n in zip(loads, "abc", strict=True)])
    assert {r.reason.split(" does")[0] for r in refused} == {"G1 c"}


def test_nothing_to_compare_is_nothing_to_drop() -> None:
    assert undominated([]) == ([], [])


LOADS = st.fixed_dictionaries({}, optional={b: st.sampled_from([0.05, 0.1, 0.15, 0.3, 0.7]) for b in (SMALL, LARGE)})
RECIPE = st.tuples(LOADS, st.sampled_from([1, 2, 4]), st.sampled_from([100.0, 150.0, 300.0]), st.booleans())


def planned(profiles: list[Profile], hardware: Inventory) -> Plan:
    return decide([service()], profiles, hardware, Objective(), {}, Search())


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.tuples(RECIPE, st.sampled_from(["G1", "G2"])), min_size=1, max_size=7),
    budget_w=st.none() | st.sampled_from([300.0, 900.0, 2000.0]),
    idle_w=st.sampled_from([0.0, 5.0, 50.0]),
)
def test_the_optimum_is_the_same_with_and_without_the_dropped(
    rows: list[tuple[tuple[dict[Bucket, float], int, float, bool], str]], budget_w: float | None, idle_w: float
) -> None:
    profiles = []
    for i, ((load, gpus, watts_each, cap), gpu) in enumerate(rows):
        one = made(load or {SMALL: 0.1}, gpus, watts_each * gpus, f"t{i}", gpu)
        profiles.append(capped(one, watts_each) if cap and gpu == "G1" and budget_w is not None else one)
    hall = "hall" if budget_w else None
    hot = group("a", "G1", usd=2.0, domain=hall, gpus_per_node=4, nodes=2, idle_w=idle_w)
    groups = hot, group("b", "G2", usd=1.0), group("c", "G1", usd=3.0, idle_w=idle_w)
    domains = (PowerDomain("hall", budget_w),) if budget_w else ()
    hardware = inventory(*groups, domains=domains)
    kept, _ = undominated(profiles, watts=budget_w is not None, rest_w=idle_w)
    every, fewer = planned(profiles, hardware), planned(kept, hardware)
    assert fewer.status == every.status
    if every.usd_per_hour is not None:
        assert fewer.usd_per_hour == pytest.approx(every.usd_per_hour)
