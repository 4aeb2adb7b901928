"""Service: state and why, latencies and rates against objective and plan, replicas, routing, the plan's history."""

from collections.abc import Callable, Sequence
from functools import partial

from nicegui import run, ui

from controller.pages.charts import lines
from controller.pages.overview import state_of
from controller.pages.parts import badge, card, chip, grid, live_chart, live_html, stat, table, text
from controller.pages.shell import Context
from controller.pages.words import cause, clock, duration, money, rate, share, watts
from controller.web.model import ConditionRow, ServiceDetail, history, service
from controller.web.problems import Refused

_METRICS = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "End to end"}
_BAD_WHEN_TRUE = ("Degraded", "RebalanceHeld")


def build(made: Context, key: str) -> None:
    """The page of one service."""
    found = service(made.site, key)
    if found is None:
        with card():
            ui.html(
                f'<div class="m-empty">There is no service {text(key)}. It may have been deleted.</div>', sanitize=False
            )
        return
    kept = [found]
    made.keep(lambda: kept.__setitem__(0, service(made.site, key) or kept[0]))

    def now() -> ServiceDetail:
        return kept[0]

    with ui.element("div").classes("m-row"):
        ui.html(f'<h1 class="m-title">{text(key)}</h1>', sanitize=False)
        live_html(made, lambda: f"{state_of(now().service)} {chip(now().service.model)}").style("width:auto")
        ui.space()
        ui.link("Why this plan", made.link(f"/plans/{key}"))
        ui.link("Edit", made.link("/submit", service=key))
    with grid("repeat(5, minmax(0, 1fr))"):
        stat(
            made,
            "Rate",
            lambda: rate(now().service.rate_per_s),
            lambda: f"planned for {rate(now().service.planned_per_s)}",
            _none,
        )
        stat(
            made,
            "Within the objective",
            lambda: share(now().service.attainment_ratio),
            lambda: "of requests, last minute",
            _none,
        )
        stat(
            made,
            "Replicas ready",
            lambda: f"{now().service.replicas_ready} of {now().service.replicas}",
            lambda: f"{now().service.gpus} GPUs",
            _none,
        )
        stat(
            made,
            "KV cache in use",
            lambda: share(now().kv_cache_ratio, 0),
            lambda: f"{now().waiting or 0:.0f} requests wait",
            lambda: now().kv_cache_ratio,
        )
        stat(
            made,
            "Cost",
            lambda: money(now().service.usd_per_hour),
            lambda: f"{watts(now().service.power_w)} at full load",
            _none,
        )
    with grid("repeat(3, minmax(0, 1fr))"):
        for metric in ("ttft", "tpot"):
            with card(f"{_METRICS[f'{metric}_s']} against the objective"):
                live_chart(made, 170, partial(_latency_now, made, now, metric), f"{metric} over time")
        with card("Rate against the plan"):
            live_chart(made, 170, lambda: _rates(made, now()), "Requests per second over time")
    with grid("minmax(0, 3fr) minmax(0, 2fr)"):
        with card("Replicas"):
            live_html(made, lambda: _replicas(now()))
        with card("Latencies"):
            live_html(made, lambda: _latencies(now()))
    with grid("minmax(0, 3fr) minmax(0, 2fr)"):
        with card("The plan's history"):
            past = ui.html('<div class="m-note">Loading …</div>', sanitize=False).style("width:100%")
        with card("State"):
            live_html(made, lambda: _conditions(now().conditions))
    with card("Where requests go"):
        live_html(made, lambda: _weights(now()))

    async def load() -> None:
        past.set_content(await run.io_bound(_history, made, key) or "")

    ui.timer(0.1, load, once=True)
    ui.timer(10.0, load)


def _none() -> None:
    return None


def _latency_now(made: Context, now: Callable[[], ServiceDetail], metric: str) -> dict[str, object]:
    return _latency(made, now(), metric)


def _latency(made: Context, now: ServiceDetail, metric: str) -> dict[str, object]:
    key = now.service.key
    limits = [row.objective_s for row in now.latencies if row.metric == f"{metric}_s"]
    found = {"p95": made.series(f"{metric}_p95_s", key), "p50": made.series(f"{metric}_p50_s", key)}
    marks = _marks(now)
    limit = min(limits) if limits else None
    return lines(found, dark=made.dark, unit=" ms", scale=1000, limit=limit, span=made.span, marks=marks)


