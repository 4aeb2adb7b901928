"""Embedded clusters that end with their test."""

from collections.abc import Callable, Iterator

import pytest

from controller.embedded.world import World
from tests.controller.embedded import a_world as worlds


@pytest.fixture
def a_world() -> Iterator[Callable[..., World]]:
    """Makes clusters (`tests.controller.embedded.a_world.a_world`), and closes those that are open at the end."""
    made: list[World] = []

    def make(*about: object, **spec: object) -> World:
        made.append(worlds.a_world(*about, **spec))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for world in made:
        world.close()
