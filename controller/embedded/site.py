"""An embedded cluster as the web knows it."""

from collections.abc import Callable

from controller.embedded.paths import SERVED
from controller.embedded.world import World
from controller.web.site import Site


def site_of(world: World, speed: Callable[[], float]) -> Site:
    """Everything that API and pages need."""
    return Site(
        objects=world.api,
        served=SERVED,
        known=world.loop.known,
        kept=lambda: world.loop.rounds.kept,
        caps=lambda: {uuid: watts for agent in list(world.agents.values()) for uuid, watts in agent.caps_w.items()},
        history=world.history,
        clock=world.clock,
        faults=world,
        sends=world,
        speed=speed,
        embedded=True,
    )