def _marks(now: ServiceDetail) -> list[tuple[float, str]]:
    plan = now.plan
    rows = [] if plan is None else [plan.current, *([plan.previous] if plan.previous else [])]
    return [(row.at_s, cause(row.cause)) for row in rows if row.at_s]


def _rates(made: Context, now: ServiceDetail) -> dict[str, object]:
    key = now.service.key
    found = {"requests": made.series("rate_per_s", key), "planned for": made.series("planned_per_s", key)}
    return lines(
        found, dark=made.dark, unit="/s", span=made.span, marks=_marks(now), dashed=("planned for",), area=True
    )


def _replicas(now: ServiceDetail) -> str:
    rows = [
        (
            text(row.recipe),
            text(row.node_group) + (f" {chip(row.pool)}" if row.pool != "serve" else ""),
            str(row.planned),
            str(row.ready),
            _moving(row.starting, row.leaving, row.stalled),
        )
        for row in now.replicas
    ]
    heads = ("Runs as", "Nodes", "Planned", "Ready", "On their way")
    return table(heads, rows, (2, 3), "No replica is planned.")


def _moving(starting: int, leaving: int, stalled: int) -> str:
    words = [f"{starting} starting" if starting else "", f"{leaving} leaving" if leaving else ""]
    said = ", ".join(one for one in words if one)
    return (badge("bad", f"{stalled} overdue") + " " if stalled else "") + (
        text(said) or '<span class="m-soft">–</span>'
    )


def _latencies(now: ServiceDetail) -> str:
    rows = [
        (
            text(row.slo_class),
            f"{_METRICS[row.metric]} p{100 * row.percentile_ratio:g}",
            duration(row.objective_s),
            duration(row.predicted_s),
            _held(row.observed_p95_s, row.objective_s),
        )
        for row in now.latencies
    ]
    return table(("Class", "Latency", "Asked", "Predicted", "Seen p95"), rows, (2, 3, 4), "No objective is asked for.")


def _held(seen_s: float | None, limit_s: float) -> str:
    if seen_s is None:
        return '<span class="m-soft">–</span>'
    return badge("good" if seen_s <= limit_s else "warn", duration(seen_s))


def _conditions(rows: Sequence[ConditionRow]) -> str:
    made = []
    for row in rows:
        good = (row.status == "True") != (row.type in _BAD_WHEN_TRUE)
        state = "soft" if row.status == "Unknown" else "good" if good else "warn"
        made.append(
            (badge(state, row.type), text(row.reason), f'<span class="m-note">{text(row.message[:160])}</span>')
        )
    return table(("Aspect", "Reason", ""), made, (), "Nothing is known yet.")


def _weights(now: ServiceDetail) -> str:
    rows = [
        (
            text(row.slo_class),
            f"{row.input_tokens:,} → {row.output_tokens:,}",
            text(row.recipe or row.kind),
            text(row.node_group),
            share(row.share_ratio, 0),
        )
        for row in now.weights
    ]
    heads = ("Class", "Tokens in → out, at most", "Replicas", "Nodes", "Share")
    return table(heads, rows[:40], (4,), "No request is routed yet.")


def _history(made: Context, key: str) -> str:
    try:
        found = history(made.site, key)
    except Refused as error:
        return f'<div class="m-empty">{text(error)}</div>'
    rows = [
        (
            clock(one.at_s),
            chip(cause(one.cause)),
            f'<span class="m-note">{text(one.reason)}</span>',
            rate(one.rate_per_s),
            str(one.replicas),
            money(one.usd_per_hour),
        )
        for one in (() if found is None else found.outcomes[:30])
    ]
    body = table(("When", "Cause", "Why", "For", "Replicas", "Cost"), rows, (3, 4, 5), "There is no plan yet.")
    more = (
        ""
        if found is None or found.complete
        else '<div class="m-note">A Kubernetes cluster keeps one earlier plan.</div>'
    )
    return f'<div style="max-height:320px;overflow:auto">{body}</div>{more}'
