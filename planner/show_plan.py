"""A plan as people read it: what runs where, how it keeps its objectives, and why the rest was not chosen."""

from collections.abc import Sequence

from planner.catalog import recovery
from planner.hardware import Inventory
from planner.launch import command
from planner.plan import Allocation, ClassLatency, Plan, Prediction
from planner.refusals import telling
from planner.service import SLO, ServiceSpec
from planner.show import Report, Table, Words, dollars, percent, seconds, watts
from planner.show_tables import changes, metrics, pooled, refusals, routing
from planner.units import rate_words, show_percentile

_CENT_USD = 0.005
_SOURCES = ("measured", "modelled", "extrapolated")  # from the surest
_BELOW = 2  # lines about a service stand below its replicas, indented


def plan_report(
    plan: Plan,
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    explain: bool = False,
    gap_ratio: float = 0.0,
    time_limit_s: float | None = None,
    running: Sequence[Allocation] | None = None,
    simulated: bool = False,
    sized: bool = False,
) -> Report:
    """What `muster plan` prints; `gap_ratio` and `time_limit_s` are the limits that the user gave.

    `running` is what the user says runs now; None where nothing was said. `simulated`: latencies are, not predicted;
    `sized`: counts of replicas are those that simulation asked for, so that no search ended early.
    """
    report: list[Words | Table] = [verdict(plan, simulated)]
    report += [] if sized else _stopped(plan, gap_ratio, time_limit_s)
    if plan.infeasible is not None:
        report += [Words(f"why: {plan.infeasible.why}"), Words(f"cheapest way out: {plan.infeasible.relaxation}")]
        if plan.refused and not explain:
            report += [Words("--explain lists every refused recipe with its reason.")]
    if plan.status in ("optimal", "feasible"):
        report += [
            Words(""),
            allocations(plan, services, inventory, explain, simulated),
            Words(""),
            *(changes(running, plan) if running is not None else []),
            *_unused(plan),
            *([] if sized else [one_type(plan)]),
        ]
        left_out = not_chosen(plan, services, inventory)
        report += [Words(""), left_out] if left_out.rows else []
        report += [Words(""), *metrics(plan), Words(""), *routing(plan)] if explain else []
    return [*report, Words(""), refusals(plan)] if plan.refused and explain else report


def verdict(plan: Plan, simulated: bool = False) -> Words:
    """Status, cost, proof, power, CPU time. `simulated`: what is proved is that no plan for means costs less."""
    bound = f", no plan costs less than {dollars(plan.bound_usd_per_hour)}/h" if plan.bound_usd_per_hour else ""
    if plan.status in ("optimal", "feasible"):
        proof = "proved optimal" if plan.status == "optimal" else f"gap {plan.gap_ratio or 0:.2%}{bound}"
        proof += " for means" if simulated else ""
        if plan.status == "feasible" and not bound:  # fewer replicas than a plan for means has
            proof = "shown by simulation, nothing is proved of what costs less"
        text = f"{dollars(plan.usd_per_hour)}/h, {proof}; {watts(plan.power_w)} at full load; {plan.solve_s:.2f} CPU s"
        return Words(text, "bold green" if plan.status == "optimal" else "bold yellow")
    if plan.status == "infeasible":
        return Words("infeasible: no plan keeps every constraint", "bold red")
    return Words(f"unknown: no plan found within the limit{bound}", "bold red")


def _stopped(plan: Plan, gap_ratio: float, time_limit_s: float | None) -> list[Words]:
    """Why the search ended before the proof, and how to go on."""
    if plan.status not in ("feasible", "unknown") or (plan.status == "feasible" and not plan.bound_usd_per_hour):
        return []
    if plan.status == "feasible" and (plan.gap_ratio or 0.0) <= gap_ratio:
        return [Words(f"Stopped at the gap asked for, --gap={gap_ratio:g}; a smaller one looks longer.")]
    sooner = "" if plan.status == "unknown" else "; --gap=0.01 stops as soon as 1% is proved"
    if time_limit_s is not None:
        return [Words(f"Stopped by --time-limit={time_limit_s:g}; a longer one looks further{sooner}.")]
    return [Words(f"Stopped at the node limit; --time-limit=SECONDS looks for as long as you say{sooner}.")]


def allocations(
    plan: Plan,
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    explain: bool = False,
    simulated: bool = False,
) -> Table:
    """For each service what runs where at what price, then how its objectives and constraints are kept.

    REQUESTS is the share of the service's requests, BUSY how much of what the replicas can carry is used.
    """
    table = Table(
        ("REPLICAS", "EACH", "NODE GROUP", "REQUESTS", "BUSY", "$/h", "POWER"),
        right=("REPLICAS", "REQUESTS", "BUSY", "$/h", "POWER"),
        wrapped=("EACH", "NODE GROUP"),
    )
    for service in services:
        mine = [a for a in plan.allocations if a.service == service.name]
        if table.rows:
            table.rows.append(Words(""))
        table.rows.append(Words(_title(service, mine), "bold"))
        table.rows.extend(_row(service, a) for a in mine)
        below = [
            *_latencies(service, mine, "all requests, simulated" if simulated else "largest requests"),
            *_trust(mine),
            *_owned(mine, inventory),
            *_spread(service, mine, inventory),
            *_quantised(service, mine),
            *_cold_start(plan, service, mine),
            *(_start(service, mine) if explain else []),
        ]
        table.rows.extend(Words(line, indent=_BELOW) for line in below)
    return table


