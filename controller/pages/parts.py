"""Pieces that pages are made of, as HTML: tables, states, figures, empty places. Text from outside is escaped. Pure."""

from collections.abc import Sequence
from html import escape

STATES = {  # class, sign: people who cannot tell colours apart have a sign, and the words beside it
    "good": ("m-good", "check_circle"),
    "warn": ("m-warn", "warning"),
    "bad": ("m-bad", "cancel"),
    "soft": ("m-soft", "pending"),
    "info": ("m-accent", "info"),
}


def text(words: object) -> str:
    """Escaped."""
    return escape(str(words))


def icon(name: str) -> str:
    """A sign that says nothing that the words beside it don't."""
    return f'<i class="material-icons notranslate" aria-hidden="true">{name}</i>'


def badge(state: str, words: str) -> str:
    """A state: colour, sign and word."""
    css, sign = STATES[state]
    return f'<span class="m-badge {css}">{icon(sign)}{escape(words)}</span>'


def chip(words: str) -> str:
    """A word in a pill."""
    return f'<span class="m-chip">{escape(words)}</span>'


def note(words: str, css: str = "") -> str:
    """Small print."""
    return f'<div class="m-note {css}">{escape(words)}</div>'


def tip(words: str, whole: str, css: str = "") -> str:
    """A few words for many, which the mouse and the keyboard show alike."""
    return f'<span class="m-tip {css}" tabindex="0" title="{escape(whole)}">{escape(words)}</span>'


def folded(words: str, whole: str, css: str = "") -> str:
    """A few words that open to all of them; where those are the few, only them. `words` is HTML."""
    if not whole or whole == words:
        return words
    head = f'<summary title="{escape(whole)}">{words}</summary>'
    return f'<details class="m-why {css}">{head}<div class="m-note">{escape(whole)}</div></details>'


def swatch(colour: str) -> str:
    """The colour of something in charts, beside its name."""
    return f'<i class="m-swatch" style="background:{colour}"></i>'


def link(words: str, path: str, css: str = "") -> str:
    """A link; `path` is one of ours."""
    return f'<a href="{escape(path, quote=True)}" class="{css}">{escape(words)}</a>'


def empty(head: str, words: str, sign: str = "inbox", more: str = "") -> str:
    """What a place says that has nothing to show: that, and what to do. `more` is HTML."""
    return f'<div class="m-empty">{icon(sign)}<b>{escape(head)}</b><span>{escape(words)}</span>{more}</div>'


def banner(state: str, head: str, words: str) -> str:
    """Something that a person should know before all else."""
    tone = {"soft": "soft", "info": "accent"}.get(state, state)
    inner = f'{badge(state, head)}<span class="m-words">{escape(words)}</span>'
    return f'<div class="m-banner" role="status" style="--tone:var(--{tone})">{inner}</div>'


def tone(ratio: float, warn: float = 0.9) -> str:
    """The colour of a share that should not reach one."""
    return "bad" if ratio > 1.0005 else "warn" if ratio > warn else "accent"


def meter(ratio: float, words: str, marks: Sequence[float] = (), warn: float = 0.9, colour: str = "") -> str:
    """A bar that is full to a share, with marks; `words` say it to those who hear it."""
    colour = colour or tone(ratio, warn)
    width = 100 * min(max(ratio, 0.0), 1.0)
    ticks = "".join(f'<b style="left:{100 * min(max(one, 0.0), 1.0):.1f}%"></b>' for one in marks)
    inner = f'<i style="width:{width:.1f}%;background:var(--{colour})"></i>{ticks}'
    return f'<span class="m-bar" role="img" aria-label="{escape(words)}">{inner}</span>'


def spark(values: Sequence[float]) -> str:
    """A line of a few values, without axes."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    wide, tall = (high - low) or 1.0, 20.0
    step = 80.0 / (len(values) - 1)
    points = " ".join(f"{2 + i * step:.1f},{23 - tall * (one - low) / wide:.1f}" for i, one in enumerate(values))
    level = f'<path d="M{points.replace(" ", "L")}"/>'
    return f'<svg class="m-spark" viewBox="0 0 84 26" preserveAspectRatio="none" aria-hidden="true">{level}</svg>'


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[int] = (),
    label: str = "",
    under: Sequence[str] = (),
) -> str:
    """A table of cells that are HTML already; `right` names columns of figures; `under`: what stands below each row,
    over all columns."""

    def css(index: int) -> str:
        return ' class="r"' if index in right else ""

    head = "".join(f'<th scope="col"{css(i)}>{escape(one)}</th>' for i, one in enumerate(heads))
    below = [*under, *[""] * (len(rows) - len(under))]
    body = "".join(
        f"<tr{' class=m-over' if more else ''}>"
        + "".join(f"<td{css(i)}>{cell}</td>" for i, cell in enumerate(row))
        + "</tr>"
        + (f'<tr class="m-under"><td colspan="{len(heads)}">{more}</td></tr>' if more else "")
        for row, more in zip(rows, below, strict=True)
    )
    name = f' aria-label="{escape(label)}"' if label else ""
    whole = f'<table class="m-table"{name}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="m-scroll" tabindex="-1">{whole}</div>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names with what they are, as HTML."""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{value}</td></tr>" for name, value in rows)
    return f'<table class="m-table m-facts"><tbody>{body}</tbody></table>'


def card(head: str, inner: str, aside: str = "", style: str = "") -> str:
    """A card that is HTML whole. `aside`: HTML at the right of the heading."""
    top = f'<div class="m-head"><h2 class="m-head">{escape(head)}</h2><span class="m-note">{aside}</span></div>'
    return f'<section class="m-card" aria-label="{escape(head)}" style="{style}">{top}{inner}</section>'


def keys(rows: Sequence[tuple[str, str, bool]]) -> str:
    """A legend: names with their colours, and whether their lines are dashed."""
    made = "".join(
        f'<span class="m-key{" dashed" if dashed else ""}" style="--c:{colour}"><i></i>{escape(name)}</span>'
        for name, colour, dashed in rows
    )
    return f'<span class="m-keys">{made}</span>'


def search(label: str, value: str, hint: str) -> str:
    """A field to find things by: what is typed is told as the event `find`, and kept in the address."""
    script = (
        "clearTimeout(this.late);this.late=setTimeout("
        "()=>{muster.query('find',this.value);emitEvent('find',this.value)},250)"
    )
    return (
        f'<input type="search" class="m-input" data-search style="width:210px" placeholder="{escape(hint)}" '
        f'aria-label="{escape(label)}" value="{escape(value)}" oninput="{script}">'
    )
