"""Cluster: every GPU as a tile by load, temperature or health; one opens with its figures, faults and placements."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from nicegui import events as given
from nicegui import run, ui

from controller.pages.cluster_drawer import Drawer, Opened, opened
from controller.pages.cluster_tiles import COLOURS, groups, legend
from controller.pages.context import Context
from controller.pages.live import Html, Stat, grid, static
from controller.pages.parts import badge, search
from controller.pages.shell import send
from controller.pages.words import count, degrees, few, watts
from controller.web.model import NodeRow, nodes
from planner.units import counted

_Part = tuple[str, int]
"""A node and one of its GPUs; -1: the node itself."""


@dataclass
class Asked:
    """What whoever looks has chosen; the address keeps it. `gpu`: node and index of the one that is open."""

    colour: str = "load"
    find: str = ""
    gpu: tuple[str, int] | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Asked":
        """As an address says it."""
        colour = query.get("colour", "load")
        node, _, index = query.get("gpu", "").rpartition("/")
        gpu = (node[:253], int(index)) if node and index.isdecimal() and len(index) < 4 else None
        return cls(colour if colour in COLOURS else "load", query.get("find", "")[:100], gpu)


@dataclass(frozen=True)
class Seen:
    """What the page shows at one moment."""

    rows: Sequence[NodeRow]
    opened: Opened | None
    may_play: bool


def load(made: Context, asked: Asked) -> Seen:
    """Everything that the page shows."""
    rows = made.view("nodes", nodes)
    plays = made.site.faults is not None and made.viewer.may("patch", "nodes", group="")
    return Seen(rows, None if asked.gpu is None else opened(made, rows, *asked.gpu), plays)


def build(made: Context, first: Seen, asked: Asked) -> Callable[[Seen], None]:
    """The page."""
    with ui.element("div").classes("m-row"):
        head = Html(made, "m-row", "width:auto")
        ui.space()
        static(search("Find nodes, GPUs or services", asked.find, "Node, GPU or service  /"), "")
        colours = Html(made, style="width:auto")
    with grid("repeat(4, minmax(0, 1fr))"):
        tiles = [Stat(made, name) for name in ("GPUs in use", "Nodes", "Faults", "Power")]
    scale, tiled = Html(made), Html(made)
    drawer = Drawer(made, first.may_play)

    def show(seen: Seen) -> None:
        head.show(f'<h1 class="m-title">Cluster</h1>{_headline(seen.rows)}')
        colours.show(_colours(asked.colour))
        _tiles(tiles, seen.rows)
        scale.show(legend(asked.colour))
        tiled.show(groups(made, seen.rows, asked.colour, asked.find, asked.gpu))
        drawer.show(seen.opened)

    async def again() -> None:
        seen = await run.io_bound(load, made, asked)
        if seen is not None:
            show(seen)
            send(made)

    async def chosen(event: given.GenericEventArguments) -> None:
        asked.gpu = str(event.args["node"]), int(event.args["index"])
        ui.run_javascript(f"muster.query('gpu', {f'{asked.gpu[0]}/{asked.gpu[1]}'!r})")
        await again()
        drawer.focus()

    async def closed() -> None:
        asked.gpu = None
        ui.run_javascript("muster.query('gpu', ''); muster.back()")
        await again()

    async def coloured(event: given.GenericEventArguments) -> None:
        if str(event.args) in COLOURS:
            asked.colour = str(event.args)
            await again()

    async def found(event: given.GenericEventArguments) -> None:
        asked.find = str(event.args)[:100]
        await again()

    drawer.closes(closed)
    ui.on("gpu", chosen)
    ui.on("colour", coloured)
    ui.on("find", found)
    return show


def _colours(chosen: str) -> str:
    made = "".join(
        f'<button type="button" aria-pressed="{str(one == chosen).lower()}" '
        f"onclick=\"muster.query('colour','{one}');emitEvent('colour','{one}')\">{one.capitalize()}</button>"
        for one in COLOURS
    )
    return f'<span class="m-seg" role="group" aria-label="Colour by">{made}</span>'


def _headline(rows: Sequence[NodeRow]) -> str:
    out = [row.name for row in rows if row.out]
    if out:
        return badge("bad", f"{few(out)} out for faults")
    unheard = sum(row.heard_s is None or row.heard_s > 60 for row in rows)
    if unheard:
        return badge("warn", f"{counted(unheard, 'agent')} not heard lately")
    return badge("good", "every node is in and heard") if rows else ""


def _tiles(tiles: Sequence[Stat], rows: Sequence[NodeRow]) -> None:
    used, inside, faults, power = tiles
    held, total = sum(row.held for row in rows), sum(row.gpus for row in rows)
    lost = sum(_lost(row) for row in rows)
    left = f"{count(total - held - lost)} free" + (f", {count(lost)} out" if lost else "")
    used.show(f"{count(held)} of {count(total)}", left, ratio=held / total if total else 0.0)
    out = sum(row.out for row in rows)
    kinds = len({row.gpu for row in rows})
    inside.show(
        f"{len(rows) - out} of {len(rows)}",
        f"{counted(kinds, 'GPU type')}, {out} out" if out else counted(kinds, "GPU type"),
    )
    ill, sure = _ill(rows)
    faults.show(str(len(ill)), _findings(ill, sure), state="bad" if sure else "soft" if ill else "good")
    drawn = [row.power_w for row in rows if row.power_w is not None]
    hottest = max((t.temperature_c for row in rows for t in row.tiles if t.temperature_c is not None), default=None)
    power.show(watts(sum(drawn)) if drawn else "–", f"hottest GPU {degrees(hottest)}")


def _lost(row: NodeRow) -> int:
    """GPUs that nobody holds and nobody gets, since their node or they themselves are out."""
    left = max(row.gpus - row.held, 0)
    ill = sum(not tile.service and tile.health in ("faulty", "lost") for tile in row.tiles)
    return left if row.out else min(ill, left)


def _ill(rows: Sequence[NodeRow]) -> tuple[set[_Part], set[_Part]]:
    """What has a fault, and what has one for certain. One fault may be told by several detectors."""
    said = [fault for row in rows for fault in row.faults]
    sure = {(fault.node, fault.gpu) for fault in said if fault.phase in ("confirmed", "acted")}
    return {(fault.node, fault.gpu) for fault in said}, sure


def _findings(ill: Collection[_Part], sure: Collection[_Part]) -> str:
    """What the number of faults counts, and how many of them are suspected alone."""
    if not ill:
        return "no detector sees any"
    nodes = sum(gpu < 0 for _, gpu in ill)
    what = [counted(number, noun) for number, noun in ((len(ill) - nodes, "GPU"), (nodes, "node")) if number]
    doubt = len(ill) - len(sure)
    return " and ".join(what) + (f", {doubt} of them suspected" if sure and doubt else ", suspected" if doubt else "")
