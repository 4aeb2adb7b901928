"""Charts of the overview: objectives and cost by service, each in its colour, and power. Pure: options from views."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from controller.pages.charts import Limit, Line, Mark, lines
from controller.pages.context import Points
from controller.pages.style import OTHERS
from controller.pages.words import cause, short, watts
from controller.web.model import ServiceRow
from planner.units import counted

if TYPE_CHECKING:
    from controller.pages.overview import Seen

MOST_LINES = 6


def apart(rows: Sequence[ServiceRow]) -> tuple[Sequence[ServiceRow], Sequence[ServiceRow]]:
    """Services that have a line of their own, those that cost most, in the order given; and the others."""
    if len(rows) <= MOST_LINES:
        return rows, ()
    dear = {row.key for row in sorted(rows, key=lambda row: (-row.usd_per_hour, row.key))[: MOST_LINES - 1]}
    return [row for row in rows if row.key in dear], [row for row in rows if row.key not in dear]


def attained(seen: "Seen", dark: bool) -> Mapping[str, object]:
    """Shares of requests within the objective. A service that was not measured in this time has no line."""
    mine, _ = apart([row for row in seen.rows if _of(seen, "attainment_ratio", row)])
    rows = [
        Line(short(row.key), _of(seen, "attainment_ratio", row), colour=seen.tints.get(row.key, OTHERS)) for row in mine
    ]
    return lines(rows, "percent", seen.span, dark=dark, marks=_marks(seen))


def cost(seen: "Seen", dark: bool) -> Mapping[str, object]:
    """Cost on cost: the upper edge is that of all. Services that cost nothing in this time have no line."""
    paid = [row for row in seen.rows if any(usd for _, usd in _of(seen, "usd_per_hour", row))]
    mine, others = apart(paid)
    rows = [
        Line(short(row.key), _of(seen, "usd_per_hour", row), stack="cost", colour=seen.tints.get(row.key, OTHERS))
        for row in mine
    ]
    if others:
        added = _sum([_of(seen, "usd_per_hour", row) for row in others])
        rows.append(Line(counted(len(others), "other"), added, stack="cost", colour=OTHERS))
    return lines(rows, "money", seen.span, dark=dark, marks=_marks(seen))


def power(seen: "Seen", dark: bool) -> Mapping[str, object]:
    """Power of all nodes."""
    rows = [Line("all nodes", seen.series.get(("power_w", ""), ()), area=True)]
    limit = None
    if len(seen.domains) == 1 and seen.domains[0].gpus == seen.now.gpus_total:  # else it holds for a part of the line
        limit = Limit(f"budget {watts(seen.domains[0].budget_w)}", seen.domains[0].budget_w)
    return lines(rows, "watts", seen.span, dark=dark, limit=limit)


def _of(seen: "Seen", metric: str, row: ServiceRow) -> Points:
    return seen.series.get((metric, row.key), ())


def _sum(rows: Sequence[Points]) -> Points:
    """Together, at every moment of any of them; moments of all are parts of the same time."""
    found: dict[float, float] = {}
    for points in rows:
        for at_s, value in points:
            found[at_s] = found.get(at_s, 0.0) + value
    return sorted(found.items())


def _marks(seen: "Seen") -> list[Mark]:
    return [Mark(one.at_s, f"{short(one.service)}: {cause(one.cause)}") for one in seen.changes]
