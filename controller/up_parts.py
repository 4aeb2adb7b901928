"""Parts of the command up: which story and which hardware, what is said at the start, and what while it runs."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from threading import Event
from typing import Any

from controller.brake import Brake
from controller.kube.node_round import NodeSettings
from controller.story import Story, load
from controller.up import STORY, Embedded, events_since
from planner.errors import BadInput
from planner.hardware import Inventory
from planner.spec.fields import Context
from planner.spec.load import CATALOG, load_inventory, parse
from planner.units import rate_words
from planner.yaml_text import read, show_path

_EVERY_S = 0.5
_STATUS_S = 10.0
_WIDTH = 16
_DAY_S = 86_400


def chosen_story(path: Path | None, demo: bool) -> Story | None:
    """The story to play; raises BadInput."""
    if path is not None and demo:
        raise BadInput("--story, --demo: got both, allowed: one of them")
    if demo:
        return load(Path(str(files("deploy") / "examples" / "demo.yaml")))
    return None if path is None else load(path)


def hardware(path: Path | None, story: Story | None) -> tuple[Inventory, Mapping[str, Any]]:
    """The inventory to furnish with, and its document; raises BadInput."""
    if story is not None and path is not None:
        raise BadInput("--inventory: got one beside a story, allowed: the story's own")
    if story is not None:
        found, problems = parse(dict(story.inventory), Context(CATALOG, Path.cwd()))
        if not isinstance(found, Inventory) or problems:
            said = "; ".join(f"{show_path(place)}: {words}" for place, words in problems)
            raise BadInput(f"the story's inventory: {said or 'got another kind, allowed: ClusterInventory'}")
        return found, story.inventory
    file = path or Path(str(files("deploy") / "examples" / "cluster.yaml"))
    inventory = load_inventory(file)
    documents = (one.root.plain() for one in read(file))
    document = next(one for one in documents if isinstance(one, dict) and one.get("kind") == "ClusterInventory")
    return inventory, document


def gentle() -> NodeSettings:
    """Rules for nodes of a small simulated fleet: one in five may be out, and a slow GPU counts as a faulty one."""
    return NodeSettings(Brake(share_ratio=0.2, burn_in=False), out_for=frozenset(("slow_clock",)))


def midnight_s() -> float:
    """The last midnight (UTC): a story's day begins there."""
    return float(int(time.time()) // _DAY_S * _DAY_S)


def start_s(story: Story | None) -> float:
    """When a new simulated cluster begins: with the day of its story, else now."""
    return time.time() if story is None else midnight_s()


def beginning(made: Embedded, story: Story | None, again: str) -> Iterator[str]:
    """What is said once it serves. `again`: the command that plays the story anew."""
    yield f"Muster is at {made.address}"
    if made.token:
        yield f"token of the administrator, shown this once: {made.token}"
    speed, at = made.options.speed, f"it is {_time(made.world.now_s)} (UTC) in the cluster"
    quick = f"{at}; time goes {rate_words(speed)} times as fast as ours, or slower where the machine is busy"
    yield at if speed == 1 else quick
    if story is not None and is_over(story, made.world.store.said(STORY), made.world.now_s):
        yield over(again)


def over(again: str) -> str:
    """Said at the end of a story, and at a start after it."""
    return f"The day has been played; `{again}` plays it again"


def is_over(story: Story, told: Mapping[str, Any] | None, now_s: float) -> bool:
    """Whether a story was played to its end. `told`: how far it is, as it is kept; None before it began."""
    return told is not None and told["next"] >= len(story.steps) and now_s >= told["start_s"] + story.lasts_s


def narrate(
    made: Embedded, story: Story | None, ended: Event, say: Callable[[str], None], exit_after: bool, again: str = ""
) -> None:
    """Say what happens until it is to end: events as they come, and now and then how the fleet does."""
    seen: set[str] = set()
    events_since(made.site, seen)
    said_s, since_s = 0.0, made.world.now_s
    played = story is not None and is_over(story, made.world.store.said(STORY), made.world.now_s)
    if played and exit_after:
        return
    while not ended.wait(_EVERY_S) and made.failed is None:
        for event in events_since(made.site, seen):
            about = (event.get("regarding") or {}).get("name", "")
            say(f"{_time(made.world.now_s)}  {event['reason']:<{_WIDTH}}  {about}: {event.get('note', '')}")
        if story is not None and time.monotonic() - said_s > _STATUS_S:
            said_s = time.monotonic()
            say(f"{_time(made.world.now_s)}  {_fleet(made, since_s)}")
            since_s = made.world.now_s
        if story is not None and not played and is_over(story, made.world.store.said(STORY), made.world.now_s):
            if exit_after:
                return
            played = True
            say(over(again))


def _fleet(made: Embedded, since_s: float) -> str:
    """How the fleet does; of requests since the line before, as the last minute alone may have missed all that was."""

    def last(metric: str) -> float | None:
        return made.world.history.latest(metric).get("")

    attained, used, total = attained_ratio(made, since_s), last("gpus_used"), last("gpus_total")
    parts = [
        f"${last('usd_per_hour') or 0.0:,.2f}/h",
        f"{(last('power_w') or 0.0) / 1000:.1f} kW",
        f"{used or 0:.0f} of {total or 0:.0f} GPUs",
        "no requests"
        if attained is None
        else f"{_share(attained)} of requests within the objective since the last line",
    ]
    return "· " + ", ".join(parts)


def attained_ratio(made: Embedded, since_s: float) -> float | None:
    """The share of requests within the objective since a time, of all services; None where none was measured."""
    history, now_s = made.world.history, made.world.now_s
    came, held = 0.0, 0.0
    for service in history.latest("attainment_ratio"):
        rates = dict(history.series("rate_per_s", service, since_s, now_s)) if service else {}
        ratios = history.series("attainment_ratio", service, since_s, now_s) if service else ()
        came += sum(rates.get(at_s, 0.0) for at_s, _ in ratios)
        held += sum(rates.get(at_s, 0.0) * ratio for at_s, ratio in ratios)
    return held / came if came else None


def _share(ratio: float) -> str:
    """Never 100 % where a request missed."""
    return f"{ratio:.1%}" if ratio == 1.0 else f"{min(ratio, 0.999):.1%}"


def _time(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%a %H:%M}"
