"""The panel beside the cluster: one GPU's figures over time, its faults, what is placed on it, and faults to play."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nicegui import run, ui

from controller.pages.charts import Limit, Line, Points, lines
from controller.pages.context import Context
from controller.pages.live import Chart, Html
from controller.pages.parts import badge, facts, icon, link, note, table, text
from controller.pages.shell import send
from controller.pages.states import HEALTH
from controller.pages.words import ago, degrees, gibibytes, said, share, short, watts
from controller.web.model import FaultRow, GpuTile, NodeRow
from planner.errors import MusterError
from planner.units import counted

_METRICS = ("power_w", "temperature_c", "busy_ratio")
_PLAYED = {  # words -> kind, Xid, factor
    "Xid 79": ("xid", 79, None),
    "Slow to 60 %": ("slow", None, 0.6),
    "Lost": ("lost", None, None),
    "Clear": ("clear", None, None),
}


@dataclass(frozen=True)
class Opened:
    """One GPU at one moment."""

    row: NodeRow
    tile: GpuTile
    span: tuple[float, float]
    series: Sequence[Points]
    now_s: float


def opened(made: Context, rows: Sequence[NodeRow], node: str, index: int) -> Opened | None:
    """A GPU with its figures; None where it is not there."""
    row = next((one for one in rows if one.name == node), None)
    tile = None if row is None else next((one for one in row.tiles if one.index == index), None)
    if row is None or tile is None:
        return None
    span = made.span()
    return Opened(row, tile, span, [made.series(one, tile.uuid, *span) for one in _METRICS], made.site.clock())


class Drawer:
    """The panel; what closes it is told by `closes`."""

    def __init__(self, made: Context, may_play: bool) -> None:
        self._made, self._at = made, ("", 0)
        self._open = False
        with ui.element("aside").classes("m-drawer").props('aria-label="GPU" tabindex="-1"') as self._panel:
            with ui.element("div").classes("m-row").style("flex-wrap:nowrap"):
                self._title = Html(made, style="flex:1;min-width:0")
                self._close = ui.element("button").classes("m-icon").props('aria-label="Close" data-close')
                with self._close:
                    ui.html(icon("close"), sanitize=False).style("display:contents")
            self._facts = Html(made)
            self._faults = Html(made)
            if may_play:
                self._play()
            self._charts = [self._chart(head) for head in ("Power", "Temperature", "Load")]
            self._placed = Html(made)

    def closes(self, then: Callable[[], Awaitable[None]]) -> None:
        """What is done when it is closed."""
        self._close.on("click", then)

    def focus(self) -> None:
        """Whoever uses the keyboard goes on in it."""
        ui.run_javascript(f"document.getElementById('c{self._panel.id}')?.focus()")

    def show(self, found: Opened | None) -> None:
        """Show a GPU, or nothing."""
        if (found is not None) != self._open:
            self._open = found is not None
            self._panel.classes(add="open" if self._open else None, remove=None if self._open else "open")
            ui.query("#main").classes(add="beside" if self._open else None, remove=None if self._open else "beside")
        if found is None:
            return
        tile, row = found.tile, found.row
        self._at = tile.node, tile.index
        state, word = HEALTH[tile.health]
        self._title.show(
            f'<div class="m-row" style="gap:8px"><h2 class="m-title">GPU {tile.index} of {text(tile.node)}</h2>'
            f'<span class="m-note">{text(tile.gpu)}</span>{badge(state, word)}</div>'
        )
        self._facts.show(_facts(self._made, found))
        self._faults.show(_faults(tile, found.now_s))
        self._placed.show(_placed(self._made, row, tile))
        power, warm, busy = found.series
        # a limit of an idle GPU is of this moment alone: across what it drew before it would read as broken
        limit = Limit(f"limit now {watts(tile.cap_w)}", tile.cap_w) if tile.cap_w and tile.service else None
        dark = self._made.dark
        self._charts[0].show(lines([Line("power", power, area=True)], "watts", found.span, dark=dark, limit=limit))
        self._charts[1].show(lines([Line("temperature", warm, colour=1)], "celsius", found.span, dark=dark))
        self._charts[2].show(lines([Line("load", busy, area=True)], "percent", found.span, dark=dark))

    def _chart(self, head: str) -> Chart:
        with ui.element("div"):
            return Chart(self._made, 88, f"{head} of this GPU over time", head)

    def _play(self) -> None:
        with ui.element("div"):
            ui.html('<div class="m-head" style="margin-bottom:6px">Play a fault on it</div>', sanitize=False)
            with ui.element("div").classes("m-row").style("gap:6px"):
                for words in _PLAYED:
                    with ui.element("button").classes("m-btn").on("click", lambda words=words: self._inject(words)):
                        ui.html(text(words), sanitize=False).style("display:contents")
            self._done = Html(self._made, "m-note", "width:100%;margin-top:6px;min-height:18px")

    async def _inject(self, words: str) -> None:
        state, told = await run.io_bound(_played, self._made, *self._at, words) or ("soft", "Muster ends")
        self._done.show(badge(state, told))
        send(self._made)


def _played(made: Context, node: str, index: int, words: str) -> tuple[str, str]:
    """Make a GPU ill, or well again; what was done, or why not."""
    if made.site.faults is None or not made.viewer.may("patch", "nodes", group=""):
        return "bad", "Your token may not play faults."
    kind, xid, factor = _PLAYED[words]
    try:
        return "info", made.site.faults.inject(node, index, kind, xid, factor)
    except MusterError as error:
        return "bad", str(error)


def _facts(made: Context, found: Opened) -> str:
    tile, row = found.tile, found.row
    service = link(short(tile.service), made.link(f"/services/{tile.service}")) if tile.service else "nothing"
    how = "capped" if tile.service else "limited while idle"
    cap = f", {how}" if tile.cap_w and tile.cap_w < (tile.tdp_w or 0.0) else ""
    rows = [
        ("Serves", service),
        ("Load", share(tile.busy_ratio, 0)),
        ("Power", f"{watts(tile.power_w)} <span class='m-soft'>of {watts(tile.limit_w or tile.tdp_w)}{cap}</span>"),
        ("Temperature", degrees(tile.temperature_c)),
        (
            "Memory",
            f"{gibibytes(tile.memory_used_bytes)} <span class='m-soft'>of {gibibytes(tile.memory_total_bytes)}</span>",
        ),
        ("Agent heard", "never" if row.heard_s is None else ago(0.0, row.heard_s)),
    ]
    return facts(rows)


def _faults(tile: GpuTile, now_s: float) -> str:
    if not tile.faults:
        return ""
    rows = [
        (
            badge("bad" if one.severity.startswith("fatal") else "warn", one.detector.replace("_", " ")),
            f"{text(said(one.words))}{note(_stage(one))}",
            f'<span class="m-nowrap">{ago(one.since_s, now_s)}</span>',
        )
        for one in tile.faults
    ]
    return table(("Fault", "What is seen", "Since"), rows, (2,), "Faults")


def _stage(one: FaultRow) -> str:
    """How sure the agent is, and what it asks for."""
    asks = "" if one.action in ("", "none") else f", asks to {one.action.replace('_', ' ')}"
    return f"{one.phase}{asks}"


def _placed(made: Context, row: NodeRow, tile: GpuTile) -> str:
    head = f'<div class="m-head" style="margin-bottom:4px">Placed on {text(row.name)}</div>'
    if not row.placements:
        return head + note("Nothing is placed on this node.")
    rows = [
        (
            link(short(one.service), made.link(f"/services/{one.service}"))
            + (' <span class="m-chip">here</span>' if tile.index in one.gpu_indices else ""),
            counted(one.gpus, "GPU") + (f" ({', '.join(map(str, one.gpu_indices))})" if one.gpu_indices else ""),
            badge("good", "serving") if one.ready else badge("soft", one.phase.lower() or "starting"),
        )
        for one in row.placements
    ]
    return head + table(("Service", "GPUs", "State"), rows, (), "Placements")
