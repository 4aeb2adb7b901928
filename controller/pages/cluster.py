"""Cluster: every GPU as a tile by load, temperature or health; one opens with its figures, faults and placements."""

from html import escape

from nicegui import events as given
from nicegui import ui

from controller.pages.charts import lines
from controller.pages.parts import badge, chip, grid, live_html, stat, table, text
from controller.pages.shell import Context
from controller.pages.words import ago, count, degrees, gigabytes, share, watts
from controller.web.model import GpuTile, NodeRow, node, nodes
from planner.errors import MusterError

_MOST_NODES = 200
_HEALTH = {
    "ok": ("good", "well"), "suspect": ("soft", "suspect"), "degraded": ("warn", "degraded"),
    "faulty": ("bad", "faulty"), "lost": ("bad", "lost"), "unknown": ("soft", "not heard"),
}  # fmt: skip
_COLOURS = {"load": "load", "temperature": "temperature", "health": "health"}
_PLAYED = {
    "Xid 79: it falls off the bus": ("xid", 79, None),
    "Xid 48: double-bit ECC error": ("xid", 48, None),
    "It is lost": ("lost", None, None),
    "It grows slow, to 60 %": ("slow", None, 0.6),
    "It is well again": ("clear", None, None),
}


def build(made: Context, colour: str) -> None:
    """The page. `colour`: what tiles are coloured by."""
    colour = colour if colour in _COLOURS else "load"
    kept = [nodes(made.site)]
    made.keep(lambda: kept.__setitem__(0, nodes(made.site)))
    with ui.element("div").classes("m-row"):
        ui.html('<h1 class="m-title">Cluster</h1>', sanitize=False)
        ui.space()
        ui.label("Colour by").classes("m-note")
        for one in _COLOURS:
            chosen = ui.link(one, made.link("/cluster", colour=one)).classes("m-chip")
            if one == colour:
                chosen.style("background:var(--accent);color:var(--card)").props('aria-current="true"')
    with grid("repeat(4, minmax(0, 1fr))"):
        stat(
            made,
            "GPUs in use",
            lambda: count(sum(row.held for row in kept[0])),
            lambda: f"of {count(_gpus(kept[0]))} on {len(kept[0])} nodes",
            lambda: _share(kept[0]),
        )
        stat(made, "Nodes out", lambda: str(sum(row.out for row in kept[0])), lambda: _out(kept[0]), lambda: None)
        stat(
            made, "Faults", lambda: str(sum(len(row.faults) for row in kept[0])), lambda: _worst(kept[0]), lambda: None
        )
        stat(
            made,
            "Power",
            lambda: watts(sum(row.power_w or 0 for row in kept[0])),
            lambda: f"hottest GPU {degrees(_hottest(kept[0]))}",
            lambda: None,
        )
    opened = _Drawer(made)
    ui.on("gpu", lambda event: opened.show(event))
    live_html(made, lambda: _groups(kept[0], colour))


def _gpus(rows: list[NodeRow]) -> int:
    return sum(row.gpus for row in rows)


def _share(rows: list[NodeRow]) -> float | None:
    return sum(row.held for row in rows) / _gpus(rows) if _gpus(rows) else None


def _out(rows: list[NodeRow]) -> str:
    return ", ".join(row.name for row in rows if row.out) or "all nodes are in"


def _worst(rows: list[NodeRow]) -> str:
    said = [fault.words or fault.detector for row in rows for fault in row.faults]
    return said[0][:60] if said else "no agent tells of any"


def _hottest(rows: list[NodeRow]) -> float | None:
    return max(
        (tile.temperature_c for row in rows for tile in row.tiles if tile.temperature_c is not None), default=None
    )


def _groups(rows: list[NodeRow], colour: str) -> str:
    if not rows:
        words = "No node has GPUs. Label nodes, or add a group to a ClusterInventory."
        return f'<div class="m-card"><div class="m-empty">{words}</div></div>'
    cards = "".join(_node(row, colour) for row in rows[:_MOST_NODES])
    more = (
        f'<div class="m-note">{len(rows) - _MOST_NODES} more nodes are not shown.</div>'
        if len(rows) > _MOST_NODES
        else ""
    )
    legend = {
        "load": "share of the last seconds in which the GPU computed",
        "temperature": "degrees Celsius of the GPU",
        "health": "what the agent's detectors find",
    }[colour]
    return (
        f'<div class="m-note" style="margin-bottom:8px">Each tile is a GPU: {legend}. Open one for more.</div>'
        f'<div class="m-grid" style="grid-template-columns:repeat(auto-fill,minmax(236px,1fr))">{cards}</div>{more}'
    )


def _node(row: NodeRow, colour: str) -> str:
    tiles = "".join(_tile(tile, colour) for tile in row.tiles)
    state = badge("bad", "out") if row.out else badge("good", "in") if row.open else badge("soft", "closed")
    about = " · ".join(
        filter(None, (row.gpu, f"zone {row.zone}" if row.zone else "", row.power_domain, "spot" if row.spot else ""))
    )
    return (
        f'<section class="m-card" aria-label="Node {escape(row.name)}"><div class="m-head" style="color:var(--text)">'
        f'{text(row.name)}<span style="flex:1"></span>{state}</div><div class="m-note">{text(about)}</div>'
        f'<div class="m-tiles">{tiles}</div>'
        f'<div class="m-note">{row.held} of {row.gpus} held · {watts(row.power_w)}</div>'
        + (f'<div class="m-note m-bad">{text(row.why[:90])}</div>' if row.why and row.out else "")
        + "</section>"
    )


