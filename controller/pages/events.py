"""Events: what happened, the newest first, by kind and by word, as it happens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from nicegui import events as given
from nicegui import run, ui

from controller.pages.context import Context
from controller.pages.live import Html, static
from controller.pages.parts import badge, chip, empty, icon, link, search, text
from controller.pages.shell import send
from controller.pages.states import spaced
from controller.pages.words import ago, day_of, said, short, time_of
from controller.web.model import EventRow
from planner.units import counted

_MORE = 100
KINDS = {
    "all": "All", "warnings": "Warnings", "plans": "Plans", "moves": "Moves", "hardware": "Hardware", "power": "Power",
}  # fmt: skip
_OF = {
    "plans": ("PlanSolved", "PlanInfeasible", "PlanFailed", "Replanned", "ApprovalNeeded", "SpecRefused", "SLOMissed",
              "SLOMet"),
    "moves": ("RebalanceStarted", "RebalanceHeld", "MoveStarted", "MoveCompleted", "MoveRolledBack", "ReplicaFailed",
              "ApplyFailed"),
    "hardware": ("GPUFaultDetected", "NodeQuarantined", "NodeReturned", "NodeLost", "NodeFound", "BrakeEngaged",
                 "TelemetryStale"),
    "power": ("PowerCapApplied", "PowerLimitsOverBudget", "OverrunDetected"),
}  # fmt: skip


@dataclass
class Asked:
    """What whoever looks has chosen; the address keeps `kind` and `find`. `held`: nothing new is shown meanwhile."""

    kind: str = "all"
    find: str = ""
    most: int = _MORE
    held: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Asked":
        """As an address says it."""
        kind = query.get("kind", "all")
        return cls(kind if kind in KINDS else "all", query.get("find", query.get("filter", ""))[:200])


@dataclass(frozen=True)
class Seen:
    """Events of the shown time that whoever looks may see."""

    rows: Sequence[EventRow]
    now_s: float
    older: int


def load(made: Context) -> Seen:
    """Everything that the page shows. Raises ApiError."""
    rows = made.view("events", lambda _: made.web.feed.rows())
    start_s, end_s = made.range.span(made.site.clock())
    spaces = {row.namespace for row in rows}
    allowed = {one for one in spaces if made.viewer.may("list", "events", one, group="events.k8s.io")}
    mine = [row for row in rows if row.namespace in allowed]
    inside = [row for row in mine if start_s <= row.last_s <= end_s]
    return Seen(inside, made.site.clock(), len(mine) - len(inside))


def build(made: Context, first: Seen, asked: Asked) -> Callable[[Seen], None]:
    """The page."""
    kept = [first]
    with ui.element("div").classes("m-row"):
        static('<h1 class="m-title">Events</h1>', "")
        count = Html(made, style="width:auto")
        ui.space()
        static(search("Find events", asked.find, "Find  /"), "")
        kinds = Html(made, style="width:auto")
        hold = Html(made, style="width:auto")
    with ui.element("section").classes("m-card").props('aria-label="Events"'):
        listed = Html(made)

    def show(seen: Seen) -> None:
        kept[0] = kept[0] if asked.held else seen
        chosen = [row for row in kept[0].rows if _wanted(row, asked)]
        count.show(f'<span class="m-note">{counted(len(chosen), "event")}</span>')
        kinds.show(_kinds(asked.kind, kept[0].rows))
        hold.show(_hold(asked.held, len(seen.rows) - len(kept[0].rows)))
        listed.show(_list(made, kept[0], chosen, asked))

    async def again() -> None:
        seen = await run.io_bound(load, made)
        if seen is not None:
            show(seen)
            send(made)

    async def of_kind(event: given.GenericEventArguments) -> None:
        asked.kind = str(event.args) if str(event.args) in KINDS else "all"
        await again()

    async def found(event: given.GenericEventArguments) -> None:
        asked.find, asked.most = str(event.args)[:200], _MORE
        await again()

    async def more() -> None:
        asked.most += _MORE
        await again()

    async def held() -> None:
        asked.held = not asked.held
        await again()

    ui.on("kind", of_kind)
    ui.on("find", found)
    ui.on("more", more)
    ui.on("hold", held)
    return show


def _wanted(row: EventRow, asked: Asked) -> bool:
    low = asked.find.strip().lower()
    if low and low not in f"{row.reason} {spaced(row.reason)} {row.about} {row.note}".lower():
        return False
    return _is(row, asked.kind)


def _is(row: EventRow, kind: str) -> bool:
    if kind == "warnings":
        return row.type == "Warning"
    return kind == "all" or row.reason in _OF[kind]


def _kinds(chosen: str, rows: Sequence[EventRow]) -> str:
    made = "".join(
        f'<button type="button" aria-pressed="{str(key == chosen).lower()}" '
        f"onclick=\"muster.query('kind','{key}');emitEvent('kind','{key}')\">{name}"
        f"{f' {found}' if (found := sum(_is(row, key) for row in rows)) and key == 'warnings' else ''}</button>"
        for key, name in KINDS.items()
    )
    return f'<span class="m-seg" role="group" aria-label="Kind of events">{made}</span>'


def _hold(held: bool, fresh: int) -> str:
    words = f"Show {fresh} new" if held and fresh else "Resume" if held else "Pause"
    sign = icon("play_arrow" if held else "pause")
    style = "width:112px;justify-content:center"
    return f'<button class="m-btn" style="{style}" onclick="emitEvent(\'hold\')">{sign}{words}</button>'


def _list(made: Context, seen: Seen, chosen: Sequence[EventRow], asked: Asked) -> str:
    if not chosen:
        return _nothing(seen, asked)
    days = groupby(chosen[: asked.most], key=lambda row: day_of(row.last_s))
    body = "".join(
        f'<h2 class="m-head" style="margin:6px 0 2px">{day}</h2>{_day(made, list(rows), seen.now_s)}'
        for day, rows in days
    )
    left = len(chosen) - asked.most
    words = f"Show {min(left, _MORE)} older"
    more = f'<button class="m-btn" style="margin:8px auto 0" onclick="emitEvent(\'more\')">{words}</button>'
    return body + (f'<div style="display:flex">{more}</div>' if left > 0 else "")


def _nothing(seen: Seen, asked: Asked) -> str:
    if seen.rows:
        return empty("No event matches", "Take another kind, or fewer letters.", "search_off")
    if seen.older:
        return empty(
            "Nothing happened in this time",
            f"There are {counted(seen.older, 'event')} before: choose a longer range above.",
            "event_busy",
        )
    return empty(
        "Nothing happened yet", "Plans, moves, faults and power caps are told here as they happen.", "event_note"
    )


def _day(made: Context, rows: Sequence[EventRow], now_s: float) -> str:
    cells = "".join(_row(made, row, now_s) for row in rows)
    widths = '<colgroup><col style="width:132px"><col style="width:172px"><col style="width:120px"><col></colgroup>'
    head = '<thead class="m-hidden"><tr><th>When</th><th>What</th><th>About</th><th>Why</th></tr></thead>'
    return f'<table class="m-table" style="table-layout:fixed">{widths}{head}<tbody>{cells}</tbody></table>'


def _row(made: Context, row: EventRow, now_s: float) -> str:
    note = text(said(row.note))
    times = f" {chip(f'{row.count} times')}" if row.count > 1 else ""
    state = "warn" if row.type == "Warning" else "info" if row.reason in _OF["plans"] else "good"
    return (
        f'<tr><td class="m-nowrap">{time_of(row.last_s)} <span class="m-note">{ago(row.last_s, now_s)}</span></td>'
        f"<td>{badge(state, spaced(row.reason))}</td><td>{_about(made, row)}</td><td>{note}{times}</td></tr>"
    )


def _about(made: Context, row: EventRow) -> str:
    if row.kind == "GPUService":
        return link(short(row.about), made.link(f"/services/{row.about}"))
    if row.kind == "Node":
        return link(row.about, made.link("/cluster", find=row.about))
    return link(row.about, made.link("/power")) if row.kind == "PowerDomain" else text(short(row.about))
