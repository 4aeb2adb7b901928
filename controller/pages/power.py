"""Power: every domain against its budget, and the caps of its GPUs by priority."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from nicegui import events as given
from nicegui import run, ui

from controller.kube.rest import MERGE, ApiError
from controller.pages import parts
from controller.pages.charts import Line, Points, lines
from controller.pages.context import Context
from controller.pages.live import Chart, Html, Stat, charted, grid
from controller.pages.shell import send
from controller.pages.words import share, short, watts
from controller.web.model import DomainRow, GpuTile, NodeRow, domains, nodes
from planner.errors import BadInput
from planner.units import POWER, counted

_DRAWN = "Drawn now"


@dataclass(frozen=True)
class Seen:
    """What the page shows at one moment."""

    domains: Mapping[str, DomainRow]
    rows: Sequence[NodeRow]
    span: tuple[float, float]
    series: Mapping[tuple[str, str], Points]
    may_set: frozenset[str]


def load(made: Context) -> Seen:
    """Everything that the page shows."""
    found, span = made.view("domains", domains), made.span()
    wanted = [("power_w", ""), *((metric, row.name) for row in found for metric in ("power_w", "budget_w"))]
    series = {one: made.series(*one, *span) for one in wanted}
    may = frozenset(row.name for row in found if made.viewer.may("patch", "powerdomains", name=row.name))
    return Seen({row.name: row for row in found}, made.view("nodes", nodes), span, series, may)


def build(made: Context, first: Seen) -> Callable[[Seen], None]:
    """The page."""
    title = Html(made, "m-row")
    with grid("repeat(4, minmax(0, 1fr))"):
        tiles = [
            Stat(made, name) for name in ("All nodes", "In power domains", "Planned at full load", "Capped GPUs in use")
        ]
    parts_of = {name: _Domain(made, row, name in first.may_set) for name, row in first.domains.items()}
    nothing = Html(made)
    if not first.domains:
        whole = charted(made, 220, "Power of all nodes", "Power of all nodes over time")

    def show(seen: Seen) -> None:
        title.show(f'<h1 class="m-title">Power</h1>{_headline(seen)}')
        _tiles(tiles, seen)
        for name, part in parts_of.items():
            if name in seen.domains:
                part.show(seen, seen.domains[name])
        if not first.domains:
            words = "Make a PowerDomain with a budget, and name it in a node group: plans then stay below it."
            nothing.show(f'<div class="m-card">{parts.empty("No power domain", words, "bolt")}</div>')
            whole.show(
                lines([Line("drawn", seen.series[("power_w", "")], area=True)], "watts", seen.span, dark=made.dark)
            )

    return show


def _headline(seen: Seen) -> str:
    over = [row.name for row in seen.domains.values() if (row.drawn_w or 0.0) > row.budget_w]
    if over:
        return parts.badge("bad", f"{', '.join(over)} over budget")
    return parts.badge("good", "every domain is within its budget") if seen.domains else ""


def _tiles(tiles: Sequence[Stat], seen: Seen) -> None:
    whole, inside, planned, capped = tiles
    drawn = [row.power_w for row in seen.rows if row.power_w is not None]
    line = [value for _, value in seen.series[("power_w", "")]][-40:]
    whole.show(watts(sum(drawn)) if drawn else "–", counted(sum(row.gpus for row in seen.rows), "GPU"), line=line)
    budget, used = (
        sum(row.budget_w for row in seen.domains.values()),
        sum(row.drawn_w or 0.0 for row in seen.domains.values()),
    )
    if budget:
        inside.show(watts(used), f"of {watts(budget)}", ratio=used / budget)
        full = sum(row.planned_w for row in seen.domains.values())
        idle = sum(row.idle_w or 0.0 for row in seen.domains.values())
        parted = f"{watts(full)} by replicas, {watts(idle)} by idle GPUs"
        planned.show(watts(full + idle), parted, ratio=(full + idle) / budget)
    else:
        inside.show("–", "there is none")
        planned.show("–", "there is no domain")
    capped.show(*_capped([tile for row in seen.rows for tile in row.tiles]))


def _capped(tiles: Sequence[GpuTile]) -> tuple[str, str]:
    """GPUs in use that are held below what they may draw. Caps of idle ones slow nobody, so they are told apart."""
    caps = [tile for tile in tiles if tile.cap_w and tile.cap_w < (tile.tdp_w or 0.0)]
    busy = [tile.cap_w for tile in caps if tile.service and tile.cap_w is not None]
    idle = len(caps) - len(busy)
    said = [f"the lowest at {watts(min(busy))}" if busy else "no GPU in use is held back"]
    said += [f"{idle} idle limited"] if idle else []
    return f"{len(busy)}", "; ".join(said)


class _Domain:
    """One domain's card."""

    def __init__(self, made: Context, row: DomainRow, may_set: bool) -> None:
        self._made, self._name = made, (name := row.name)
        self._event = f"budget-{escape(name)}"
        with ui.element("section").classes("m-card").props(f'aria-label="Power domain {escape(name)}"'):
            with ui.element("div").classes("m-row"):
                self._head = Html(made, "m-row", "width:auto")
                ui.space()
                self._said = Html(made, style="width:auto")
                if may_set:
                    self._field(row.budget_w)
            with grid("minmax(0, 4fr) minmax(0, 8fr)", "gap:24px"):
                self._bars = Html(made)
                with ui.element("div"):
                    self._chart = Chart(made, 210, f"Power of {name} against its budget")
            self._caps = Html(made)

    def show(self, seen: Seen, row: DomainRow) -> None:
        """Have it be this."""
        chips = " ".join(map(parts.chip, row.groups))
        gpus = counted(row.gpus, "GPU")
        self._head.show(f'<h2 class="m-sub">{parts.text(row.name)}</h2>{chips}<span class="m-note">{gpus}</span>')
        self._bars.show(_bars(row))
        rows = [
            Line("drawn", seen.series.get(("power_w", row.name), ()), area=True),
            Line("budget", seen.series.get(("budget_w", row.name), ()), dashed=True),
        ]
        self._chart.show(lines(rows, "watts", seen.span, dark=self._made.dark))
        self._caps.show(_caps(self._made, row))

    def _field(self, now_w: float) -> None:
        script = f"emitEvent('{self._event}', this.elements.budget.value); return false"
        label = f"New budget of {escape(self._name)}"
        ui.html(
            f'<form class="m-row" style="gap:6px;flex-wrap:nowrap" onsubmit="{script}">'
            f'<input name="budget" class="m-input" style="width:92px" aria-label="{label}" value="{_written(now_w)}">'
            '<button class="m-btn">Set budget</button></form>',
            sanitize=False,
        )
        ui.on(self._event, self._set)

    async def _set(self, event: given.GenericEventArguments) -> None:
        wanted = str(event.args).replace(" ", "")[:40]
        wrong = await run.io_bound(_set, self._made, self._name, wanted)
        good = f"{self._name} may draw {wanted} now"
        self._said.show(parts.badge("bad", wrong) if wrong else parts.badge("good", good))
        send(self._made)


