"""What other limits would cost: worked out on demand beside the controller, with its progress, and kept for all."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nicegui import run, ui

from controller.pages import parts
from controller.pages.charts import Unit
from controller.pages.context import Context
from controller.pages.curves import Spot, chart
from controller.pages.live import card, grid, static
from controller.pages.style import SERIES, colours
from controller.pages.words import duration, money, rate, watts
from controller.plan_child import PlanningFailed
from controller.web.explore import LONGEST_S, Busy, Curves, Explained, Point, Saving
from planner.units import counted

__all__ = ["Progress", "WhatIf", "draw"]
Priced = tuple[Point, float]
Of = Callable[[Point], float | None]
_FREE = re.compile(r"\.(?:free\d+|more)\b")


@dataclass
class Progress:
    """How far some work is; written by the thread that works, read by the page."""

    words: str = ""
    done: int = 0
    every: int = 0
    began_s: float = 0.0

    def begin(self, words: str) -> None:
        """Another piece of work."""
        self.words, self.done, self.every, self.began_s = words, 0, 0, time.monotonic()

    def told(self, done: int, every: int) -> None:
        """So many of so many are done."""
        self.done, self.every = done, every

    def html(self) -> str:
        """As a bar with words; the time where nobody counts."""
        passed_s = time.monotonic() - self.began_s
        far = f"{self.done} of {self.every} plans" if self.every else f"{passed_s:.0f} s"
        ratio = self.done / self.every if self.every else min(passed_s / LONGEST_S, 0.95)
        said = f"{self.words} · {far}, at most {LONGEST_S:.0f} s"
        bar = parts.meter(ratio, said, warn=2.0)
        style = "padding:20px 0;max-width:420px;margin:auto;width:100%"
        return f'<div role="status" style="{style}">{parts.note(said)}{bar}</div>'


class WhatIf:
    """The card that explains a plan by what it would be under other limits."""

    def __init__(self, made: Context, key: str) -> None:
        self._made, self._key, self._decision = made, key, ""
        self._progress, self._shown, self._worked = Progress(), "", ""  # _worked: the decision of what is drawn
        with card("What other limits would cost", "planned from scratch, without the price of change") as self._card:
            self._old = ui.element("div").style("width:100%")
            self._place = ui.element("div").style("width:100%")

    def _outdated(self) -> None:
        words = "The plan was changed since this was worked out: it is of the rate and the fleet of then."
        self._old.clear()
        with self._old:
            static(parts.banner("soft", "Out of date", words))
            with ui.element("button").classes("m-btn").style("margin-top:6px").on("click", self._go):
                static(f"{parts.icon('insights')}Work it out again", "display:contents")

    def of(self, decision: str) -> None:
        """Show what is known for a decision; another decision's answers stay until they are asked for anew, and say
        that they are another's."""
        self._decision = decision
        if self._shown:
            if self._worked and self._worked != decision:
                self._worked = ""
                self._outdated()
            return
        self._shown = decision
        kept = self._made.answers.get(f"{self._key}:{decision}")
        if isinstance(kept, tuple):
            said, curves = kept
            self._draw(said, curves, decision)
        else:
            self._offer("")

    def _offer(self, wrong: str) -> None:
        self._place.clear()
        with self._place, ui.element("div").classes("m-empty").style("padding:14px"):
            words = (
                "What one more GPU, more power or a looser objective would save; cost against rate and objective; the "
                "Pareto fronts of cost against latency and against power."
            )
            static(
                f"<span>{words}</span>"
                + (f'<div class="m-wrong" role="alert">{parts.text(wrong)}</div>' if wrong else ""),
                "",
            )
            with ui.element("button").classes("m-btn").style("margin-top:6px").on("click", self._go):
                static(f"{parts.icon('insights')}Work it out", "display:contents")

    async def _go(self) -> None:
        obj = self._made.site.known.service(self._key)
        if obj is None:
            self._offer("The service is gone.")
            return
        explorer, site, asked = self._made.web.explorer, self._made.site, self._progress
        decision = self._decision  # that is planned from: another may come into force meanwhile
        self._old.clear()
        self._place.clear()
        with self._place:
            asked.begin("What each limit costs")
            bar = ui.html(asked.html(), sanitize=False).style("width:100%")
            watch = ui.timer(0.4, lambda: bar.set_content(asked.html()))
        try:
            said = await run.io_bound(explorer.explain, site, obj, asked.told)
            asked.begin("Cost at other rates and objectives")
            curves = await run.io_bound(explorer.curves, site, obj, asked.told)
        except (Busy, PlanningFailed) as error:
            self._offer(str(error) or "Others are asking; try again in a moment.")
            return
        finally:
            watch.cancel()
        if said is None or curves is None:
            return  # the server ends
        self._made.answers.keep(f"{self._key}:{decision}", (said, curves))
        self._draw(said, curves, decision)

    def _draw(self, said: Explained, curves: Curves, decision: str) -> None:
        self._worked = decision
        self._place.clear()
        with self._place, grid("minmax(0, 5fr) minmax(0, 7fr)", "gap:20px"):
            static(_savings(said, rate_of(curves)))
            with ui.element("div"):
                draw(self._made, curves, fronts=True)