def _tile(tile: GpuTile, colour: str) -> str:
    state, word = _HEALTH[tile.health]
    figure = {"load": share(tile.busy_ratio, 0), "temperature": degrees(tile.temperature_c), "health": word}[colour]
    ill = tile.health in ("faulty", "lost", "degraded")
    style = f"border-color:var(--{state});border-width:2px" if ill else ""
    ground = _ground(tile, colour)
    name = f"GPU {tile.index} of {tile.node}: {word}, load {share(tile.busy_ratio, 0)}, {degrees(tile.temperature_c)}"
    holder = tile.service.rpartition("/")[2][:6] or "free"
    sign = "✕" if tile.health in ("faulty", "lost") else text(figure)
    call = f"emitEvent('gpu', {{node: '{escape(tile.node)}', index: {tile.index}}})"
    return (
        f'<button type="button" class="m-tile" style="{ground};{style}" title="{escape(name)}" '
        f'aria-label="{escape(name)}" onclick="{call}"><b>{sign}</b><span>{text(holder)}</span></button>'
    )


def _ground(tile: GpuTile, colour: str) -> str:
    if tile.health in ("faulty", "lost"):
        return "background:color-mix(in srgb, var(--bad) 22%, var(--card))"
    if colour == "health":
        return f"background:color-mix(in srgb, var(--{_HEALTH[tile.health][0]}) 18%, var(--card))"
    if colour == "load":
        return f"background:color-mix(in srgb, var(--accent) {100 * 0.6 * (tile.busy_ratio or 0):.0f}%, var(--card))"
    warm = min(max(((tile.temperature_c or 25) - 25) / 65, 0.0), 1.0)
    return f"background:color-mix(in srgb, var(--warn) {100 * 0.6 * warm:.0f}%, var(--card))"


class _Drawer:
    """The panel of one GPU."""

    def __init__(self, made: Context) -> None:
        self._made = made
        self._at: tuple[str, int] | None = None
        with (
            ui.dialog().props("position=right full-height") as self._panel,
            ui.element("div").classes("m-card") as body,
        ):
            body.style("width:440px;height:100%;border-radius:0;overflow:auto").props('role="dialog" aria-label="GPU"')
            with ui.element("div").classes("m-row"):
                self._title = ui.label().classes("m-title")
                ui.space()
                ui.button(icon="close", on_click=self._panel.close).props('flat dense round aria-label="Close"')
            self._figures = ui.html("", sanitize=False).style("width:100%")
            self._chart = ui.echart({}).style("height:150px;width:100%")
            if made.site.faults is not None and made.viewer.may("patch", "nodes", group=""):
                self._play()
        made.live.append(self._fill)

    def show(self, event: given.GenericEventArguments) -> None:
        """Open it for the GPU that was pressed."""
        self._at = str(event.args["node"]), int(event.args["index"])
        self._fill()
        self._panel.open()

    def _tile(self) -> tuple[NodeRow, GpuTile] | None:
        row = None if self._at is None else node(self._made.site, self._at[0])
        found = (
            None if row is None or self._at is None else next((t for t in row.tiles if t.index == self._at[1]), None)
        )
        return None if row is None or found is None else (row, found)

    def _fill(self) -> None:
        if (both := self._tile()) is None:
            return
        row, tile = both
        self._title.set_text(f"GPU {tile.index} of {tile.node}")
        self._figures.set_content(_figures(self._made, row, tile))
        found = {"W": self._made.series("power_w", tile.uuid), "°C": self._made.series("temperature_c", tile.uuid)}
        self._chart.options.clear()
        self._chart.options.update(lines(found, dark=self._made.dark, span=self._made.span))
        self._chart.update()

    def _play(self) -> None:
        ui.label("Play a fault").classes("m-head")
        with ui.element("div").classes("m-row"):
            chosen = (
                ui.select(list(_PLAYED), value=next(iter(_PLAYED)))
                .props('outlined dense aria-label="Fault"')
                .style("flex:1")
            )
            ui.button("Inject", on_click=lambda: self._inject(str(chosen.value))).props("unelevated color=primary")

    def _inject(self, name: str) -> None:
        faults = self._made.site.faults
        if faults is None or self._at is None:
            return
        kind, xid, factor = _PLAYED[name]
        try:
            ui.notify(faults.inject(self._at[0], self._at[1], kind, xid, factor), type="positive")
        except MusterError as error:
            ui.notify(str(error), type="negative")


def _figures(made: Context, row: NodeRow, tile: GpuTile) -> str:
    state, word = _HEALTH[tile.health]
    pairs = (
        ("Type", text(tile.gpu)),
        ("Health", badge(state, word)),
        ("Serves", chip(tile.service) if tile.service else "nothing"),
        ("Load", share(tile.busy_ratio, 0)),
        (
            "Power",
            f"{watts(tile.power_w)} of {watts(tile.limit_w)}" + (f", cap {watts(tile.cap_w)}" if tile.cap_w else ""),
        ),
        ("Temperature", degrees(tile.temperature_c)),
        ("Memory", f"{gigabytes(tile.memory_used_bytes)} of {gigabytes(tile.memory_total_bytes)}"),
        ("Agent heard", "never" if row.heard_s is None else ago(0.0, row.heard_s)),
    )
    figures = table(("", ""), [(f'<span class="m-soft">{name}</span>', value) for name, value in pairs])
    faults = [
        (
            badge("bad" if one.severity.startswith("fatal") else "warn", one.detector),
            text(one.words),
            ago(one.since_s, made.site.clock()),
        )
        for one in tile.faults
    ]
    return figures + (table(("Fault", "", "Since"), faults) if faults else "")