def _set(made: Context, name: str, wanted: str) -> str:
    """Give a domain another budget; what was said against it."""
    if not made.viewer.may("patch", "powerdomains", name=name):
        return "Your token may not change power domains."
    try:
        POWER.parse(wanted)
        path = made.site.served.need("powerdomains").path("", name)
        made.site.objects.request("PATCH", path, {"spec": {"budget": wanted}}, content_type=MERGE)
    except (BadInput, ApiError) as error:
        return str(error)
    return ""


def _written(power_w: float) -> str:
    """A budget as the field has it: exact, in the larger unit where it is whole in it."""
    return f"{power_w / 1000:g}kW" if power_w >= 1000 else f"{power_w:g}W"


def _bars(row: DomainRow) -> str:
    """What is drawn, what may be drawn, and what is planned, each against the budget."""
    used, idle = counted(row.gpus - row.idle_gpus, "GPU"), watts(row.idle_w)
    busy_w = None if row.drawn_w is None else row.drawn_w - (row.idle_w or 0.0)
    rows = (
        (_DRAWN, row.drawn_w, f"{watts(busy_w)} by {used} in use, {idle} by {row.idle_gpus} idle"),
        (
            "Planned",
            row.planned_w + (row.idle_w or 0.0),
            f"{watts(row.planned_w)} by replicas at full load, {idle} by idle GPUs as now",
        ),
        ("Limits in force", row.allowed_w, "the most that all its GPUs may draw, idle ones too"),
    )
    most = max([row.budget_w, *(value for _, value, _ in rows if value is not None)])
    body = "".join(_bar(name, value, words, row.budget_w, most) for name, value, words in rows)
    return f'<div class="m-list">{body}</div>{parts.note(f"The mark is the budget of {watts(row.budget_w)}.")}'


def _bar(name: str, value: float | None, words: str, budget: float, most: float) -> str:
    said = f"{name}: {watts(value)} of {watts(budget)}"
    colour = parts.tone((value or 0.0) / budget) if name == _DRAWN else "accent"
    bar = "" if value is None else parts.meter(value / most, said, (budget / most,), colour=colour)
    part = "" if value is None else f"{100 * value / budget:.0f} %"
    return (
        f'<div class="m-item" style="padding:7px 0"><div style="display:flex;justify-content:space-between">'
        f'<span>{name}</span><span>{watts(value)} <span class="m-soft">{part}</span></span>'
        f"</div>{bar}{parts.note(words)}</div>"
    )


def _caps(made: Context, row: DomainRow) -> str:
    if not row.caps:
        return parts.note("No plan uses GPUs of this domain.")
    rows = [
        (
            str(one.priority),
            parts.swatch(made.tint(one.service))
            + parts.link(short(one.service), made.link(f"/services/{one.service}"), "m-strong"),
            parts.text(one.recipe),
            parts.text(one.node_group),
            str(one.gpus),
            '<span class="m-soft">none</span>' if one.cap_w is None else watts(one.cap_w),
            watts(one.planned_w),
            parts.meter(
                one.planned_w / row.budget_w, f"{share(one.planned_w / row.budget_w, 0)} of the budget", warn=2.0
            ),
        )
        for one in row.caps
    ]
    heads = ("Priority", "Service", "Runs as", "Nodes", "GPUs", "Cap of each", "Planned", "Of the budget")
    lowest = parts.note("When power is short, GPUs of services with lower priority are capped first.")
    return parts.table(heads, rows, (4, 5, 6), "Caps by priority") + f"<div style=height:8px></div>{lowest}"