def _start(service: ServiceSpec, mine: Sequence[Allocation]) -> list[str]:
    """How to start each kind of replica once."""
    return list(dict.fromkeys(f"start {pooled(a)} with: {command(a, service.checkpoint)}" for a in mine))


def _title(service: ServiceSpec, mine: Sequence[Allocation]) -> str:
    rate = f"{rate_words(service.workload.rate_per_s)} requests/s of {service.model.name}"
    return f"{service.name}: {rate}, {dollars(sum(a.usd_per_hour for a in mine))}/h"


def _row(service: ServiceSpec, a: Allocation) -> tuple[str, ...]:
    return (
        str(a.replicas),
        pooled(a),
        f"{a.node_group} ({a.zone})",
        percent(_carried(service, a)),
        percent(a.busy_ratio),
        f"{a.usd_per_hour:,.2f}",
        watts(a.power_w),
    )


def _carried(service: ServiceSpec, allocation: Allocation) -> float:
    """Share of the service's requests that goes through the allocation."""
    rates = service.workload.rates_per_s
    total = service.workload.rate_per_s
    return sum(rates.get(b, 0.0) * share for b, share in allocation.shares.items()) / total if total else 0.0


def _latencies(service: ServiceSpec, mine: Sequence[Allocation], of: str) -> list[str]:
    """One line for each SLO class: the worst of all allocations that carry some of it, against the objective."""
    batch = service.deployment == "batch"
    classes = list(dict.fromkeys(bucket.slo_class for bucket in service.workload.rates_per_s))
    out = []
    for name in classes:
        worst = [_of_class(a, name) for a in mine if any(b.slo_class == name and s > 0 for b, s in a.shares.items())]
        if not worst:
            continue
        slo = SLO(name) if batch else service.slo(name)
        title = f"{name}, no objective:" if batch else f"{name}: {show_percentile(slo.percentile)}"
        figures = ", ".join(
            (
                _against("TTFT", max(row.ttft_s for row in worst), slo.ttft_s),
                _against("TPOT", max(row.tpot_s for row in worst), slo.tpot_s),
                _against("END TO END", max(row.e2e_s for row in worst), slo.e2e_s),
            )
        )
        out.append(f"{title} {figures} ({of})")
    return out


def _of_class(allocation: Allocation, slo_class: str) -> ClassLatency | Prediction:
    rows = (row for row in allocation.predicted.by_class if row.slo_class == slo_class)
    return next(rows, allocation.predicted)


def _against(figure: str, predicted_s: float, limit_s: float | None) -> str:
    limit = f" <= {seconds(limit_s)}" if limit_s is not None else ""
    return f"{figure} {seconds(predicted_s)}{limit}"


def _trust(mine: Sequence[Allocation]) -> list[str]:
    """Where each GPU type's latencies come from, and how far off they may be: the widest of its recipes."""
    out = []
    for gpu in dict.fromkeys(a.recipe.gpu for a in mine):
        here = [a.predicted for a in mine if a.recipe.gpu == gpu]
        worst = max(here, key=lambda p: _SOURCES.index(p.source))
        wide = ", ".join(text for name in ("TPOT", "TTFT") if (text := _wide(name, here)))
        out.append(f"{gpu} {worst.source} ({wide or 'no interval'})")
    return [f"latencies, 90% of runs: {'; '.join(out)}"] if out else []


def _wide(figure: str, predictions: Sequence[Prediction]) -> str:
    """`TPOT -13% +15%`: how far from the figure the interval's ends lie."""
    ends = [
        (getattr(p, f"{figure.lower()}_s"), getattr(p, f"{figure.lower()}_lo_s"), getattr(p, f"{figure.lower()}_hi_s"))
        for p in predictions
    ]
    known = [(low / at - 1, high / at - 1) for at, low, high in ends if low is not None and high is not None and at > 0]
    if not known:
        return ""
    low, high = min(known), max(known, key=lambda both: both[1])
    return f"{figure} {low[0]:+.0%} {high[1]:+.0%}"


def _owned(mine: Sequence[Allocation], inventory: Inventory) -> list[str]:
    """What the price of nodes that are owned is made of."""
    owned = {group.name for group in inventory.node_groups if group.owned}
    names = list(dict.fromkeys(a.node_group for a in mine if a.node_group in owned))
    counted = "their energy alone" if inventory.usd_per_joule else "nothing"
    return [f"owned nodes cost {counted}: {', '.join(names)}"] if names else []


