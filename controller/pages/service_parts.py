"""Tables of the page of one service. Pure: HTML from views."""

from collections.abc import Mapping, Sequence
from html import escape

from controller.pages.context import Context
from controller.pages.parts import badge, chip, empty, folded, keys, link, note, table, text, tip
from controller.pages.states import spaced
from controller.pages.style import SERIES
from controller.pages.words import ago, asked, cause, change, clock, duration, money, rate, said, share, tokens
from controller.web.model import ConditionRow, LatencyRow, Outcome, ReplicaRow, ServiceDetail, WeightRow
from planner.service import Bucket

_METRICS = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "End to end"}
_BAD_WHEN_TRUE = ("Degraded", "RebalanceHeld")
_ASPECTS = {  # names that say nothing of good or bad: the sign and the reason do
    "Accepted": "Spec", "Planned": "Plan", "Applied": "Objects", "Ready": "Serving", "Degraded": "Health",
    "RebalanceHeld": "Moves", "TelemetryFresh": "Telemetry",
}  # fmt: skip
_MOST_PAST = 30
_MOST_SIZES = 12
SOFT_DASH = '<span class="m-soft">–</span>'


def replicas(now: ServiceDetail) -> str:
    """What is planned beside what runs."""
    if not now.replicas:
        return empty("No replica yet", "Replicas appear here when a plan is in force.", "dns")
    rows = [
        (
            f'<span class="m-strong">{text(_gpus(row))}</span>' + (f" {chip(row.pool)}" if row.pool != "serve" else ""),
            f'<span class="m-soft">{text(row.recipe.partition(" ")[2] or "as it is published")}</span>',
            text(row.node_group),
            f"{row.planned * row.gpus_per_replica}",
            f"{row.ready} of {row.planned}",
            _moving(row),
        )
        for row in sorted(now.replicas, key=lambda one: (-one.planned, one.gpu, one.recipe))
    ]
    return table(("GPU", "Runs as", "Nodes", "GPUs", "Ready", ""), rows, (3, 4), "Replicas")


def _gpus(row: ReplicaRow) -> str:
    """What one replica runs on."""
    return row.gpu if row.gpus_per_replica == 1 else f"{row.gpus_per_replica} × {row.gpu}"


def _moving(row: ReplicaRow) -> str:
    said = []
    if row.stalled:
        said.append(badge("bad", f"{row.stalled} overdue"))
    if row.starting:
        said.append(badge("soft", f"{row.starting} starting"))
    if row.leaving:
        said.append(badge("soft", f"{row.leaving} leaving"))
    return " ".join(said)


def latencies(now: ServiceDetail) -> str:
    """What is asked, predicted and seen."""
    if not now.latencies:
        return empty("No objective", "The spec asks for no latency: only throughput counts.", "speed")
    rows = [
        (
            f'<span class="m-strong">{_METRICS[row.metric]}</span> <span class="m-soft">p{100 * row.percentile_ratio:g}'
            f", {text(row.slo_class)}</span>",
            asked(row.objective_s),
            duration(row.predicted_s),
            _observed(row, now.service.slo == "Missed"),
        )
        for row in now.latencies
    ]
    heads = ("Latency", "At most", "Planned, largest requests", "p95 seen, all requests")
    return table(heads, rows, (1, 2, 3), "Latencies") + _judged(now)


def _observed(row: LatencyRow, is_missed: bool) -> str:
    """Good only where the whole objective was held when it was judged: one page must not say both."""
    if row.observed_p95_s is None:
        return SOFT_DASH
    state = "bad" if row.observed_p95_s > row.objective_s else "soft" if is_missed else "good"
    return badge(state, duration(row.observed_p95_s))


def _judged(now: ServiceDetail) -> str:
    """What these figures are of, where the state seems to say other than they do."""
    if not now.service.replicas_ready:
        return note("No replica serves, so nothing is measured.", "m-after")
    held = all((row.observed_p95_s or 0.0) <= row.objective_s for row in now.latencies)
    if now.service.slo != "Missed" or not held:
        return ""
    return note(
        "The objective was missed when it was judged last; these figures are of the last minute, and within it."
    )


def conditions(now: ServiceDetail, now_s: float) -> str:
    """Every aspect of the service's state."""
    rows = [
        (
            badge(_tone(row, now), _ASPECTS.get(row.type, spaced(row.type))),
            folded(text(spaced(row.reason)), said(row.message))
            + (note(missed(now)) if row.reason == "SLOMissed" else ""),
            f'<span class="m-soft">{ago(row.since_s, now_s)}</span>' if row.since_s else "",
        )
        for row in now.conditions
    ]
    if not rows:
        return empty("Nothing is known yet", "The controller looks at a new service within seconds.", "hourglass_empty")
    return table(("Aspect", "Reason", "Since"), rows, (2,), "State")


