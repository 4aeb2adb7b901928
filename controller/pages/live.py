"""Pieces of a page that follow what happens: the browser is sent only what changed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from nicegui import ui

from controller.pages import parts
from controller.pages.context import Context


class Html:
    """HTML that may change. `show` in every round; nothing is sent where it is the same."""

    def __init__(self, made: Context, css: str = "", style: str = "width:100%") -> None:
        self._made, self._content = made, ""
        self._element = ui.html("", sanitize=False).classes(f"m-html {css}").style(style)

    def show(self, content: str) -> None:
        """Have it be this."""
        if content == self._content:
            return
        self._content = content
        if self._made.begun:
            self._made.html.append((f"c{self._element.id}", content))
        else:
            self._element.set_content(content)


class Chart:
    """A chart over time that may change: points that are new are sent, the others stay. `head`: its heading, beside
    which a legend goes where there are several lines, or `keyed`, which says where their colours are told."""

    def __init__(self, made: Context, height: int, label: str, head: str = "", keyed: str = "") -> None:
        self._made, self._keyed = made, keyed
        self._options: dict[str, Any] = {}
        with ui.element("div").classes("m-head m-legend"):
            if head:
                ui.html(escape(head), sanitize=False, tag="h2").classes("m-head m-nowrap")
            self._legend = Html(made, style="margin-left:auto")
        self._element = ui.echart({}).style(f"flex:1 0 {height}px;height:{height}px;width:100%")
        self._element.props(f'role="img" aria-label="{escape(label)}"')

    def show(self, options: Mapping[str, Any]) -> None:
        """Have it be this."""
        if options == self._options:
            return
        old, self._options = self._options, dict(options)
        legend = _legend(self._options)
        self._legend.show(parts.note(self._keyed) if legend and self._keyed else legend)
        patch = _patch(old, self._options) if self._made.begun and old else None
        if patch is not None:
            self._made.charts.append((self._element.id, patch))
            return
        self._element.options.clear()
        self._element.options.update(self._options)
        self._element.update()


def _legend(options: Mapping[str, Any]) -> str:
    """The names of lines, where there are several."""
    named = [one for one in options["series"] if one["name"]]
    rows = [(one["name"], one["itemStyle"]["color"], one["lineStyle"]["type"] != "solid") for one in named]
    return parts.keys(rows) if len(rows) > 1 else ""


def _patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any] | None:
    """What makes the new chart of the old one where only points and the time differ; None where more does."""
    before, after = list(old.get("series", ())), list(new.get("series", ()))
    if len(before) != len(after) or not after:
        return None
    for was, now in zip(before, after, strict=True):
        if {k: v for k, v in was.items() if k != "data"} != {k: v for k, v in now.items() if k != "data"}:
            return None
    rest = [{k: v for k, v in one.items() if k not in ("series", "xAxis")} for one in (old, new)]
    if rest[0] != rest[1] or "min" not in new["xAxis"]:
        return None
    steps = [_tail(was["data"], now["data"]) for was, now in zip(before, after, strict=True)]
    return {"min": new["xAxis"]["min"], "max": new["xAxis"]["max"], "series": steps}


def _tail(was: Sequence[Any], now: Sequence[Any]) -> tuple[int, int, list[Any]]:
    """How many points go in front, how many stay after these, and what comes behind."""
    drop = next((i for i, one in enumerate(was) if now and one == now[0]), len(was))
    keep = 0
    while drop + keep < len(was) and keep < len(now) and was[drop + keep] == now[keep]:
        keep += 1
    return drop, keep, list(now[keep:])


class Stat:
    """A figure with its name, a line below it, and a bar or a small line over time."""

    def __init__(self, made: Context, head: str) -> None:
        self._head = head
        with ui.element("section").classes("m-card m-stat").props(f'aria-label="{escape(head)}"'):
            self._html = Html(made)

    def show(
        self,
        value: str,
        below: str = "",
        *,
        ratio: float | None = None,
        line: Sequence[float] = (),
        state: str = "",
        aside: str = "",
    ) -> None:
        """`value` as people write it, its unit smaller; `state` colours the line below and gives it a sign."""
        under = parts.badge(state, below) if state else parts.note(below)
        bar = "" if ratio is None else parts.meter(ratio, f"{self._head}: {100 * ratio:.0f} percent")
        head = f'<div class="m-label"><span>{escape(self._head)}</span><span>{escape(aside)}</span></div>'
        figure = f'<div class="m-value">{_figure(value)}</div>'
        gap = f'<div style="height:8px;display:flex;align-items:center">{bar}</div>' if bar else ""
        self._html.show(f"{head}{figure}{gap}{under}{parts.spark(line)}")


def _figure(value: str) -> str:
    """`3.2 kW` with a smaller unit."""
    number, gap, unit = value.partition(" ")
    return f"{escape(number)} <small>{escape(unit)}</small>" if gap else escape(value)


@contextmanager
def card(head: str, aside: str = "", style: str = "", level: str = "h2") -> Iterator[ui.element]:
    """A card with a heading; `aside`: HTML at its right."""
    with ui.element("section").classes("m-card").style(style).props(f'aria-label="{escape(head)}"') as made:
        ui.html(
            f'<{level} class="m-head">{escape(head)}</{level}>'
            + (f'<span class="m-note">{aside}</span>' if aside else ""),
            sanitize=False,
        ).classes("m-head").style("width:100%")
        yield made


@contextmanager
def grid(columns: str, style: str = "") -> Iterator[None]:
    """Side by side: `columns` as CSS has them."""
    with ui.element("div").classes("m-grid").style(f"grid-template-columns:{columns};{style}"):
        yield


def charted(made: Context, height: int, head: str, label: str, keyed: str = "") -> Chart:
    """A card that holds a chart."""
    with ui.element("section").classes("m-card").props(f'aria-label="{escape(head)}"'):
        return Chart(made, height, label, head, keyed)


def static(content: str, style: str = "width:100%") -> None:
    """HTML that stays."""
    ui.html(content, sanitize=False).style(style)
