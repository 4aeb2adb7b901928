"""Events: what happened, the newest first, filtered by word and kind, as it happens."""

from nicegui import run, ui

from controller.kube.rest import ApiError
from controller.pages.parts import badge, card, chip, table, text
from controller.pages.shell import Context
from controller.pages.words import moment
from controller.web.model import EventRow, events

_MOST = 300


def build(made: Context, wanted: str) -> None:
    """The page. `wanted`: a word that events must have."""
    state = {"word": wanted, "warnings": False}
    with ui.element("div").classes("m-row"):
        ui.html('<h1 class="m-title">Events</h1>', sanitize=False)
        ui.space()
        word = (
            ui.input(placeholder="Filter", value=wanted)
            .props('outlined dense clearable aria-label="Filter"')
            .style("width:260px")
        )
        only = ui.checkbox("Warnings only").props("dense")
    with card():
        shown = ui.html('<div class="m-note">Loading …</div>', sanitize=False).style("width:100%")

    async def load() -> None:
        try:
            rows = await run.io_bound(events, made.site) or []
        except ApiError as error:
            shown.set_content(f'<div class="m-empty">{text(error)}</div>')
            return
        fresh = _table(made, rows, str(state["word"] or ""), bool(state["warnings"]))
        if fresh != shown.content:
            shown.set_content(fresh)

    async def changed() -> None:
        state.update(word=word.value, warnings=only.value)
        await load()

    word.on_value_change(changed)
    only.on_value_change(changed)
    ui.timer(2.0, load)


def _table(made: Context, rows: list[EventRow], word: str, warnings: bool) -> str:
    low = word.lower()
    chosen = [
        row
        for row in rows
        if (not warnings or row.type == "Warning")
        and (not low or low in f"{row.reason} {row.about} {row.note}".lower())
        and made.viewer.may("list", "events", row.namespace, group="events.k8s.io")
    ]
    cells = [
        (
            f'<span class="m-note" style="white-space:nowrap">{moment(row.last_s)}</span>',
            badge("warn" if row.type == "Warning" else "good", row.reason),
            text(row.about.removeprefix("default/")),
            text(row.note) + (f" {chip(f'{row.count} times')}" if row.count > 1 else ""),
        )
        for row in chosen[:_MOST]
    ]
    more = f'<div class="m-note">{len(chosen) - _MOST} older events are not shown.</div>' if len(chosen) > _MOST else ""
    return (
        table(
            ("When (UTC)", "What", "About", "Why"), cells, (), "No event matches." if rows else "Nothing happened yet."
        )
        + more
    )
