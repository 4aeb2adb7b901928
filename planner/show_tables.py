"""Tables beside the plan: routing weights, refusals, what `muster allocate` answers, the catalogues."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from planner.allocate import GPUAllocation
from planner.efficiency import MEANING, by_service
from planner.hardware import GPUType
from planner.model import Model
from planner.moves import moves
from planner.perf.explain import Breakdown, Line
from planner.perf.memory import Budget
from planner.plan import Allocation, Plan
from planner.show import Report, Table, Words, dollars, percent, seconds, watts

_WIDE = 1e5  # a column of larger figures takes the next unit, so that tables stay within 80 characters
_LEAST_S = 5e-7  # what would be shown as 0 us


def pooled(allocation: Allocation) -> str:
    """The recipe, with the pool where a recipe has several."""
    return f"{allocation.recipe}" + (f" ({allocation.pool})" if allocation.pool != "serve" else "")


class Route(NamedTuple):
    """Buckets from one edge to another on both axes, all carried by the same targets."""

    service: str
    slo_class: str
    first_output: int
    last_output: int
    first_input: int
    last_input: int
    to: str


def routes(plan: Plan) -> list[Route]:
    """The router's weights, neighbouring buckets with the same weights in one: inputs first, then outputs."""
    targets: dict[tuple[str, str, int, int], list[tuple[float, str]]] = {}
    for a in plan.allocations:
        for bucket, share in a.shares.items():
            key = (a.service, bucket.slo_class, bucket.output_tokens, bucket.input_tokens)
            targets.setdefault(key, []).append((-share, f"{pooled(a)} in {a.node_group}"))
    cells = []
    for (service, slo_class, outputs, inputs), to in sorted(targets.items()):
        text = ", ".join(f"{-share:.1%} {target}" for share, target in sorted(to)).replace("100.0%", "100%")
        cells.append(Route(service, slo_class, outputs, outputs, inputs, inputs, text))
    by_input: list[Route] = []
    for _, row in groupby(cells, key=lambda cell: cell[:3]):
        for _, same in groupby(row, key=lambda cell: cell.to):
            run = list(same)
            by_input.append(run[0]._replace(last_input=run[-1].last_input))
    return _by_output(by_input)


def _by_output(runs: Sequence[Route]) -> list[Route]:
    """Join runs of inputs that are the same at one output edge and the next."""
    edges = {k: sorted({run.first_output for run in rows}) for k, rows in _by_class(runs).items()}
    out: list[Route] = []
    open_runs: dict[tuple[object, ...], int] = {}
    for run in runs:
        outputs = edges[run.service, run.slo_class]
        same = (run.service, run.slo_class, run.first_input, run.last_input, run.to)
        at = open_runs.get(same)
        if at is not None and outputs.index(out[at].last_output) + 1 == outputs.index(run.first_output):
            out[at] = out[at]._replace(last_output=run.last_output)
        else:
            open_runs[same] = len(out)
            out.append(run)
    return out


def _by_class(runs: Sequence[Route]) -> dict[tuple[str, str], list[Route]]:
    out: dict[tuple[str, str], list[Route]] = {}
    for run in runs:
        out.setdefault((run.service, run.slo_class), []).append(run)
    return out


def routing(plan: Plan) -> Report:
    """The router's weights, with how to read them."""
    many = len({a.service for a in plan.allocations}) > 1
    headings = ("CLASS", "INPUT", "OUTPUT", "TO")
    table = Table(("SERVICE", *headings) if many else headings, right=("INPUT", "OUTPUT"), wrapped=("TO",))
    for route in routes(plan):
        row = (
            route.slo_class,
            _edges(route.first_input, route.last_input),
            _edges(route.first_output, route.last_output),
            route.to,
        )
        table.rows.append((route.service, *row) if many else row)
    title = (
        "Router weights: the share of the requests of each size that goes to each group of replicas. INPUT and OUTPUT "
        "are upper edges of size buckets in tokens; 16-256 stands for all buckets from 16 to 256. A request belongs to "
        "the smallest bucket that holds it. --json has one row per bucket, under allocations[].shares."
    )
    return [Words(title), Words(""), table]


