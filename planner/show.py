"""Plans and tables as people read them in a terminal."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.allocate import GPUAllocation
from planner.hardware import GPUType, Inventory
from planner.model import Model
from planner.plan import Allocation, Plan
from planner.refusals import telling
from planner.service import ServiceSpec

_CENT_USD = 0.005


def dollars(value: float | None) -> str:
    """`$12.34`, or a dash."""
    return "-" if value is None else f"${value:,.2f}"


def seconds(value: float | None) -> str:
    """`480 ms` or `2.1 s`, or a dash."""
    if value is None:
        return "-"
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def watts(value: float | None) -> str:
    """`3.2 kW` or `70 W`."""
    if value is None:
        return "-"
    return f"{value / 1e3:.2f} kW" if value >= 1000 else f"{value:.0f} W"


def _table(*headings: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return table


def verdict(plan: Plan) -> Text:
    """One line: status, cost, proof, power, CPU time."""
    if plan.status in ("optimal", "feasible"):
        proof = "proved optimal" if plan.status == "optimal" else f"gap {plan.gap_ratio or 0:.2%}"
        bound = "" if plan.status == "optimal" else f", no plan costs less than {dollars(plan.bound_usd_per_hour)}/h"
        cost = f"{dollars(plan.usd_per_hour)}/h, {proof}{bound}"
        text = f"{cost}; {watts(plan.power_w)} at full load; {plan.solve_s:.2f} CPU s"
        return Text(text, style="bold green" if plan.status == "optimal" else "bold yellow")
    if plan.status == "infeasible":
        return Text("infeasible: no plan keeps every constraint", style="bold red")
    bound = f"; no plan costs less than {dollars(plan.bound_usd_per_hour)}/h" if plan.bound_usd_per_hour else ""
    return Text(f"unknown: no plan found within the limit{bound}", style="bold red")


def _against(predicted: float, slo: float | None) -> str:
    return f"{seconds(predicted)} <= {seconds(slo)}" if slo is not None else seconds(predicted)


def _latencies(service: ServiceSpec | None, allocation: Allocation) -> tuple[str, str, str]:
    """TTFT, TPOT and end-to-end time against the objective, one line for each SLO class that the allocation serves."""
    slos = {slo.name: slo for slo in service.slos} if service else {}
    carried = {bucket.slo_class for bucket, share in allocation.shares.items() if share > 0}
    lines = [
        (row, slos[row.slo_class]) for row in allocation.predicted.by_class if row.slo_class in carried & set(slos)
    ]
    if not lines:
        expected = allocation.predicted
        return seconds(expected.ttft_s), seconds(expected.tpot_s), seconds(expected.e2e_s)
    names = [f" {slo.name}" if len(slos) > 1 else "" for _, slo in lines]
    ttft = [_against(row.ttft_s, slo.ttft_s) + name for (row, slo), name in zip(lines, names, strict=True)]
    tpot = [_against(row.tpot_s, slo.tpot_s) for row, slo in lines]
    e2e = [_against(row.e2e_s, slo.e2e_s) for row, slo in lines]
    return "\n".join(ttft), "\n".join(tpot), "\n".join(e2e)


def allocations(plan: Plan, services: Sequence[ServiceSpec]) -> Table:
    """Who runs what where, at what price, with what latency against the objective."""
    by_name = {service.name: service for service in services}
    table = _table(
        *("SERVICE", "REPLICAS", "EACH", "NODE GROUP", "ZONE", "LOAD", "$/h", "POWER", "TTFT", "TPOT", "END TO END"),
        right=("REPLICAS", "LOAD", "$/h", "POWER"),
    )
    for a in plan.allocations:
        service = by_name.get(a.service)
        carried = _carried(service, a) if service else None
        table.add_row(
            a.service + (f"/{a.pool}" if a.pool != "serve" else ""),
            str(a.replicas),
            str(a.recipe),
            a.node_group,
            a.zone,
            f"{carried:.0%}" if carried is not None else "-",
            f"{a.usd_per_hour:.2f}",
            watts(a.power_w),
            *_latencies(service, a),
        )
    return table


def _carried(service: ServiceSpec, allocation: Allocation) -> float:
    rates = service.workload.rates_per_s
    total = service.workload.rate_per_s
    return sum(rates.get(b, 0.0) * share for b, share in allocation.shares.items()) / total if total else 0.0


def _idle(plan: Plan) -> list[Text]:
    return [
        Text(f"{name}: no traffic, no replicas; the first request waits {seconds(start_s)} for a cold start")
        for name, start_s in plan.idle_cold_start_s.items()
    ]


def _unused(plan: Plan) -> list[Text]:
    left = (plan.usd_per_hour or 0.0) - sum(a.usd_per_hour for a in plan.allocations)
    return [Text(f"{dollars(left)}/h of commitments are paid for and not used.")] if left >= _CENT_USD else []


def one_type(plan: Plan) -> Text:
    """What the best fleet of one GPU type alone would cost."""
    if not plan.one_type or not plan.usd_per_hour:
        return Text("No single GPU type in this inventory can carry everything alone.")
    gpu, cost = min(plan.one_type.items(), key=lambda item: item[1])
    if len({a.recipe.gpu for a in plan.allocations}) == 1 and plan.allocations[0].recipe.gpu == gpu:
        return Text(f"One type is best here: {gpu} alone.")
    return Text(
        f"Best one-type fleet: {gpu} alone at {dollars(cost)}/h, {cost / plan.usd_per_hour - 1:+.1%} against this plan."
    )


def not_chosen(plan: Plan, services: Sequence[ServiceSpec], inventory: Inventory) -> Table:
    """For each GPU type and service without an allocation: why."""
    table = _table("NOT CHOSEN", "SERVICE", "WHY")
    chosen = {(a.service, a.recipe.gpu) for a in plan.allocations}
    for gpu in dict.fromkeys(group.gpu.name for group in inventory.node_groups):
        for service in services:
            if (service.name, gpu) not in chosen:
                table.add_row(gpu, service.name, _why_not(plan, service.name, gpu, len(services) == 1))
    return table


def _why_not(plan: Plan, service: str, gpu: str, alone: bool) -> str:
    if gpu not in plan.usable_gpus.get(service, ()):
        mine = [refusal for refusal in plan.refused if refusal.service == service]
        return telling(mine, gpu) or "not among the GPU types that the service allows"
    if alone and gpu in plan.one_type:
        return f"can serve, but is not in the cheapest mix (alone {dollars(plan.one_type[gpu])}/h)"
    return "can serve, but is not in the cheapest mix" + (" (alone it cannot carry everything)" if alone else "")


def refusals(plan: Plan) -> Table:
    """Every refused recipe with its reason."""
    table = _table("REFUSED", "SERVICE", "WHY")
    for refusal in plan.refused:
        table.add_row(refusal.recipe, refusal.service, refusal.reason)
    return table


def routing(plan: Plan) -> Table:
    """The router's weights: share of each size that each allocation carries."""
    table = _table("SERVICE", "CLASS", "INPUT <=", "OUTPUT <=", "TO", "SHARE", right=("INPUT <=", "OUTPUT <=", "SHARE"))
    rows = sorted(
        (a.service, bucket, f"{a.recipe} in {a.node_group}", share)
        for a in plan.allocations
        for bucket, share in a.shares.items()
    )
    for service, bucket, target, share in rows:
        table.add_row(
            service, bucket.slo_class, str(bucket.input_tokens), str(bucket.output_tokens), target, f"{share:.1%}"
        )
    return table


