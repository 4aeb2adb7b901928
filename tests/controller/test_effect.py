"""What a decision changes, as its event says it."""

from dataclasses import replace
from typing import Any

from controller.effect import effect, nearest, unmoved
from controller.plans import rows
from controller.trigger import Reason
from planner.plan import ClassLatency, Recipe
from planner.service import SLO
from tests.controller.manifests.factories import an_allocation

QUICK, LOOSE = SLO("interactive", ttft_s=0.5, tpot_s=0.05), SLO("batch", ttft_s=10.0)
SEEN = (ClassLatency("interactive", 0.499, 0.04, 9.0), ClassLatency("batch", 4.993, 0.0475, 99.0))


def a_plan() -> dict[str, Any]:
    """As a Plan object has it."""
    one = an_allocation(Recipe("L4"))
    predicted = replace(one.predicted, ttft_s=4.993, tpot_s=0.0475, e2e_s=99.0, by_class=SEEN)
    return {"usdPerHour": 1.6, "allocations": rows((replace(one, predicted=predicted),))}


def test_of_each_latency_the_class_nearest_its_limit_counts() -> None:
    assert nearest(SEEN, (LOOSE, QUICK), "ttft_s") == (QUICK, 0.499)
    assert nearest(SEEN, (LOOSE, QUICK), "e2e_s") is None


def test_what_is_expected_is_said_by_class_with_its_limit() -> None:
    words = effect(Reason("rate_step", "a surge"), {}, a_plan(), (LOOSE, QUICK))
    assert words.endswith("expected interactive TTFT 499 of 500 ms, interactive TPOT 40 of 50 ms")
    assert effect(Reason("rate_step", "a surge"), {}, a_plan()).endswith("expected TTFT 4,993 ms, TPOT 47.5 ms")


def test_a_plan_that_changes_no_count_says_what_it_changes() -> None:
    assert unmoved("fault", 10.0, 10.0) == "as many replicas as before, on other GPUs than the faulty ones"
    assert unmoved("rate_up", 10.0, 12.0) == "the same replicas, for 12 instead of 10 requests/s"
    assert unmoved("size_drift", 10.0, 10.0) == "the same replicas, for requests of other sizes"
    assert unmoved("prices_changed", 10.0, 10.0) == "the same replicas"
    same = effect(Reason("fault", "new faults: n1"), a_plan(), a_plan())
    assert same.startswith("new faults: n1: as many replicas as before, on other GPUs than the faulty ones;")


def test_a_plan_for_a_part_of_the_load_says_how_much_it_carries_and_one_that_is_none_says_nothing() -> None:
    none = {**a_plan(), "decisionId": "d-1", "infeasible": {"why": "no"}, "planned": {"ratePerSecond": 9.0}}
    assert effect(Reason("fault", "a fault"), {}, none) == ""
    part = {**none, "partPerSecond": 4.5}
    assert "; what fits carries 4.5 of 9 requests/s; " in effect(Reason("fault", "a fault"), {}, part)
    assert effect(Reason("fault", "a fault"), part, part) == ""