def _edges(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def changes(running: Sequence[Allocation], plan: Plan) -> Report:
    """What to start and stop."""
    found = moves(running, plan.allocations)
    if not found:
        return [Words("No change: what runs now (--current) is this plan."), Words("")]
    several = len({move.service for move in found}) > 1
    headings = ("CHANGE", "NOW", "THEN", *(("SERVICE",) if several else ()), "EACH", "NODE GROUP")
    table = Table(headings, right=("CHANGE", "NOW", "THEN"), wrapped=("SERVICE", "EACH", "NODE GROUP"))
    for move in found:
        counts = (f"{move.more:+d}", str(move.before), str(move.after))
        named = f"{move.recipe}" + (f" ({move.pool})" if move.pool != "serve" else "")
        table.rows.append((*counts, *((move.service,) if several else ()), named, move.node_group))
    return [table, Words("")]


def refusals(plan: Plan) -> Table:
    """Every refused recipe with its reason."""
    many = len({refusal.service for refusal in plan.refused}) > 1
    headings = ("REFUSED", "SERVICE", "WHY") if many else ("REFUSED", "WHY")
    table = Table(headings, wrapped=("REFUSED", "WHY"))
    for refusal in plan.refused:
        middle = (refusal.service,) if many else ()
        table.rows.append((refusal.recipe, *middle, refusal.reason))
    return table


def metrics(plan: Plan) -> Report:
    """The six metrics of each service at full load, and what each means."""
    headings = ("MEMORY", "COMPUTE", "LATENCY", "TOKENS/s", "POWER", "COMPRESSION")
    table = Table(("EFFICIENCY", *headings), right=headings)
    for name, one in by_service(plan).items():
        row = (
            percent(one.memory_utilisation_ratio),
            percent(one.compute_utilisation_ratio),
            seconds(one.mean_latency_s),
            f"{one.tokens_per_s:,.0f}",
            watts(one.power_w),
            f"{one.compression_ratio:.2f}",
        )
        table.rows.append((name, *row))
    said = "; ".join(
        f"{title} ({short}): {words}" for title, (short, words) in zip(headings, MEANING.values(), strict=True)
    )
    return [table, Words(f"At full load. {said}. After EfficientLLM, arXiv 2505.13840.")]


def allocation_report(answer: GPUAllocation) -> Report:
    """What `muster allocate` prints."""
    if answer.infeasible is not None:
        return [
            Words("infeasible", "bold red"),
            Words(f"why: {answer.infeasible.why}"),
            Words(f"cheapest way out: {answer.infeasible.relaxation}"),
        ]
    if answer.status == "unknown":
        return [Words("unknown: no plan found within the limit; a longer --time-limit looks further", "bold red")]
    proof = "proved optimal" if answer.status == "optimal" else f"gap {answer.gap_ratio or 0:.2%}"
    table = Table(("GPU", "COUNT"), right=("COUNT",))
    table.rows.extend((gpu, str(count)) for gpu, count in answer.counts.items())
    return [Words(f"{dollars(answer.usd_per_hour)}/h, {proof}", "bold green"), Words(""), table]


def gpu_table(gpus: Sequence[GPUType]) -> Table:
    """The catalogue of GPUs; 16-bit is bf16, or fp16 where a GPU has no bf16."""
    figures = ("MEMORY GB", "HBM GB/s", "16-BIT TFLOP/s", "FP8 TFLOP/s", "TDP W", "$/h")
    table = Table(("GPU", "VENDOR", *figures), right=figures, wrapped=figures)
    for gpu in gpus:
        half = gpu.flops_per_s.get("bf16", gpu.flops_per_s.get("fp16"))
        fp8 = gpu.flops_per_s.get("fp8")
        row = (
            gpu.name,
            gpu.vendor,
            f"{gpu.hbm_bytes / 1e9:.0f}",
            f"{gpu.hbm_bytes_per_s / 1e9:,.0f}",
            f"{half / 1e12:,.0f}" if half else "-",
            f"{fp8 / 1e12:,.0f}" if fp8 else "-",
            f"{gpu.tdp_w:.0f}",
            dollars(gpu.usd_per_hour),
        )
        table.rows.append(row)
    return table


def price_notes() -> list[Words]:
    """What the prices of the catalogue are, below its table."""
    return [
        Words("$/h: list prices of different providers, each with its source in --json;"),
        Words("used only where the inventory gives none."),
    ]


def _billions(count: float) -> str:
    return f"{count / 1e9:,.0f}" if count >= 1e11 else f"{count / 1e9:.3g}"


def model_table(models: Sequence[Model], sizes: Sequence[tuple[float, float]]) -> Table:
    """The catalogue of models; `sizes` are (parameters, active parameters)."""
    figures = ("10^9 PARAMS", "10^9 ACTIVE", "LAYERS", "CONTEXT")
    table = Table(("MODEL", "FAMILY", *figures), right=figures, wrapped=figures)
    for model, (total, active) in zip(models, sizes, strict=True):
        layers = sum(block.count for block in model.blocks)
        row = (
            model.name,
            model.family,
            _billions(total),
            _billions(active),
            str(layers),
            str(model.max_context),
        )
        table.rows.append(row)
    return table


def breakdown_table(phase: Breakdown) -> Table:
    """Where one step's time goes, operation by operation, the engine's own time last."""
    work, hbm, link = (max((_amounts(line)[i] for line in phase.lines), default=0.0) for i in range(3))
    scales = [("TFLOP", 1e12) if work >= _WIDE * 1e9 else ("GFLOP", 1e9)]
    scales += [
        (f"{at} GB", 1e9) if moved >= _WIDE * 1e6 else (f"{at} MB", 1e6) for at, moved in (("HBM", hbm), ("LINK", link))
    ]
    figures = ("TIME", "SHARE", *(name for name, _ in scales))
    table = Table((f"{phase.phase.upper()} STEP", *figures, "BOUND"), right=figures)
    for line in phase.lines:
        if line.time_s < _LEAST_S:
            continue
        moved = (f"{amount / unit:,.1f}" for amount, (_, unit) in zip(_amounts(line), scales, strict=True))
        table.rows.append((line.operation, _time(line.time_s), percent(line.share_ratio), *moved, line.bound))
    if phase.host_s >= _LEAST_S:
        table.rows.append(("engine", _time(phase.host_s), percent(phase.host_s / phase.total_s), "-", "-", "-", "host"))
    table.rows.append((f"all, {phase.tokens:,.0f} tokens", _time(phase.total_s), "100%", "", "", "", ""))
    return table


def _amounts(line: Line) -> tuple[float, float, float]:
    return line.flops, line.hbm_bytes, line.link_bytes


def memory_table(made: Budget, hbm_bytes: float) -> Table:
    """Where the bytes of one GPU go, the largest first, and what is left free."""
    figures = ("GB", "SHARE")
    table = Table(("MEMORY OF ONE GPU", *figures), right=figures)
    items = sorted(made.items.items(), key=lambda item: -item[1])
    free = ("left free", max(hbm_bytes - sum(made.items.values()), 0.0))
    for name, amount in (*items, free):
        table.rows.append((name, f"{amount / 1e9:,.2f}", percent(amount / hbm_bytes)))
    return table


def _time(value_s: float) -> str:
    if value_s < 10:
        return f"{value_s * 1e6:,.0f} us" if value_s < 1e-3 else f"{value_s * 1e3:,.2f} ms"
    for unit, unit_s in (("h", 3600.0), ("min", 60.0)):
        if value_s >= 2 * unit_s:
            return f"{value_s / unit_s:,.1f} {unit}"
    return f"{value_s:.1f} s"
