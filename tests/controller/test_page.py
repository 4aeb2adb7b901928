"""The controller's own metrics: who leads, and how long each node of the cluster has been silent."""

import re
from collections.abc import Iterator

import pytest

from controller.embedded.world import World
from controller.page import page
from tests.controller.embedded.a_world import a_world, run

LATER_S = 500.0


@pytest.fixture
def world() -> Iterator[World]:
    """An embedded cluster."""
    made = a_world()
    yield made
    made.close()


def told(world: World, leads: bool = True) -> str:
    return page(world.loop.known, world.loop.rounds, world.loop.desk.grants, leads)


def ages(text: str) -> dict[str, float]:
    rows = re.findall(r'^muster_node_report_age_seconds\{node="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in rows}


def names(world: World) -> set[str]:
    return {one["metadata"]["name"] for one in world.store.items("nodes")}


def test_the_age_of_the_last_report_is_told_of_each_node_that_is_there_and_grows_while_nothing_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world, 60)
    fresh = ages(world.loop.desk.metrics())
    assert set(fresh) == names(world)
    assert all(0.0 <= age_s <= 30.0 for age_s in fresh.values())
    gone, never = sorted(fresh)[:2]
    world.api.request("DELETE", f"/api/v1/nodes/{gone}")
    del world.loop.rounds.kept[never]
    now_s = world.now_s
    monkeypatch.setattr(world.loop.known, "clock", lambda: now_s + LATER_S)
    later = ages(told(world))
    assert set(later) == names(world) == set(fresh) - {gone}
    assert all(LATER_S <= later[name] <= LATER_S + 30.0 for name in later.keys() - {never})
    assert later[never] == pytest.approx(LATER_S + 60.0, abs=30.0), "silent since the process began"


def test_who_stands_by_says_so_and_tells_of_no_silence(world: World) -> None:
    run(world, 60)
    assert "\nmuster_leader 1\n" in world.loop.desk.metrics()
    text = told(world, leads=False)
    assert "\nmuster_leader 0\n" in text
    assert not ages(text)
