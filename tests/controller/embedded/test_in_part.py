"""A service whose load does not fit as a whole any more serves the part that does, and says so."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from controller.demand import Fleet
from controller.embedded.world import World
from controller.kube.planning import Answer, Planner, Wanted
from controller.kube.waiting import try_again
from controller.laws import Laws
from controller.plan_child import PlanChild, PlanningFailed
from controller.trigger import Planned, Reason, Sample, Seen
from tests.controller.embedded.a_world import SERVICES, ready, run, status, submit, told
from tests.controller.running import a_body

Make = Callable[..., World]
TWO_TYPES = (
    {"name": "h100", "gpu": "H100-SXM", "gpusPerNode": 4, "nodes": 1, "zone": "a", "pricePerHour": "$2.60"},
    {"name": "l40s", "gpu": "L40S", "gpusPerNode": 4, "nodes": 1, "zone": "a", "pricePerHour": "$9"},
)


def row(world: World, name: str, kind: str) -> dict[str, Any]:
    (found,) = (one for one in status(world, name)["conditions"] if one["type"] == kind)
    return dict(found)


def plan(world: World, name: str) -> dict[str, Any]:
    (found,) = (one["spec"] for one in world.store.items("plans") if one["metadata"]["name"] == name)
    return dict(found)


def gpus(world: World, name: str) -> int:
    return sum(one["replicas"] * one.get("gpusPerReplica", 1) for one in plan(world, name)["allocations"])


def without_h100s(a_world: Make, *others: tuple[str, float]) -> World:
    """A service on H100s that have gone, among others that have some of the L40S."""
    world = a_world(None, *TWO_TYPES)
    for name, rate in others:
        submit(world, name, rate, constraints={"gpus": ["L40S"]})
    submit(world, "chat", 240.0)
    run(world, 900, lambda: all(ready(world, name) for name in ("chat", *dict(others))))
    assert {one["nodeGroup"] for one in plan(world, "chat")["allocations"]} == {"h100"}
    world.inject("h100-0", 0, "lost")
    run(world, 600, lambda: row(world, "chat", "Planned")["reason"] == "Infeasible")
    return world


def test_after_a_fault_a_service_gets_the_largest_part_that_the_others_leave(a_world: Make) -> None:
    world = without_h100s(a_world, ("other", 15.0))
    others = plan(world, "other")["allocations"]
    run(world, 300, lambda: row(world, "chat", "Applied")["status"] == "True")
    taken = gpus(world, "other")
    assert gpus(world, "chat") == 4 - taken
    assert plan(world, "other")["allocations"] == others
    part = plan(world, "chat")["partPerSecond"]
    assert 0 < part < 240.0
    words = f"what fits carries {part:.3g} of 240 requests/s"
    assert words in row(world, "chat", "Planned")["message"]
    assert any(words in note for note in told(world, "Replanned"))
    assert row(world, "chat", "Ready")["reason"] == "PartiallyServing"
    assert status(world, "chat")["why"].startswith(words)
    before = plan(world, "chat")
    run(world, 1800)  # its objective is missed all the time, and nothing is planned for that
    assert plan(world, "chat") == before
    world.api.request("DELETE", f"{SERVICES}/other")
    run(world, 900, lambda: gpus(world, "chat") == 4)
    assert plan(world, "chat")["partPerSecond"] > part
    world.inject("h100-0", 0, "clear")
    run(world, 1800, lambda: ready(world, "chat"))
    assert "partPerSecond" not in plan(world, "chat")
    assert row(world, "chat", "Planned")["reason"] == "Solved"


def test_what_stays_on_well_nodes_is_not_given_up_for_a_part_that_is_no_more(a_world: Make) -> None:
    world = a_world(None, TWO_TYPES[0], {**TWO_TYPES[0], "name": "more"})
    submit(world, "chat", 520.0)
    run(world, 900, lambda: ready(world, "chat"))
    before = plan(world, "chat")["allocations"]
    assert gpus(world, "chat") == 8
    world.inject("h100-0", 0, "lost")
    run(world, 600, lambda: row(world, "chat", "Planned")["reason"] == "Infeasible")
    after = plan(world, "chat")
    assert after["allocations"] == before
    assert "partPerSecond" not in after
    assert "the plan before stays in force" in row(world, "chat", "Planned")["message"]
    assert row(world, "chat", "Ready")["reason"] == "PartiallyServing"


def test_what_did_not_fit_is_tried_again_for_new_hardware_at_once_and_for_what_others_leave_once_in_a_while() -> None:
    laws = Laws()
    before = Planned(10.0, 1000.0, 1, "a.b.c", "p")
    missed = tuple(Sample(1000.0 + 15 * i, 20.0, False) for i in range(1, 100))
    seen = Seen(1, "a.b", "p", missed)
    assert try_again(before, seen, lambda: "c", 2400.0, laws).reason is None  # more does not fit either
    assert try_again(before, seen, lambda: "d", 1001.0, laws).reason is None
    for reason in (
        try_again(before, seen, lambda: "d", 1000.0 + laws.cool_down_s, laws).reason,
        try_again(before, Seen(1, "a.other", "p"), lambda: "c", 1001.0, laws).reason,
    ):
        assert reason is not None
        assert reason.cause == "nodes_changed"


def test_misses_and_a_load_that_rises_hide_no_budget_and_are_planned_for_with_the_next_reason() -> None:
    laws = Laws()
    before = Planned(10.0, 1000.0, 1, "a.b.c", "p", power="p1")
    missed = tuple(Sample(1000.0 + 15 * i, 20.0, False) for i in range(1, 100))
    lower = try_again(before, Seen(1, "a.b", "p", missed, power="p2"), lambda: "c", 2400.0, laws).reason
    assert lower is not None
    assert lower.cause == "power_changed"
    node = try_again(before, Seen(1, "a.other", "p", missed, power="p1"), lambda: "c", 2400.0, laws).reason
    assert node is not None
    assert node.cause == "nodes_changed"
    assert node.rate_per_s is not None
    assert node.rate_per_s > 15.0


def test_a_part_of_which_no_answer_comes_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    service = a_body("low", 240.0)
    refused = Answer(Wanted("default/low", service, Reason("spec_changed", ""), None, 240.0, None, 0, frozenset()), "d")
    asked: list[float | None] = []

    def fails(_: Planner, batch: Sequence[Wanted], *__: object) -> list[Answer]:
        asked.extend(one.rate_per_s for one in batch)
        raise PlanningFailed("no answer within 300 s")

    monkeypatch.setattr(Planner, "_decide", fails)
    fleet = Fleet((), (), (), (), (), {}, lambda _: None)
    planner = Planner(PlanChild(), lambda: fleet, lambda *_: None)
    assert planner._part(refused, fleet, (), 0.5) is None
    assert asked == [120.0]
