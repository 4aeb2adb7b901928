"""Overview: cost, power, objectives and GPUs at a glance, the services, and what changed last and why."""

from collections.abc import Callable
from typing import TypeVar

from nicegui import ui

from controller.pages.charts import lines
from controller.pages.parts import badge, card, chip, grid, link, live_chart, live_html, stat, table, text
from controller.pages.shell import Context
from controller.pages.words import ago, cause, change, clock, count, money, rate, share, watts
from controller.web.model import Change, Overview, ServiceRow, overview, services

T = TypeVar("T")


def build(made: Context) -> None:
    """The page."""
    ui.html('<h1 class="m-title">Overview</h1>', sanitize=False)
    now = _once_a_tick(made, lambda: overview(made.site))
    with grid("repeat(5, minmax(0, 1fr))"):
        stat(made, "Cost", lambda: money(now().usd_per_hour), lambda: f"{now().replicas_ready} replicas serve", _none)
        stat(made, "Power", lambda: watts(now().power_w), lambda: _budget(made, now()), lambda: None)
        stat(
            made,
            "Within the objective",
            lambda: share(now().attainment_ratio),
            lambda: "of requests, last minute",
            _none,
        )
        stat(
            made,
            "GPUs in use",
            lambda: f"{now().gpus_used}",
            lambda: f"of {count(now().gpus_total)}",
            lambda: _used(now()),
        )
        stat(
            made, "Services ready", lambda: f"{now().services_ready} of {now().services}", lambda: _health(now()), _none
        )
    with grid("repeat(2, minmax(0, 1fr))"):
        with card("Requests within the objective"):
            live_chart(made, 168, lambda: _attained(made, now()), "Share of requests within the objective over time")
        with card("Cost"):
            live_chart(made, 168, lambda: _cost(made, now()), "Dollars an hour over time")
    with grid("minmax(0, 3fr) minmax(0, 2fr)"):
        with card("Services"):
            live_html(made, lambda: _services(made))
        with card("What changed last, and why"):
            live_html(made, lambda: _changes(made, now()))


def _none() -> None:
    return None


def _once_a_tick(made: Context, find: Callable[[], T]) -> Callable[[], T]:
    """What is found, looked up once for all that show it."""
    kept = [find()]
    made.keep(lambda: kept.__setitem__(0, find()))
    return lambda: kept[0]


def _used(now: Overview) -> float | None:
    return now.gpus_used / now.gpus_total if now.gpus_total else None


def _budget(made: Context, now: Overview) -> str:
    drawn, budgets = made.site.history.latest("power_w"), made.site.history.latest("budget_w")
    tight = [f"{name}: {watts(drawn.get(name, 0.0))} of {watts(most)}" for name, most in budgets.items() if name]
    return "; ".join(tight[:2]) or ("no power domain" if now.budget_w is None else f"of {watts(now.budget_w)}")


def _health(now: Overview) -> str:
    if now.nodes_out:
        return f"{now.nodes_out} of {now.nodes} nodes out"
    return f"{now.services_waiting} wait for a plan" if now.services_waiting else f"all {now.nodes} nodes are in"


def _marks(now: Overview) -> list[tuple[float, str]]:
    return [(one.at_s, cause(one.cause)) for one in now.changes]


def _attained(made: Context, now: Overview) -> dict[str, object]:
    found = {row.key: made.series("attainment_ratio", row.key) for row in _seen(made)}
    return lines(found, dark=made.dark, unit=" %", scale=100, span=made.span, marks=_marks(now))


def _cost(made: Context, now: Overview) -> dict[str, object]:
    found = {row.key: made.series("usd_per_hour", row.key) for row in _seen(made)}
    everything = {"all": made.series("usd_per_hour"), **found} if len(found) != 1 else found
    return lines(everything, dark=made.dark, unit=" $/h", span=made.span, marks=_marks(now))


def _seen(made: Context) -> list[ServiceRow]:
    """The services that whoever looks may see."""
    return [row for row in services(made.site) if made.viewer.may("get", "gpuservices", row.namespace)]


def _services(made: Context) -> str:
    rows = [
        (
            link(row.key if row.namespace != "default" else row.name, made.link(f"/services/{row.key}")),
            state_of(row),
            text(row.model.rpartition("/")[2]),
            f"{row.replicas_ready}/{row.replicas}",
            f"{rate(row.rate_per_s)} <span class='m-soft'>of {rate(row.planned_per_s)}</span>",
            share(row.attainment_ratio),
            money(row.usd_per_hour),
        )
        for row in _seen(made)
    ]
    heads = ("Service", "State", "Model", "Replicas", "Rate, planned for", "In time", "Cost")
    return table(heads, rows, (3, 4, 5, 6), "No service yet. Submit one to see a plan for it.")


def state_of(row: ServiceRow) -> str:
    """A service's state as a badge."""
    if row.paused:
        return badge("soft", "Paused")
    if row.awaits_approval:
        return badge("warn", "Needs approval")
    if row.slo == "Missed":
        return badge("warn", "Objective missed")
    if row.ready:
        return badge("good", "Serving")
    return badge("bad" if row.reason in _BAD else "soft", row.reason)


_BAD = ("InvalidSpec", "Infeasible", "PlanFailed", "ApplyFailed", "CrashLooping", "ImagePullFailed", "QuotaExceeded")


def _changes(made: Context, now: Overview) -> str:
    rows = [one for one in now.changes if made.viewer.may("get", "plans", one.service.partition("/")[0])]
    if not rows:
        return '<div class="m-empty">Nothing was planned yet.</div>'
    return '<div class="m-list">' + "".join(_change(made, one, now.at_s) for one in rows[:6]) + "</div>"


def _change(made: Context, one: Change, now_s: float) -> str:
    moved = (
        []
        if one.diff is None
        else [f"{row.node_group}: {row.recipe} {row.before} → {row.after}" for row in one.diff.moves]
    )
    cost = money(one.usd_per_hour) if one.diff is None else change(one.diff.usd_per_hour)
    when = f'<span class="m-note" title="{clock(one.at_s)}">{ago(one.at_s, now_s)}</span>'
    head = f"{link(one.service, made.link(f'/plans/{one.service}'))} {chip(cause(one.cause))} {when}"
    if one.diff is None:
        moved = ["the first plan"]
    what = "; ".join(moved[:3]) or "the same replicas"
    return (
        f'<div class="m-item"><div style="min-width:0"><div>{head}</div>'
        f'<div class="m-note">{text(one.reason)}</div><div class="m-note">{text(what)} · {text(cost)}</div></div></div>'
    )
