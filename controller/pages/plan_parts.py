"""Parts of the pages that show a plan: why, what binds it, what runs where, what it changes of another. Pure."""

from collections.abc import Callable, Sequence
from html import escape

from controller.effect import nearest, unmoved
from controller.pages.parts import badge, chip, empty, facts, meter, note, table, text
from controller.pages.states import waits_words
from controller.pages.words import ago, asked, cause, change, clock, duration, money, rate, said, share, watts
from controller.web.model import AllocationRow, Binding, MoveRow, Outcome, PlanDiff
from planner.service import SLO
from planner.units import counted

_SOURCES = {"measured": "good", "modelled": "soft", "extrapolated": "warn"}


def why(one: Outcome, now_s: float, *, waits: bool = False) -> str:
    """What asked for a plan, and what it is for. `waits`: for a person."""
    reason = said(one.reason) or "Nothing is said of why."
    head = f'<div style="margin-bottom:8px"><span class="m-sub">{text(reason)}</span> {chip(cause(one.cause))}</div>'
    made = f'{ago(one.at_s, now_s)} <span class="m-soft">{clock(one.at_s)} UTC</span>' if one.at_s else "–"
    rows = (
        ("Proposed" if waits else "In force since", made),
        ("Planned for", rate(one.rate_per_s)),
        ("Costs", f"{money(one.usd_per_hour)}"),
        ("Draws", f"{watts(one.power_w)} <span class='m-soft'>at full load</span>"),
        ("Runs", f"{counted(one.replicas, 'replica')} on {counted(one.gpus, 'GPU')}"),
        ("Decision", f'<span class="m-mono">{text(one.decision or "–")}</span>'),
    )
    return head + facts(rows)


def binding(rows: Sequence[Binding]) -> str:
    """The limits that it stands at."""
    head = '<div class="m-head" style="margin-top:6px">What binds it</div>'
    if not rows:
        return head + note("No limit binds: it is the cheapest mix that holds the objective.")
    body = "".join(_binding(row) for row in rows)
    return f'{head}<div class="m-list">{body}</div>'


def _binding(row: Binding) -> str:
    used, limit = _amount(row.used, row.unit), _amount(row.limit, row.unit)
    ratio = row.used / row.limit if row.limit else 1.0
    what = row.what[:1].upper() + row.what[1:]
    return (
        f'<div class="m-item" style="padding:6px 0"><div style="display:flex;gap:12px;justify-content:space-between">'
        f'<span>{text(what)}</span><span class="m-nowrap">{used} <span class="m-soft">of {limit}</span></span></div>'
        f"{meter(min(ratio, 1.0), f'{what}: {used} of {limit}', warn=2.0)}</div>"
    )


def _amount(value: float, unit: str) -> str:
    shown: dict[str, Callable[[float], str]] = {"s": duration, "W": watts, "$/h": money}
    return shown[unit](value) if unit in shown else f"{value:,.0f} {unit}"


def nothing_runs() -> str:
    """In place of why a plan is as it is, where there is none: neither a time nor a cost is to be told of it."""
    return empty("No plan: nothing runs", "What is asked cannot be had, and nothing was in force before.", "block")


def allocations(one: Outcome, slos: Sequence[SLO] = (), feasible: bool = True, waits: Outcome | None = None) -> str:
    """What runs where. `slos`: what is asked; of each latency the class nearest its limit is shown. `waits`: the plan
    that waits for a person."""
    if not one.allocations:
        words = f"{waits_words(waits)}." if waits is not None else "There is no place for a replica."
        if waits is None and feasible:
            words = "The plan has no replica" + ("." if one.rate_per_s else ": at no request it needs none.")
        return empty("Nothing runs", words, "dns")
    rows = [
        (
            f'<div style="min-width:190px"><span class="m-strong">{row.replicas} ×</span> {text(row.recipe)}'
            + (f" {chip(row.pool)}" if row.pool != "serve" else "")
            + "</div>",
            f'{text(row.node_group)} <span class="m-soft">{text(row.zone)}</span>',
            str(row.gpus),
            share(row.busy_ratio, 0),
            _latency(row, slos, "ttft_s"),
            _latency(row, slos, "tpot_s"),
            money(row.usd_per_hour),
            badge(_SOURCES.get(row.source, "soft"), row.source) if row.source else "",
        )
        for row in one.allocations
    ]
    return table(
        ("Runs as", "Nodes", "GPUs", "Busy", "TTFT", "TPOT", "Cost", "Latencies"), rows, (2, 3, 4, 5, 6), "Replicas"
    )