def _spread(service: ServiceSpec, mine: Sequence[Allocation], inventory: Inventory) -> list[str]:
    """Requests by zone and on spot nodes, where the owner limits them. Pools of one recipe share theirs."""
    demands, groups = service.constraints, {group.name: group for group in inventory.node_groups}
    pools = {a.recipe: len({b.pool for b in mine if b.recipe == a.recipe}) for a in mine}
    by_zone: dict[str, float] = {}
    spot = 0.0
    for a in mine:
        carried = _carried(service, a) / pools[a.recipe]
        by_zone[a.zone] = by_zone.get(a.zone, 0.0) + carried
        spot += carried * groups[a.node_group].spot
    out = []
    asked = [f"at least {demands.min_zones} zones"] if demands.min_zones > 1 else []
    asked += [f"at most {percent(demands.max_zone_share)} in one"] if demands.max_zone_share < 1 else []
    if mine and asked:
        shares = ", ".join(f"{zone} {percent(share)}" for zone, share in sorted(by_zone.items()))
        out.append(f"requests by zone: {shares} ({', '.join(asked)})")
    if mine and demands.max_spot_share < 1:
        out.append(f"requests on spot nodes: {percent(spot)} (at most {percent(demands.max_spot_share)})")
    return out


def _quantised(service: ServiceSpec, mine: Sequence[Allocation]) -> list[str]:
    """Techniques in use that cost accuracy, with what is published of them for the service's model."""
    used = sorted({name for a in mine for name in a.recipe.techniques})
    kept = {name: found for name in used if (found := recovery(name, service.model)) is not None}
    losing = [f"{name} keeps {found.kept_ratio:.1%}" for name, found in kept.items() if found.kept_ratio < 1]
    if not losing:
        return []
    return [f"quantised: {', '.join(losing)} of the 16-bit accuracy, as published; qualityFloor: 1 forbids it"]


def _cold_start(plan: Plan, service: ServiceSpec, mine: Sequence[Allocation]) -> list[str]:
    """How long a service that may go down to no replicas takes to come back."""
    if service.name in plan.idle_cold_start_s:
        start = seconds(plan.idle_cold_start_s[service.name])
        return [f"no traffic, no replicas; the first request waits {start} for a cold start"]
    if service.deployment != "batch" or service.constraints.min_replicas or not mine:
        return []
    start = seconds(max(a.predicted.cold_start_s for a in mine))
    return [f"cold start: {start}, should it be scaled to zero between runs"]


def _unused(plan: Plan) -> list[Words]:
    left = (plan.usd_per_hour or 0.0) - sum(a.usd_per_hour for a in plan.allocations)
    return [Words(f"{dollars(left)}/h of commitments are paid for and not used.")] if left >= _CENT_USD else []


def one_type(plan: Plan) -> Words:
    """What the best fleet of one GPU type alone would cost."""
    unknown = f" Not known within the limit: {', '.join(plan.one_type_unknown)}." if plan.one_type_unknown else ""
    if not plan.one_type:
        if unknown:
            return Words(f"No fleet of one GPU type is known to carry everything.{unknown}")
        return Words("No single GPU type in this inventory can carry everything alone.")
    gpu, cost = min(plan.one_type.items(), key=lambda item: item[1])
    if {a.recipe.gpu for a in plan.allocations} == {gpu}:
        best = "One type is best here" if plan.status == "optimal" else "This plan is of one type"
        return Words(f"{best}: {gpu} alone.{unknown}")
    more = f", {cost / plan.usd_per_hour - 1:+.1%} against this plan" if plan.usd_per_hour else ""
    return Words(f"Best one-type fleet: {gpu} alone at {dollars(cost)}/h{more}.{unknown}")


def not_chosen(plan: Plan, services: Sequence[ServiceSpec], inventory: Inventory) -> Table:
    """For each GPU type, and the services that do not use it: why. Services with the same reason share a row."""
    several = len(services) > 1
    table = Table(("NOT CHOSEN", "SERVICE", "WHY") if several else ("NOT CHOSEN", "WHY"), wrapped=("SERVICE", "WHY"))
    chosen = {(a.service, a.recipe.gpu) for a in plan.allocations}
    for gpu in dict.fromkeys(group.gpu.name for group in inventory.node_groups):
        by_reason: dict[str, list[str]] = {}
        for service in services:
            if (service.name, gpu) not in chosen:
                by_reason.setdefault(_why_not(plan, service.name, gpu), []).append(service.name)
        for reason, names in by_reason.items():
            table.rows.append((gpu, ", ".join(names), reason) if several else (gpu, reason))
    return table


def _why_not(plan: Plan, service: str, gpu: str) -> str:
    if gpu not in plan.usable_gpus.get(service, ()):
        mine = [refusal for refusal in plan.refused if refusal.service == service]
        return telling(mine, gpu) or "not among the GPU types that the service allows"
    reason = f"can serve, but is not in the {'cheapest mix' if plan.status == 'optimal' else 'mix found'}"
    if any(a.recipe.gpu == gpu for a in plan.allocations):
        return reason  # another service takes it: what it costs alone says nothing
    if gpu in plan.one_type:
        return f"{reason} (alone {dollars(plan.one_type[gpu])}/h)"
    if gpu in plan.one_type_unknown:
        return f"{reason} (what it costs alone is not known)"
    return f"{reason} (alone it cannot carry everything)"
