"""What `muster up` says at the start and at the end of a story, and at which time a cluster begins."""

import time
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from controller.story import Story, load
from controller.up import STORY, events_since
from controller.up_parts import attained_ratio, beginning, is_over, midnight_s, narrate, start_s

DEMO = Path(__file__).parents[2] / "deploy" / "examples" / "demo.yaml"
AGAIN = "muster up --demo --fresh"
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def story() -> Story:
    return load(DEMO)


class Made:
    """As much of a running cluster as is asked. `told`: how far the story is."""

    def __init__(self, told: Any, now_s: float, speed: float = 1.0) -> None:
        self.told, self.failed, self.address, self.token = told, None, "http://127.0.0.1:1", ""
        self.options = SimpleNamespace(speed=speed)
        self.world = SimpleNamespace(
            now_s=now_s, store=self, history=SimpleNamespace(latest=lambda metric: {}, series=lambda *asked: ())
        )
        self.site = SimpleNamespace(
            served=SimpleNamespace(need=lambda plural: SimpleNamespace(path=lambda: "")),
            objects=SimpleNamespace(request=lambda method, path: {"items": []}),
        )

    def said(self, key: str) -> Any:
        return self.told if key == STORY else None


def test_a_cluster_begins_with_the_day_of_its_story_and_else_now(story: Story) -> None:
    assert start_s(story) == midnight_s()
    assert start_s(None) == pytest.approx(time.time(), abs=5)


def test_the_clusters_time_is_always_said_at_the_start() -> None:
    for speed, more in ((1.0, ""), (60.0, "; time goes 60 times as fast as ours, or slower where the machine is busy")):
        made: Any = Made(None, 12.5 * 3600, speed)
        assert list(beginning(made, None, AGAIN))[1:] == [f"it is Thu 12:30 (UTC) in the cluster{more}"]


def test_a_start_after_the_day_says_how_to_play_it_again(story: Story) -> None:
    told = {"start_s": 0.0, "next": len(story.steps)}
    for now_s, over in ((DAY_S - 1, False), (DAY_S, True)):
        made: Any = Made(told, now_s)
        assert is_over(story, told, now_s) is over
        assert any(AGAIN in line for line in beginning(made, story, AGAIN)) is over
    assert not is_over(story, None, DAY_S)
    assert not is_over(story, {"start_s": 0.0, "next": 3}, 2 * DAY_S)


def test_the_end_of_the_day_is_said_once(story: Story) -> None:
    told = {"start_s": 0.0, "next": len(story.steps)}
    made: Any = Made(told, DAY_S - 1)
    ended, said = Event(), list[str]()

    def say(line: str) -> None:
        said.append(line)
        if made.world.now_s >= DAY_S:
            ended.set()
        made.world.now_s = DAY_S

    narrate(made, story, ended, say, False, AGAIN)
    assert [line for line in said if AGAIN in line] == [f"The day has been played; `{AGAIN}` plays it again"]


def test_an_event_that_is_counted_up_again_is_told_again() -> None:
    made: Any = Made(None, 0.0)
    event = {"metadata": {"uid": "u", "resourceVersion": "1"}, "reason": "SLOMissed", "note": "chat"}
    found = [event]
    made.site.objects.request = lambda method, path: {"items": found}
    seen = set[str]()
    assert (len(events_since(made.site, seen)), len(events_since(made.site, seen))) == (1, 0)
    found[:] = [{**event, "series": {"count": 2}}]
    assert (len(events_since(made.site, seen)), len(events_since(made.site, seen))) == (1, 0)


def test_a_line_says_the_share_of_requests_since_the_one_before() -> None:
    made: Any = Made(None, 120.0)
    kept = {
        ("rate_per_s", "chat"): ((60.0, 10.0), (120.0, 30.0)),
        ("attainment_ratio", "chat"): ((60.0, 0.5), (120.0, 1.0)),
    }
    made.world.history = SimpleNamespace(
        latest=lambda metric: {"": 1.0, "chat": 1.0}, series=lambda metric, of, start_s, end_s: kept[metric, of]
    )
    assert attained_ratio(made, 0.0) == pytest.approx((10 * 0.5 + 30 * 1.0) / 40)
    made.world.history.latest = lambda metric: {}
    assert attained_ratio(made, 0.0) is None
