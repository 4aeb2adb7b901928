"""What changed last in the fleet, and why; first what waits for a person. Pure."""

from typing import TYPE_CHECKING

from controller.pages import parts
from controller.pages.context import Context
from controller.pages.states import waits_words
from controller.pages.words import ago, cause, change, money, said, short, time_of
from controller.web.model import Change, Outcome
from planner.units import counted

if TYPE_CHECKING:
    from controller.pages.overview import Seen


def changes(made: Context, seen: "Seen") -> str:
    """As a list."""
    told = [one for one in seen.changes if tells(one)]
    waiting = "".join(_waits(made, key, one, seen.now.at_s) for key, one in seen.waits.items())
    if not told and not waiting:
        words = "Each time a plan comes into force, this says what moved, what asked for it, and what it costs."
        return parts.empty("Nothing was planned yet", words, "history")
    return (
        '<div class="m-list" tabindex="0" aria-label="Changes">'
        + waiting
        + "".join(_change(made, one, seen.now.at_s) for one in told[:12])
        + "</div>"
    )


def tells(one: Change) -> bool:
    """Whether it says something: what moved nothing at no other cost is no news but where it is for other requests."""
    if one.diff is None or one.diff.moves or abs(one.diff.usd_per_hour) >= 0.005:
        return True
    return one.usd_per_hour > 0.0 and one.cause != "nodes_changed"


def _waits(made: Context, key: str, one: Outcome, now_s: float) -> str:
    """A plan that a person is asked about."""
    head = (
        f'<div class="m-row" style="min-height:0;gap:8px">'
        f"{parts.link(short(key), made.link(f'/plans/{key}'), 'm-strong')}{parts.badge('warn', 'waits for approval')}"
        f'<span class="m-note">{ago(one.at_s, now_s)}</span>'
        f'<span class="m-nowrap" style="margin-left:auto">{parts.text(money(one.usd_per_hour))}</span></div>'
    )
    return f'<div class="m-item">{head}{parts.note(waits_words(one))}</div>'


def _change(made: Context, one: Change, now_s: float) -> str:
    cost = money(one.usd_per_hour) if one.diff is None else change(one.diff.usd_per_hour)
    head = (
        f'<div class="m-row" style="min-height:0;gap:8px">'
        f"{parts.link(short(one.service), made.link(f'/plans/{one.service}'), 'm-strong')}"
        f"{parts.chip(cause(one.cause))}"
        f'<span class="m-note" title="{time_of(one.at_s)} UTC">{ago(one.at_s, now_s)}</span>'
        f'<span class="m-nowrap" style="margin-left:auto">{parts.text(cost)}</span></div>'
    )
    return f'<div class="m-item">{head}{parts.note(said(one.reason))}{_moves(one)}</div>'


def _moves(one: Change) -> str:
    if one.diff is None:
        return ""
    rows = [
        f"{row.before} → {row.after} × {parts.text(row.recipe)}"
        f" <span class='m-soft'>on {parts.text(row.node_group)}</span>"
        for row in one.diff.moves[:3]
    ]
    more = len(one.diff.moves) - 3
    if more > 0:
        rows.append(f'<span class="m-soft">and {counted(more, "other move")}</span>')
    same = "The same replicas" if one.usd_per_hour else "No replica"
    return f'<div style="font-size:12px;line-height:18px">{"<br>".join(rows) or same}</div>'
