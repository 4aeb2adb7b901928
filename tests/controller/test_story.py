"""A story's file, and how it is played: in order, each step once, from where it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.story import Place, PlaceShape, Story, load, placed, play
from planner.errors import BadInput

_HEAD = """name: short
speed: 60
lasts: 10m
inventory: {apiVersion: muster.dev/v1alpha1, kind: ClusterInventory, metadata: {name: x}, spec: {nodeGroups: []}}
steps:
"""
_STORY = (
    _HEAD
    + """
  - {at: 0m, say: It begins., calls: [{path: /api/v1/services, body: {a: 1}}, {method: PUT, path: /api/v1/traffic/a/b}]}
  - {at: 2m, say: It goes on., calls: [{method: DELETE, path: /api/v1/services/a/b}]}
"""
)


def a_story(folder: Path, text: str = _STORY) -> Story:
    file = folder / "story.yaml"
    file.write_text(text)
    return load(file)


def test_the_shipped_story_is_sound() -> None:
    story = load(Path("deploy/examples/demo.yaml"))
    assert story.lasts_s == 86_400
    assert len(story.steps) >= 5
    assert story.lasts_s / story.speed <= 300  # it plays within five minutes


def test_steps_are_played_once_when_their_time_has_come(tmp_path: Path) -> None:
    story, asked = a_story(tmp_path), list[tuple[str, str, str]]()

    def ask(method: str, path: str, body: Mapping[str, Any] | None, key: str) -> int:
        asked.append((method, path, key))
        return 201

    assert [index for index, _, _ in play(story, 0, 60.0, ask)] == [1]
    assert [call[0] for call in asked] == ["POST", "PUT"]
    assert [index for index, _, _ in play(story, 1, 130.0, ask)] == [2]
    assert asked[-1][:2] == ("DELETE", "/api/v1/services/a/b")
    assert len({key for _, _, key in asked}) == 3


def test_what_was_done_already_is_well_and_what_is_refused_is_told(tmp_path: Path) -> None:
    story = a_story(tmp_path)
    [(_, _, again)] = play(story, 0, 0.0, lambda *_: 409)
    [(_, _, refused)] = play(story, 0, 0.0, lambda *_: 422)
    assert again == []
    assert refused == ["POST /api/v1/services: 422", "PUT /api/v1/traffic/a/b: 422"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("at: 2m", "at: soon", "got 'soon'"),
        ("at: 0m", "at: 5m", "times in order"),
        ("speed: 60", "speed: -1", "speed"),
        ("/api/v1/services/a/b", "https://elsewhere/x", "path"),
        ("name: short", "name: short\nmore: 1", "more"),
    ],
)
def test_a_bad_story_says_where(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        a_story(tmp_path, _STORY.replace(old, new, 1))


_PLACES = (
    _HEAD
    + """
  - at: 0m
    say: It breaks.
    places: {broken: {service: team-a/chat, group: h100}}
    calls: [{path: /api/v1/faults, body: {node: $broken.node, gpu: $broken.gpu, kind: lost}}]
  - at: 2m
    say: It is mended.
    calls: [{path: /api/v1/faults, body: {node: $broken.node, gpu: $broken.gpu, kind: clear}}]
"""
)


def test_a_step_chooses_a_gpu_of_a_replica_and_later_ones_name_it(tmp_path: Path) -> None:
    story, bodies, wanted = a_story(tmp_path, _PLACES), list[Any](), list[PlaceShape]()

    def ask(method: str, path: str, body: Mapping[str, Any] | None, key: str) -> int:
        bodies.append(body)
        return 201

    def choose(name: str, one: PlaceShape) -> Place:
        wanted.append(one)
        return "h100-2", 3

    assert [refused for _, _, refused in play(story, 0, 500.0, ask, choose)] == [[], []]
    assert bodies == [
        {"node": "h100-2", "gpu": 3, "kind": "lost"},
        {"node": "h100-2", "gpu": 3, "kind": "clear"},
    ]
    assert {(one.service, one.group) for one in wanted} == {("team-a/chat", "h100")}
    again = placed(story, {"broken": ("h100-2", 3)})
    assert [call.body for step in again.steps for call in step.calls] == bodies


def test_a_service_without_a_replica_is_told_and_nothing_is_done_to_anybody(tmp_path: Path) -> None:
    asked = list[str]()

    def ask(method: str, path: str, body: Mapping[str, Any] | None, key: str) -> int:
        asked.append(path)
        return 201

    [(_, _, refused)] = play(a_story(tmp_path, _PLACES), 0, 0.0, ask, lambda name, one: None)
    assert refused == ["$broken: team-a/chat has no replica that serves"]
    assert asked == []


def test_a_place_that_no_step_chose_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="other"):
        a_story(tmp_path, _PLACES.replace("{node: $broken.node, gpu: $broken.gpu, kind: clear}", "{node: $other.node}"))
