"""What the overview says beside its title: the worst first. Pure."""

from typing import TYPE_CHECKING

from controller.pages import parts
from controller.pages.states import state_words
from controller.pages.words import few, short
from controller.web.model import ServiceRow
from planner.units import counted

if TYPE_CHECKING:
    from controller.pages.overview import Seen

_MOST_SAID = 3  # beside the title
_SOON = ("NotPlanned", "Solving", "Applying", "Starting", "WaitingForWeights", "NotSeen")


def headline(seen: "Seen") -> str:
    """The worst that there is to say, the worst first, or that there is nothing."""
    if said := [*_bad(seen), *_amiss(seen)]:
        return "".join(parts.badge(state, words) for state, words in said[:_MOST_SAID])
    asking = [row for row in seen.rows if row.key in seen.asking and (row.replicas or not row.ready)]
    unseen = [short(row.key) for row in asking if row.slo != "Met"]
    if len(unseen) == len(asking):
        return parts.badge("soft", "no objective is observed yet") if unseen else ""
    if unseen:
        return parts.badge("soft", f"the objective of {few(unseen)} is not observed yet")
    return parts.badge("good", "every objective is held")


def _bad(seen: "Seen") -> list[tuple[str, str]]:
    """What serves nobody as it was asked to."""
    none = [short(row.key) for row in seen.rows if state_words(row)[0] == "bad" and row.reason == "Infeasible"]
    down = [short(row.key) for row in seen.rows if _is_down(row) and row.reason not in ("Infeasible", *_SOON)]
    missed = [short(row.key) for row in seen.rows if row.slo == "Missed" and short(row.key) not in down]
    over = [row.name for row in seen.domains if (row.drawn_w or 0.0) > row.budget_w]
    out = seen.now.nodes_out if seen.fleet else 0
    found = (
        (none, f"no plan possible for {few(none)}"),
        (down, f"{few(down)}: no replica serves"),
        (missed, f"{few(missed)} {'misses' if len(missed) == 1 else 'miss'} the objective"),
        (out, f"{counted(out, 'node')} out for faults"),
        (over, f"{few(over)} over the power budget"),
    )
    return [("bad", words) for is_so, words in found if is_so]


def _is_down(row: ServiceRow) -> bool:
    """Requests come, and nothing serves them, though nobody has paused it or has to say yes first."""
    return bool(row.rate_per_s) and not row.replicas_ready and not row.paused and not row.awaits_approval


def _amiss(seen: "Seen") -> list[tuple[str, str]]:
    part = [short(row.key) for row in seen.rows if row.reason == "PartiallyServing" and row.replicas_ready]
    waits = [short(row.key) for row in seen.rows if row.awaits_approval]
    soon = [short(row.key) for row in seen.rows if _is_down(row) and row.reason in _SOON]
    found = (
        (soon, f"{few(soon)}: no replica serves yet"),
        (part, f"{few(part)}: a part is served"),
        (waits, f"a plan of {few(waits)} waits for approval"),
    )
    return [("warn", words) for is_so, words in found if is_so]
