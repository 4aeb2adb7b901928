"""Pieces that pages are made of: stat tiles, cards, tables, states. Text from outside is always escaped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from nicegui import ui

from controller.pages.shell import Context

STATES = {  # class, sign, for people who cannot tell colours apart a sign and a word each
    "good": ("m-good", "check_circle"),
    "warn": ("m-warn", "error"),
    "bad": ("m-bad", "cancel"),
    "soft": ("m-soft", "pending"),
}


@contextmanager
def card(head: str = "", note: str = "") -> Iterator[ui.element]:
    """A card with a heading."""
    with ui.element("section").classes("m-card") as made:
        if head:
            made.props(f'aria-label="{escape(head)}"')
            with ui.element("div").classes("m-head"):
                ui.label(head)
                if note:
                    ui.label(note).classes("m-note").style("font-weight:400")
        yield made


@contextmanager
def grid(columns: str) -> Iterator[None]:
    """Cards side by side: `columns` as CSS has them."""
    with ui.element("div").classes("m-grid").style(f"grid-template-columns:{columns}"):
        yield


def stat(
    made: Context, head: str, value: Callable[[], str], note: Callable[[], str], ratio: Callable[[], float | None]
) -> None:
    """A figure with a line below it, and a bar where it is a share of something."""
    with card(head):
        figure = ui.label().classes("m-value")
        bar = ui.html("", sanitize=False).style("width:100%")
        below = ui.label().classes("m-note")

    def update() -> None:
        figure.set_text(value())
        below.set_text(note())
        bar.set_content(meter(found) if (found := ratio()) is not None else "")

    made.keep(update)


def meter(ratio: float, warn: float = 0.9) -> str:
    """A bar that is full to a share; full ones are told by colour too."""
    colour = "var(--bad)" if ratio > 1 else "var(--warn)" if ratio > warn else "var(--accent)"
    width = 100 * min(max(ratio, 0.0), 1.0)
    label = f'role="img" aria-label="{100 * ratio:.0f} percent"'
    return f'<div class="m-bar" {label}><div style="width:{width:.1f}%;background:{colour}"></div></div>'


def badge(state: str, words: str) -> str:
    """A state: colour, sign and word."""
    css, sign = STATES[state]
    return (
        f'<span class="m-badge {css}"><i class="q-icon notranslate material-icons" aria-hidden="true">{sign}</i>'
        f"{escape(words)}</span>"
    )


def chip(words: str) -> str:
    """A word in a pill."""
    return f'<span class="m-chip">{escape(words)}</span>'


def link(words: str, path: str) -> str:
    """A link; `path` is one of ours."""
    return f'<a href="{escape(path, quote=True)}">{escape(words)}</a>'


def text(words: object) -> str:
    """Escaped."""
    return escape(str(words))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), empty: str = "") -> str:
    """A table of cells that are HTML already; `right` names columns of figures."""
    if not rows:
        return f'<div class="m-empty">{escape(empty)}</div>'

    def css(index: int) -> str:
        return ' class="r"' if index in right else ""

    head = "".join(f'<th scope="col"{css(i)}>{escape(one)}</th>' for i, one in enumerate(heads) if any(heads))
    body = "".join("<tr>" + "".join(f"<td{css(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows)
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="m-scroll"><table class="m-table">{top}<tbody>{body}</tbody></table></div>'


def live_html(made: Context, content: Callable[[], str]) -> ui.html:
    """HTML that is made anew every two seconds, and sent only where it differs."""
    shown = ui.html("", sanitize=False).style("width:100%")

    def update() -> None:
        fresh = content()
        if fresh != shown.content:
            shown.set_content(fresh)

    made.keep(update)
    return shown


def live_chart(made: Context, height: int, options: Callable[[], Mapping[str, Any]], label: str) -> None:
    """A chart that follows."""
    chart = (
        ui.echart(dict(options()))
        .style(f"height:{height}px;width:100%")
        .props(f'role="img" aria-label="{escape(label)}"')
    )

    def update() -> None:
        fresh = dict(options())
        if fresh != dict(chart.options):
            chart.options.clear()
            chart.options.update(fresh)
            chart.update()

    made.live.append(update)


def chart(height: int, options: Mapping[str, Any], label: str) -> None:
    """A chart that stays."""
    ui.echart(dict(options)).style(f"height:{height}px;width:100%").props(f'role="img" aria-label="{escape(label)}"')