def plan_report(plan: Plan, services: Sequence[ServiceSpec], inventory: Inventory, explain: bool) -> RenderableType:
    """Everything that `muster plan` prints."""
    parts: list[RenderableType] = [verdict(plan)]
    if plan.infeasible is not None:
        parts += [
            Text(f"why: {plan.infeasible.why}"),
            Text(f"cheapest way out: {plan.infeasible.relaxation}"),
        ]
        parts += [Text(""), refusals(plan)] if plan.refused and explain else []
        return Group(*parts)
    if plan.status == "unknown":
        return Group(*parts)
    parts += [Text(""), allocations(plan, services), *_idle(plan), *_unused(plan), Text(""), one_type(plan)]
    left_out = not_chosen(plan, services, inventory)
    if left_out.row_count:
        parts += [Text(""), left_out]
    if explain:
        parts += [Text(""), routing(plan), Text(""), refusals(plan)]
    return Group(*parts)


def allocation_report(answer: GPUAllocation) -> RenderableType:
    """What `muster allocate` prints."""
    if answer.infeasible is not None:
        return Group(
            Text("infeasible", style="bold red"),
            Text(f"why: {answer.infeasible.why}"),
            Text(f"cheapest way out: {answer.infeasible.relaxation}"),
        )
    if answer.status == "unknown":
        return Text("unknown: no plan found within the limit", style="bold red")
    proof = "proved optimal" if answer.status == "optimal" else f"gap {answer.gap_ratio or 0:.2%}"
    table = _table("GPU", "COUNT", right=("COUNT",))
    for gpu, count in answer.counts.items():
        table.add_row(gpu, str(count))
    return Group(Text(f"{dollars(answer.usd_per_hour)}/h, {proof}", style="bold green"), Text(""), table)


def gpu_table(gpus: Sequence[GPUType]) -> Table:
    """The catalogue of GPUs."""
    table = _table(
        "GPU",
        "VENDOR",
        "MEMORY",
        "BANDWIDTH",
        "BF16",
        "FP8",
        "TDP",
        "$/h",
        right=("MEMORY", "BANDWIDTH", "BF16", "FP8", "TDP", "$/h"),
    )
    for gpu in gpus:
        half = gpu.flops_per_s.get("bf16", gpu.flops_per_s.get("fp16"))
        fp8 = gpu.flops_per_s.get("fp8")
        table.add_row(
            gpu.name,
            gpu.vendor,
            f"{gpu.hbm_bytes / 1e9:.0f} GB",
            f"{gpu.hbm_bytes_per_s / 1e9:,.0f} GB/s",
            f"{half / 1e12:,.0f} TFLOP/s" if half else "-",
            f"{fp8 / 1e12:,.0f} TFLOP/s" if fp8 else "-",
            watts(gpu.tdp_w),
            dollars(gpu.usd_per_hour),
        )
    return table


def model_table(models: Sequence[Model], sizes: Sequence[tuple[float, float]]) -> Table:
    """The catalogue of models; `sizes` are (parameters, active parameters)."""
    table = _table(
        "MODEL",
        "FAMILY",
        "PARAMETERS",
        "ACTIVE",
        "LAYERS",
        "CONTEXT",
        right=("PARAMETERS", "ACTIVE", "LAYERS", "CONTEXT"),
    )
    for model, (total, active) in zip(models, sizes, strict=True):
        layers = sum(block.count for block in model.blocks)
        table.add_row(
            model.name,
            model.family,
            f"{total / 1e9:.2f} B",
            f"{active / 1e9:.2f} B",
            str(layers),
            f"{model.max_context:,}",
        )
    return table


def printed(report: RenderableType, console: Console | None = None) -> None:
    """Print a report; wide tables are not cut where the output is no terminal."""
    out = console or Console(soft_wrap=False)
    if not out.is_terminal:
        out = Console(width=200)
    out.print(report)