def missed(now: ServiceDetail) -> str:
    """Which objectives are missed. Latencies are seen of all classes together, so of each the loosest counts."""
    loosest = {row.metric: row for row in sorted(now.latencies, key=lambda one: one.objective_s)}
    return "; ".join(
        f"{row.slo_class}: p95 {_METRICS[row.metric]} {duration(row.observed_p95_s)}, at most {asked(row.objective_s)}"
        for row in loosest.values()
        if row.observed_p95_s is not None and row.observed_p95_s > row.objective_s
    )


def _tone(row: ConditionRow, now: ServiceDetail) -> str:
    """Without replicas nothing that is said of them is good: only the spec and the plan can be."""
    good = (row.status == "True") != (row.type in _BAD_WHEN_TRUE)
    of_none = not now.service.replicas_ready and row.type not in ("Accepted", "Planned")
    return "soft" if row.status == "Unknown" or (good and of_none) else "good" if good else "warn"


def weights(now: ServiceDetail, dark: bool, rates_per_s: Mapping[Bucket, float]) -> str:
    """The share of each size of request that each kind of replica gets, as bars; the most frequent sizes first."""
    if not now.weights:
        return empty("Nothing is routed yet", "Weights appear when the first replica serves.", "alt_route")
    kinds = list(dict.fromkeys(row.kind for row in now.weights))
    colours = {kind: SERIES[dark][i % len(SERIES[dark])] for i, kind in enumerate(kinds)}
    names = {row.kind: f"{row.recipe} on {row.node_group}" if row.recipe else row.kind for row in now.weights}
    sizes: dict[Bucket, list[WeightRow]] = {}
    for row in now.weights:
        sizes.setdefault(Bucket(row.slo_class, row.input_tokens, row.output_tokens), []).append(row)
    total = sum(rates_per_s.values()) or 1.0
    ratios = {
        size: rates_per_s.get(size, 0.0) / total for size in sorted(sizes, key=lambda one: -rates_per_s.get(one, 0.0))
    }
    shown = list(ratios)[:_MOST_SIZES]
    rows = [
        (
            f'<span class="m-nowrap">{tokens(size.input_tokens)} → {tokens(size.output_tokens)}</span>',
            share(ratios[size]),
            _bar(sizes[size], colours, names),
        )
        for size in shown
    ]
    left = share(sum(ratios.values()) - sum(ratios[size] for size in shown))
    more = note(f"and {len(sizes) - len(shown)} other sizes, {left} of requests") if len(sizes) > len(shown) else ""
    legend = keys([(names[kind], colours[kind], False) for kind in kinds[:8]])
    return table(("Tokens in → out", "Of requests", "Goes to"), rows, (1,), "Where requests go") + more + legend


def _bar(rows: Sequence[WeightRow], colours: dict[str, str], names: dict[str, str]) -> str:
    cells = "".join(
        f'<i title="{escape(names[row.kind])}: {share(row.share_ratio, 0)}" style="width:{100 * row.share_ratio:.1f}%;'
        f'background:{colours[row.kind]};height:100%;display:block"></i>'
        for row in rows
        if row.share_ratio > 0
    )
    said = ", ".join(f"{names[row.kind]} {share(row.share_ratio, 0)}" for row in rows if row.share_ratio > 0)
    style = "display:flex;gap:1px;height:10px;border-radius:3px;overflow:hidden;min-width:140px;margin-top:5px"
    return f'<div role="img" aria-label="{escape(said)}" style="{style}">{cells}</div>'


def past(made: Context, key: str, outcomes: Sequence[Outcome] | None, now_s: float) -> str:
    """What was planned before, the newest first."""
    if outcomes is None:
        return empty("The history is not to be had", "The cluster did not answer; it is asked again.", "cloud_off")
    if not outcomes:
        return empty("No plan yet", "Each plan that comes into force is kept here, with what asked for it.", "history")
    rows = []
    for index, one in enumerate(outcomes[:_MOST_PAST]):
        before = outcomes[index + 1] if index + 1 < len(outcomes) else None
        cost = "" if before is None else f'<div class="m-note">{change(one.usd_per_hour - before.usd_per_hour)}</div>'
        when = tip(ago(one.at_s, now_s), f"{clock(one.at_s)} UTC", "m-nowrap")
        target = made.link(f"/plans/{key}", against=one.decision)
        rows.append(
            (
                link(ago(one.at_s, now_s), target, "m-nowrap") if index else when,
                f'<div>{chip(cause(one.cause))}</div><div class="m-note">{text(said(one.reason))}</div>',
                rate(one.rate_per_s),
                f"{one.replicas}",
                f"{money(one.usd_per_hour)}{cost}",
            )
        )
    kept = "" if made.site.embedded else note("A Kubernetes cluster keeps one earlier plan.")
    body = table(("When", "What asked for it", "For", "Replicas", "Cost"), rows, (2, 3, 4), "History of the plan")
    return f'<div style="max-height:420px;overflow:auto" tabindex="0" aria-label="History">{body}</div>{kept}'
