"""A simulation's outcome as a report for the terminal, and as JSON. Pure."""

from collections.abc import Mapping, Sequence

from planner.show import Report, Table, Words, dollars, percent, watts
from planner.simulation.bench import SAME_USD
from planner.simulation.outcome import ClassOutcome, Latency, ServiceOutcome
from planner.simulation.verify import Verified

_LATENCIES = ("CLASS", "LATENCY", "p50", "p95", "p99", "AT", "IS", "LIMIT", "HELD")
_REPLICAS = ("REPLICAS", "COUNT", "COMPUTING", "KV CACHE", "POWER")
_COMPUTING = "COMPUTING is the share of the time in which a replica has a request in hand."
_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}


def report(title: str, rows: Sequence[ServiceOutcome]) -> Report:
    """What came of every service under one source of requests."""
    found: list[Words | Table] = [Words(title, style="bold")]
    for one in rows:
        found += _service(one)
    return [*found, Words(_COMPUTING)]


def _service(one: ServiceOutcome) -> Report:
    told = one.account
    energy = "" if one.joules_per_token is None else f", {one.joules_per_token:.2f} J a token"
    lost = f", {told.refused} refused" if told.refused else ""
    again = f", {told.preemptions} preemptions" if told.preemptions else ""
    head = (
        f"{one.service}: {one.rate_per_s:.1f} requests/s served, {one.goodput_per_s:.1f} within the objective, "
        f"{one.tokens_per_s:,.0f} tokens/s{energy}{lost}{again}"
    )
    latencies: list[tuple[str, ...] | Words] = [
        (row.slo_class if index == 0 else "", *_latency(row, latency))
        for row in one.classes
        for index, latency in enumerate(row.latencies)
    ]
    pools: list[tuple[str, ...] | Words] = [
        (row.kind, str(row.replicas), percent(row.busy_ratio), percent(row.kv_ratio), watts(row.power_w))
        for row in one.pools
    ]
    return [
        Words(""),
        Words(head),
        Table(_LATENCIES, ("p50", "p95", "p99", "IS", "LIMIT"), (), latencies),
        Words(""),
        Table(_REPLICAS, _REPLICAS[1:], _REPLICAS[:1], pools),
    ]


def _latency(row: ClassOutcome, latency: Latency) -> tuple[str, ...]:
    quantiles = (_seconds(value) for value in latency.quantiles_s.values())
    limit = "-" if latency.limit_s is None else _seconds(latency.limit_s)
    held = "-" if latency.limit_s is None else "yes" if latency.met else "NO"
    return _NAMES[latency.metric], *quantiles, f"p{100 * row.percentile:g}", _seconds(latency.at_s), limit, held


def _seconds(value_s: float) -> str:
    return f"{1000 * value_s:.1f} ms" if value_s < 1 else f"{value_s:.2f} s"


def as_json(rows: Sequence[ServiceOutcome]) -> list[Mapping[str, object]]:
    """The same for programs; seconds, watts, joules."""
    return [
        {
            "service": one.service,
            "met": one.met,
            "ratePerSecond": one.rate_per_s,
            "goodputPerSecond": one.goodput_per_s,
            "tokensPerSecond": one.tokens_per_s,
            "joulesPerToken": one.joules_per_token,
            "requests": {
                "submitted": one.account.submitted, "finished": one.account.finished, "refused": one.account.refused,
                "inFlight": one.account.in_flight, "preemptions": one.account.preemptions,
            },
            "classes": [
                {
                    "name": row.slo_class,
                    "requests": row.requests,
                    "attainedRatio": row.attained_ratio,
                    "percentile": row.percentile,
                    "latencies": [
                        {
                            "metric": latency.metric, "atPercentileS": latency.at_s, "limitS": latency.limit_s,
                            "met": latency.met,
                            "quantilesS": {f"p{100 * q:g}": value for q, value in latency.quantiles_s.items()},
                        }
                        for latency in row.latencies
                    ],
                }
                for row in one.classes
            ],
            "replicas": [
                {
                    "kind": row.kind, "pool": row.pool, "count": row.replicas, "busyRatio": row.busy_ratio,
                    "kvRatio": row.kv_ratio, "powerW": row.power_w,
                }
                for row in one.pools
            ],
        }
        for one in rows
    ]  # fmt: skip


def verified_report(made: Verified) -> Report:
    """How a plan that was verified did, and what its headroom costs."""
    found: list[Words | Table] = [
        Words(""),
        Words(_verdict(made), style="bold"),
        Words("Without --verify a plan is for percentiles, by bounds: another problem, and so another cheapest plan."),
        Words("BUSY above is the share of what replicas can carry within the objective, not of their time."),
    ]
    for name, rows in made.outcomes:
        found += [Words(""), *report(f"Simulated under {name}", rows)]
    return found


def _verdict(made: Verified) -> str:
    """What a plan costs beside the fluid optimum, and how it came to be; the dollars are those of the plan."""
    if not made.held:
        return "The objectives do not hold in simulation, whatever headroom was tried; this is the last plan tried."
    words = _cost(made)
    if made.sized:
        counts = (
            "Counts of replicas were changed to those that hold for the least, and every kind serves all sizes alike"
        )
        return f"{words} {counts}; {_gap(made)}"
    if made.factor != 1:
        words += f" What is proved of it is proved at {made.factor:.3g} times the rate."
    return f"{words} Load was moved from replicas under strain to others that have room." if made.moves else words


def _cost(made: Verified) -> str:
    costs, added, fluid = dollars(made.usd_per_hour), made.added_usd_per_hour, made.fluid_usd_per_hour
    means = "which is planned for means"
    if abs(added) <= SAME_USD:
        return f"Holds every objective in simulation at the cost of the fluid optimum, {costs}/h, {means}: no headroom."
    ratio = abs(added) / fluid if fluid else 0.0
    headroom = (
        "With other counts of replicas" if made.sized else f"Planned for {made.factor:.3g} times the rate, and so"
    )
    beside = f"{dollars(abs(added))}/h ({ratio:.1%}) {'more' if added > 0 else 'less'}"
    return (
        f"{headroom} it holds every objective in simulation for {costs}/h: "
        f"{beside} than the fluid optimum, {dollars(fluid)}/h, {means}."
    )


def _gap(made: Verified) -> str:
    """What the gap of a sized plan is to, and the evidence where its counts are below the planner's bounds."""
    gap = "the gap is to the best plan for means"
    if not made.beyond:
        return f"{gap}."
    kinds = " and ".join(f"{kind} {ratio:.2f} times" for kind, ratio in made.beyond.items())
    shown = f"Simulation shows that replicas carry more than the planner's bounds let them: {kinds} as much."
    known = (
        f"{gap} within the planner's bounds" if made.plan.bound_usd_per_hour else "nothing is proved of what costs less"
    )
    return f"{known}. {shown}"


def verified_json(made: Verified) -> Mapping[str, object]:
    """The same for programs."""
    return {
        "held": made.held,
        "factor": made.factor,
        "fluidUsdPerHour": made.fluid_usd_per_hour,
        "addedUsdPerHour": made.added_usd_per_hour,
        "loadMoved": made.moves > 0 and not made.sized,
        "countsChanged": made.sized,
        "beyondBounds": dict(made.beyond),
        "simulations": [{"source": name, "services": as_json(rows)} for name, rows in made.outcomes],
    }
