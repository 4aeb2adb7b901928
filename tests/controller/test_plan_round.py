"""A service whose planning fails is set aside and told; the others are planned meanwhile."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import orjson
import pytest

from controller.embedded.world import World
from controller.kube.aside import Aside
from controller.kube.plan_round import urgency
from controller.kube.planning import Wanted
from controller.kube.rest import MERGE
from controller.plan_child import PlanChild, PlanningFailed, answer
from controller.trigger import Cause, Reason
from tests.controller.embedded.a_world import SERVICES, a_world, ready, run, status, submit


class Failing(PlanChild):
    """Fails for every snapshot in which a service called `bad` is planned."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.asked, self.off = error, 0, False

    def decide(self, snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.off and b'"name":"bad"' in orjson.dumps(snapshot):
            self.asked += 1
            raise self.error
        return super().decide(snapshot)


@pytest.fixture
def world() -> Iterator[World]:
    """An embedded cluster."""
    made = a_world()
    yield made
    made.close()


def failing(world: World, error: Exception) -> Failing:
    made = Failing(error)
    world.loop._planning._planner.child = made
    return made


def planned(world: World, name: str) -> tuple[str, str]:
    (row,) = [row for row in status(world, name).get("conditions") or () if row["type"] == "Planned"]
    return row["reason"], row["message"]


@pytest.mark.parametrize("error", [PlanningFailed("no answer within 300 s"), ValueError("secret details")])
def test_one_that_always_fails_keeps_no_other_from_being_planned(world: World, error: Exception) -> None:
    child = failing(world, error)
    try:
        submit(world, "bad", priority=100)
        others = [f"other-{i}" for i in range(5)]
        for name in others:
            submit(world, name, 4.0)
        run(world, 3000, lambda: all(ready(world, name) for name in others))
        reason, words = planned(world, "bad")
        assert (reason, "tried again" in words) == ("PlanFailed", True)
        assert "secret" not in words
        assert not any(note for name in others if (note := planned(world, name)[0]) == "PlanFailed")
        asked = child.asked
        run(world, 900)
        assert child.asked - asked <= 8  # with a back-off of its own
        child.off = True
        world.api.request("PATCH", f"{SERVICES}/bad", {"spec": {"workload": {"ratePerSecond": 5}}}, content_type=MERGE)
        run(world, 200, lambda: planned(world, "bad")[0] == "Solved")  # who changes it does not wait
    finally:
        child.stop()


class Deleting(PlanChild):
    """The service that it plans is deleted, and gone, before it answers."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def decide(self, snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
        made = super().decide(snapshot)
        path = f"{SERVICES}/gone"
        self.world.api.request("DELETE", path)
        self.world.api.request("PATCH", path, {"metadata": {"finalizers": None}}, content_type=MERGE)
        return made


def test_a_service_that_is_deleted_while_it_is_planned_leaves_no_plan(world: World) -> None:
    child = Deleting(world)
    world.loop._planning._planner.child = child
    try:
        submit(world, "gone")
        run(world, 120)
        assert [one["metadata"]["name"] for one in world.store.items("plans")] == []
    finally:
        child.stop()


def test_a_plan_that_is_renewed_as_it_was_keeps_since_when_nothing_was_moved(world: World) -> None:
    def row() -> dict[str, Any]:
        (plan,) = world.store.items("plans")
        found: dict[str, Any] = plan["spec"]["planned"]
        return found

    submit(world, "chat")
    run(world, 600, lambda: ready(world, "chat"))
    first = row()
    assert "since" not in first
    (prices,) = world.store.items("clusterinventories")
    groups = [{**one, "pricePerHour": "$3.00"} for one in prices["spec"]["nodeGroups"]]
    path = f"/apis/muster.dev/v1alpha1/clusterinventories/{prices['metadata']['name']}"
    world.api.request("PATCH", path, {"spec": {"nodeGroups": groups}}, content_type=MERGE)
    run(world, 1500, lambda: row()["cause"] == "prices_changed")
    assert row()["since"] == first["at"] < row()["at"]
    world.api.request("PATCH", f"{SERVICES}/chat", {"spec": {"workload": {"ratePerSecond": 11}}}, content_type=MERGE)
    run(world, 600, lambda: row()["cause"] == "spec_changed")
    assert "since" not in row()


def test_whatever_goes_wrong_in_the_child_is_an_answer_in_words(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise KeyError("gone")

    monkeypatch.setattr("controller.decision.decide", broken)
    said = answer(orjson.dumps({"format": 1}))["error"]
    assert said == "the planner failed (KeyError); the controller's log says more"
    assert "Traceback" in capfd.readouterr().err
    assert "log says more" in answer(b"nonsense")["error"]


def test_faults_are_planned_first_and_savings_last() -> None:
    def wanted(cause: Cause, priority: int = 0) -> Wanted:
        return Wanted(cause, {"metadata": {}}, Reason(cause, ""), None, 1.0, None, priority, frozenset())

    found = [one.key for one in sorted([wanted(cause) for cause in get_args(Cause)], key=urgency)]
    assert found[0] == "fault"
    assert set(found[-2:]) == {"rate_down", "prices_changed"}
    two = [wanted("rate_up", 1), wanted("rate_step", 9), wanted("fault", -5)]
    assert [one.key for one in sorted(two, key=urgency)] == ["fault", "rate_step", "rate_up"]


def test_waits_grow_and_a_new_spec_waits_for_nothing() -> None:
    now_s = 0.0
    aside = Aside(lambda: now_s)
    waits = [aside.failed("a", 1) for _ in range(12)]
    assert waits[0] <= 15.0
    assert max(waits) <= 1800.0 < 2 * waits[-1] + 1
    assert aside.waits("a", 1)
    assert not aside.waits("a", 2)
    assert aside.alone("a")
    aside.keep({"b"})
    assert not aside.alone("a")