def rate_of(found: Curves) -> float | None:
    """The rate that was worked out for, as points with other objectives have it; None where there are none."""
    return found.by_slo[0].rate_per_s if found.by_slo else None


def _savings(said: Explained, rate_per_s: float | None) -> str:
    rows = sorted(said.savings, key=lambda one: -(one.saves_usd_per_hour or 0.0))
    of = f" for {rate(rate_per_s)}" if rate_per_s else ""
    head = parts.note(f"The best plan from scratch{of} costs {money(said.usd_per_hour)}.")
    if rows and all((one.saves_usd_per_hour or 0.0) <= 0.005 for one in rows):
        head += parts.note("Loosening none of these would make it cheaper.")
    body = [(parts.text(_named(row)), money(row.usd_per_hour), _saves(row)) for row in rows]
    more = "" if said.complete else parts.note("The time did not suffice for every limit.")
    return (
        head
        + '<div style="height:8px"></div>'
        + parts.table(("With", "It would cost", "Saves"), body, (1, 2), "Savings")
        + more
    )


def _named(row: Saving) -> str:
    words = _FREE.sub("", row.words)
    return words[:1].upper() + words[1:]


def _saves(row: Saving) -> str:
    if row.saves_usd_per_hour is None:
        return '<span class="m-soft">no plan</span>'
    if row.saves_usd_per_hour <= 0.005:
        return '<span class="m-soft">nothing</span>'
    return f'<b class="m-good" style="font-weight:600">{money(row.saves_usd_per_hour)}</b>'


def draw(made: Context, found: Curves, *, fronts: bool, there: bool = True) -> None:
    """Cost against rate and objective, and with `fronts` against latency and power. Place them in a column. `there`:
    whether the service runs, or is only asked for."""
    here_is = "as things are" if there else "as asked for"
    of_what = "of today's latencies" if there else "of the objective asked for"
    by_rate, by_slo = [_priced(rows) for rows in (found.by_rate, found.by_slo)]
    now = next((one for one in by_slo if one[0].slo_factor == 1.0), None)

    def plot(head: str, rows: Sequence[Priced], x: tuple[str, Unit], of: Of, pareto: bool = False) -> None:
        spots = [Spot(at, usd, _words(p)) for p, usd in rows if (at := of(p)) is not None]
        here = None
        if now is not None and (at := of(now[0])) is not None:
            here = Spot(at, now[1], _words(now[0]))
        _one(head, chart(spots, x, dark=made.dark, here=here, pareto=pareto), len(spots))

    with grid("repeat(2, minmax(0, 1fr))", "gap:14px"):
        plot("Cost against rate", by_rate, ("requests/s", "count"), lambda p: p.rate_per_s)
        plot(
            "Cost against the objective",
            by_slo,
            (of_what, "percent"),
            lambda p: p.slo_factor,
        )
        if fronts:
            plot("Pareto front: cost against latency", by_slo, ("predicted TTFT", "seconds"), lambda p: p.ttft_s, True)
            plot("Pareto front: cost against power", by_slo, ("power at full load", "watts"), lambda p: p.power_w, True)
    palette = SERIES[made.dark]
    legend = [
        (here_is, palette[1], False),
        ("cheapest plan at each point", palette[0], False),
    ]
    if fronts:
        legend.append(("beaten by another point", colours(made.dark)["soft"], False))
    static(parts.keys(legend))
    every = len(found.by_rate) + len(found.by_slo)
    missing = every - len(by_rate) - len(by_slo)
    if missing:
        static(parts.note(f"At {missing} of {every} points there is no plan."))
    if not found.complete:
        static(parts.note("The time did not suffice for every point."))


def _priced(rows: Sequence[Point]) -> list[Priced]:
    """Points at which there is a plan, with its cost."""
    return [(one, one.usd_per_hour) for one in rows if one.usd_per_hour is not None]


def _one(head: str, options: dict[str, object], count: int) -> None:
    with ui.element("div").style("min-width:0"):
        static(f'<div class="m-note m-strong">{parts.text(head)}</div>')
        if count == 0:
            static(parts.empty("No point", "At none of them there is a plan.", "show_chart"))
            return
        place = ui.echart(options).style("height:138px;width:100%")
        place.props(f'role="img" aria-label="{parts.text(head)}"')


def _words(p: Point) -> str:
    looser = "" if p.slo_factor == 1.0 else f", objectives × {p.slo_factor:g}"
    latency = f"TTFT {duration(p.ttft_s)}, TPOT {duration(p.tpot_s)}"
    fleet = f"{counted(p.gpus or 0, 'GPU')}, {watts(p.power_w)}"
    return f"<b>{money(p.usd_per_hour)}</b> at {rate(p.rate_per_s)}{looser}<br>{fleet}<br>{latency}"
