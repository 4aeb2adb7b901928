"""Service: state and why, latencies and rates against objective and plan, replicas, routing, the plan's history."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controller.kube.rest import ApiError
from controller.pages import parts
from controller.pages.charts import Limit, Line, Mark, Points, lines
from controller.pages.context import Context
from controller.pages.heading import heading
from controller.pages.live import Html, Stat, card, charted, grid
from controller.pages.service_parts import conditions, latencies, past, replicas, weights
from controller.pages.states import state_words, waits_words, why_of
from controller.pages.words import asked, cause, money, rate, share, watts
from controller.web.model import Outcome, ServiceDetail, ServiceRow, service
from controller.web.problems import Refused
from planner.service import Bucket
from planner.units import counted

_METRICS = (
    "ttft_p95_s", "ttft_p50_s", "tpot_p95_s", "tpot_p50_s", "rate_per_s", "planned_per_s", "attainment_ratio",
    "usd_per_hour", "kv_cache_ratio",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What the page shows at one moment. `detail` None: there is no such service. `past` None: not to be had."""

    key: str
    detail: ServiceDetail | None
    others: Sequence[ServiceRow]
    span: tuple[float, float]
    series: Mapping[str, Points]
    past: Sequence[Outcome] | None
    now_s: float
    rates_per_s: Mapping[Bucket, float]  # of each size, as the spec says


def load(made: Context, key: str) -> Seen:
    """Everything that the page shows."""
    span = made.span()
    detail = made.view(f"service:{key}", lambda site: service(site, key))
    try:
        found: Sequence[Outcome] | None = made.outcomes(key)
    except (ApiError, Refused):
        found = None
    series = {metric: made.series(metric, key, *span) for metric in _METRICS} if detail is not None else {}
    return Seen(key, detail, made.seen(), span, series, found, made.site.clock(), _rates_of(made, key))


def _rates_of(made: Context, key: str) -> Mapping[Bucket, float]:
    spec = made.site.known.spec_of(key)
    return {} if spec is None else spec.workload.rates_per_s


def build(made: Context, first: Seen) -> Callable[[Seen], None]:
    """The page."""
    title, why = Html(made, "m-row"), Html(made)
    if first.detail is None:
        title.show('<h1 class="m-title">Service</h1>')
        words = "It may have been deleted, or its name is another."
        return lambda seen: why.show(
            f'<div class="m-card">{parts.empty(f"There is no service {first.key}", words, "search_off")}</div>'
        )
    with grid("repeat(5, minmax(0, 1fr))"):
        tiles = [Stat(made, head) for head in ("Rate", "Within the objective", "Replicas ready", "KV cache", "Cost")]
    with grid("repeat(3, minmax(0, 1fr))"):
        ttft = charted(made, 150, "Time to first token", "Time to first token against the objective")
        tpot = charted(made, 150, "Time per output token", "Time per output token against the objective")
        rates = charted(made, 150, "Requests against the plan", "Requests per second against the planned rate")
    with grid("minmax(0, 7fr) minmax(0, 5fr)"):
        with card("Replicas by GPU type"):
            running = Html(made)
        with card("Latencies against objectives"):
            held = Html(made)
    with grid("minmax(0, 7fr) minmax(0, 5fr)", "align-items:start"):
        with card("History of the plan", parts.link("Explain and compare", made.link(f"/plans/{first.key}"))):
            history = Html(made)
        with grid("minmax(0, 1fr)", "align-content:start"):
            with card("Where requests go"):
                routing = Html(made)
            with card("State"):
                state = Html(made)

    def show(seen: Seen) -> None:
        now = seen.detail
        if now is None:
            why.show(
                parts.banner("warn", "Deleted", f"The service {seen.key} is gone; what is below was its last state.")
            )
            return
        title.show(heading(made, now.service, seen.others, "services"))
        why.show(_why(now))
        _tiles(tiles, seen, now)
        ttft.show(_latency(made, seen, now, "ttft"))
        tpot.show(_latency(made, seen, now, "tpot"))
        rates.show(_rates(made, seen))
        running.show(replicas(now))
        held.show(latencies(now))
        history.show(past(made, seen.key, seen.past, seen.now_s))
        routing.show(weights(now, made.dark, seen.rates_per_s))
        state.show(conditions(now, seen.now_s))

    return show


def _why(now: ServiceDetail) -> str:
    """What is amiss, where something is."""
    row = now.service
    if now.problems:
        return parts.banner("bad", "Invalid spec", "; ".join(now.problems[:3]))
    if row.awaits_approval:
        waits = None if now.plan is None else now.plan.proposal
        words = "A plan waits for a person" if waits is None else waits_words(waits)
        return parts.banner("warn", "Needs approval", f"{words}: see Plan.")
    state, words = state_words(row)
    why = why_of(row)
    return parts.banner(state, words, why) if why else ""


def _tiles(tiles: Sequence[Stat], seen: Seen, now: ServiceDetail) -> None:
    arriving, attained, ready, cache, cost = tiles
    row = now.service

    def line(metric: str) -> list[float]:
        return [value for _, value in seen.series.get(metric, ())][-40:]

    arriving.show(rate(row.rate_per_s), f"planned for {rate(row.planned_per_s)}", line=line("rate_per_s"))
    below, state = _attained(row)
    attained.show(share(row.attainment_ratio), below, line=line("attainment_ratio"), state=state)
    missing = row.replicas - row.replicas_ready
    if row.replicas or row.replicas_ready:
        counts = f"{counted(missing, 'replica')} on the way" if missing > 0 else f"on {counted(row.gpus, 'GPU')}"
        ready.show(f"{row.replicas_ready} of {row.replicas}", counts, state="soft" if missing > 0 else "")
    else:
        ready.show("none", "no replica is planned")
    waits = counted(round(now.waiting or 0), "request") + " waiting"
    cache.show(
        share(now.kv_cache_ratio, 0), waits if row.replicas_ready else "no replica serves", ratio=now.kv_cache_ratio
    )
    cost.show(money(row.usd_per_hour), f"{watts(row.power_w)} at full load", line=line("usd_per_hour"))


def _attained(row: ServiceRow) -> tuple[str, str]:
    """What the share of requests is of, and a state: the share is of a minute, the objective is judged on its own."""
    if not row.replicas_ready:
        return "no replica serves", ""
    if row.slo != "Missed":
        return "of requests in the last minute", ""
    return "in the last minute; missed when judged", "warn"


def _marks(seen: Seen) -> list[Mark]:
    return [Mark(one.at_s, cause(one.cause)) for one in (seen.past or ())[:24] if one.at_s]


def _latency(made: Context, seen: Seen, now: ServiceDetail, metric: str) -> Mapping[str, object]:
    limits = [row for row in now.latencies if row.metric == f"{metric}_s"]
    tight = min(limits, key=lambda row: row.objective_s, default=None)
    limit = None
    if tight is not None:
        limit = Limit(f"objective p{100 * tight.percentile_ratio:g} ≤ {asked(tight.objective_s)}", tight.objective_s)
    rows = [
        Line("p95", seen.series[f"{metric}_p95_s"]),
        Line("p50", seen.series[f"{metric}_p50_s"], colour=2),
    ]
    return lines(rows, "seconds", seen.span, dark=made.dark, limit=limit, marks=_marks(seen))


def _rates(made: Context, seen: Seen) -> Mapping[str, object]:
    rows = [
        Line("requests", seen.series["rate_per_s"], area=True),
        Line("planned for", seen.series["planned_per_s"], dashed=True),
    ]
    return lines(rows, "rate", seen.span, dark=made.dark, marks=_marks(seen))