def _latency(row: AllocationRow, slos: Sequence[SLO], metric: str) -> str:
    """`499 ms of 500 ms interactive`; the worst of all requests where none is asked for."""
    found = nearest(row.by_class, slos, metric)
    if found is None:
        return duration(getattr(row, metric))
    slo, worst_s = found
    more = f"of {asked(getattr(slo, metric))}" + (f" {slo.name}" if len(slos) > 1 else "")
    return f'{duration(worst_s)} <span class="m-soft">{text(more)}</span>'


def compare(past: Sequence[Outcome], chosen: Outcome | None, now_s: float) -> str:
    """What it is compared with: another outcome can be chosen, and stays in the address."""
    if chosen is None:
        return '<div class="m-head" style="margin-top:6px">What it changed</div>'
    rows = {one.decision: one for one in (*past[:40], chosen)}
    options = "".join(
        f'<option value="{escape(one.decision)}"{" selected" if one.decision == chosen.decision else ""}>'
        f"{ago(one.at_s, now_s)}, {text(cause(one.cause))}, {money(one.usd_per_hour)}</option>"
        for one in rows.values()
    )
    script = "const u=new URL(location);u.searchParams.set('against',this.value);location.assign(u)"
    pick = f'<select class="m-input" aria-label="Compare with" onchange="{script}">{options}</select>'
    return (
        f'<div class="m-row" style="margin-top:6px"><span class="m-head">Compared with the plan of</span>{pick}</div>'
    )


def changes(found: PlanDiff | None) -> str:
    """Every count that it changes, and what that comes to."""
    if found is None:
        return note("It is the first plan that the cluster keeps: there is none to compare with.")
    total = (
        f'<div class="m-row" style="gap:18px;min-height:0"><span class="m-strong">{change(found.usd_per_hour)}</span>'
        f"<span>{_signed(found.gpus, 'GPU')}</span><span>{_watts(found.power_w)} at full load</span>"
        + (f"<span>{_rate(found.rate_per_s)}</span>" if abs(found.rate_per_s or 0.0) >= 0.005 else "")
        + "</div>"
    )
    rows = "".join(_move(row) for row in found.moves) or note(_unmoved(found))
    return f'{total}<div class="m-list" style="margin-top:4px">{rows}</div>'


def _unmoved(found: PlanDiff) -> str:
    words = unmoved(found.after.cause, found.before.rate_per_s, found.after.rate_per_s)
    return f"{words[0].upper()}{words[1:]}."


def _move(row: MoveRow) -> str:
    more = row.after - row.before
    state, sign = ("m-accent", "+") if more > 0 else ("m-soft", "−")
    pool = f" {chip(row.pool)}" if row.pool != "serve" else ""
    return (
        f'<div class="m-move"><b class="{state}" style="font-weight:600">{sign}{abs(more)}</b>'
        f'<span>{text(row.recipe)}{pool} <span class="m-soft">on {text(row.node_group)}</span></span>'
        f'<span class="m-soft m-nowrap">{row.before} → {row.after}</span></div>'
    )


def _signed(number: int, noun: str) -> str:
    return f"{'+' if number > 0 else '−' if number < 0 else '±'}{counted(abs(number), noun)}"


def _watts(power_w: float) -> str:
    return f"{'+' if power_w > 0 else '−' if power_w < 0 else '±'}{watts(abs(power_w))}"


def _rate(per_s: float | None) -> str:
    per_s = per_s or 0.0
    return f"for {rate(abs(per_s))} {'more' if per_s >= 0 else 'less'}"
