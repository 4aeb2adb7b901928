"""Shapes to the planner's nouns: names become rows of the catalogue, workloads become rates by bucket."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from planner.catalog import checkpoint
from planner.errors import BadInput
from planner.hardware import Commitment, Inventory, Link, NodeGroup, PowerDomain, Quota, Stock
from planner.model import Model
from planner.service import SLO, Bucket, Constraints, ServiceSpec, Workload
from planner.sizes import Distribution, SizeCell, distribution_cells, planned_rate, trace_cells, window_rates
from planner.spec.clusterinventory import ClusterInventory, LinkShape, NodeGroupShape, QuotaShape
from planner.spec.fields import Catalog, Context, Problem
from planner.spec.gpuservice import (
    BucketRow,
    ConstraintsShape,
    GPUService,
    Rates,
    ServiceShape,
    SLOClass,
    TokenCounts,
    WorkloadShape,
)
from planner.traces import Trace, read_trace
from planner.yaml_text import NodePath

BATCH_CLASS = "batch"
MAX_ROWS = 20_000  # request sizes times SLO classes of one service: profiling holds a row of batches for each
_WORKLOAD: NodePath = ("spec", "workload")


class NotConverted(Exception):
    """Problems that show only when files are read and figures put together."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = list(problems)


def service(shape: GPUService, context: Context) -> ServiceSpec:
    """The service that a document describes; raises NotConverted."""
    spec = shape.spec
    model = context.catalog.model(spec.model, context.folder)
    classes = _classes(spec)
    return ServiceSpec(
        name=shape.metadata.name,
        model=model,
        workload=_workload(spec.workload, classes, model, context.folder),
        slos=tuple(_slo(slo) for slo in spec.slos or []) or (SLO(BATCH_CLASS),),
        namespace=shape.metadata.namespace,
        engine=spec.engine,
        deployment=spec.deployment,
        approval=spec.approval,
        priority=spec.priority,
        quality_floor=spec.quality_floor,
        constraints=Constraints() if spec.constraints is None else _constraints(spec.constraints, context.catalog),
        checkpoint=checkpoint(spec.model) or "",
    )


def _slo(shape: SLOClass) -> SLO:
    return SLO(shape.name, shape.ttft, shape.tpot, shape.e2e, shape.percentile)


def _classes(spec: ServiceShape) -> dict[str, float]:
    """Class of requests -> its share, which sum to 1."""
    if spec.slos is None:
        return {BATCH_CLASS: 1.0}
    shares = {slo.name: 1.0 if slo.share is None else slo.share for slo in spec.slos}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def _constraints(shape: ConstraintsShape, catalog: Catalog) -> Constraints:
    types, redundancy, zones = shape.gpu_types, shape.redundancy, shape.zones
    made = Constraints(
        techniques=None if shape.techniques is None else tuple(shape.techniques),
        usd_per_hour=shape.budget_per_hour,
        max_spot_share=shape.max_spot_share,
        min_replicas=shape.min_replicas,
        max_replicas=shape.max_replicas,
    )
    if types is not None:
        allowed, excluded = _canonical(types.allowed or (), catalog), _canonical(types.excluded, catalog)
        made = replace(made, gpu_types=allowed, excluded_gpu_types=excluded)
    if redundancy is not None:
        made = replace(made, survive_replicas=redundancy.replicas, survive_nodes=redundancy.nodes)
    if zones is not None:
        made = replace(made, min_zones=zones.min, max_zone_share=zones.max_share)
    return made


def _canonical(names: Iterable[str], catalog: Catalog) -> tuple[str, ...]:
    """Catalogue names of names and aliases, each once."""
    return tuple(dict.fromkeys(catalog.gpu(name).name for name in names))


def _workload(shape: WorkloadShape, classes: dict[str, float], model: Model, folder: Path) -> Workload:
    trace = None if shape.trace is None else _trace(folder / shape.trace)
    series, step_s = _series(shape.rates, trace)
    rate_per_s = _planned(shape.rates, series) if shape.rate_per_second is None else shape.rate_per_second
    cells = _cells(shape, trace, model)
    _refuse_too_many(shape, len(cells), len(classes))
    rates, means = {}, {}
    for slo_class, class_share in classes.items():
        for cell in cells:
            bucket = Bucket(slo_class, cell.input_tokens, cell.output_tokens)
            rates[bucket] = rate_per_s * class_share * cell.share
            means[bucket] = (cell.mean_input_tokens, cell.mean_output_tokens)
    return Workload(rates, series, step_s, {} if shape.buckets else means, shape.prefix_hit_ratio)


def _refuse(error: BadInput | str, *steps: str | int) -> NotConverted:
    return NotConverted([((*_WORKLOAD, *steps), str(error))])


def _trace(path: Path) -> Trace:
    try:
        return read_trace(path)
    except BadInput as error:
        raise _refuse(error, "trace") from None


def _series(rates: Rates | None, trace: Trace | None) -> tuple[tuple[float, ...], float]:
    """Rates by window, as written or counted in the trace, and the length of a window."""
    if rates is None:
        return (), 0.0
    if rates.per_second is not None:
        return tuple(rates.per_second), rates.step
    assert trace is not None  # the shape asks for one of the two
    try:
        return window_rates(trace, rates.step), rates.step
    except BadInput as error:
        raise _refuse(error, "rates") from None


def _planned(rates: Rates | None, series: Sequence[float]) -> float:
    assert rates is not None  # the shape asks for a rate or rates
    return planned_rate(series, rates.plan_for)


def _refuse_too_many(shape: WorkloadShape, sizes: int, classes: int) -> None:
    """Raises NotConverted where every size of every class would be more rows than can be profiled in bounded memory."""
    if sizes * classes > MAX_ROWS:
        where = "buckets" if shape.buckets else "trace" if shape.trace else "distribution"
        counted = f"{sizes} request sizes for each of {classes} SLO classes, {sizes * classes} rows"
        raise _refuse(f"got {counted}, allowed: at most {MAX_ROWS} rows (sizes times classes)", where)


def _cells(shape: WorkloadShape, trace: Trace | None, model: Model) -> tuple[SizeCell, ...]:
    """Request sizes with shares that sum to 1; all fit the model's context."""
    if trace is not None:
        beyond = int((trace.input_tokens + trace.output_tokens > model.max_context).sum())
        if beyond:
            raise _refuse(
                f"got {beyond} of {len(trace)} requests with more input and output tokens than {model.name} has "
                f"context, allowed: requests up to {model.max_context} tokens",
                "trace",
            )
        return trace_cells(trace)
    return _distributed(shape, model) if shape.buckets is None else _tabled(shape.buckets, model)


def _tabled(rows: Sequence[BucketRow], model: Model) -> tuple[SizeCell, ...]:
    """The rows that have requests; their sizes are all that is known of them."""
    beyond: list[Problem] = [
        ((*_WORKLOAD, "buckets", index), _beyond(row.input_tokens, row.output_tokens, model))
        for index, row in enumerate(rows)
        if row.input_tokens + row.output_tokens > model.max_context
    ]
    if beyond:
        raise NotConverted(beyond)
    total = sum(row.share for row in rows)
    return tuple(
        SizeCell(row.input_tokens, row.output_tokens, row.share / total, row.input_tokens, row.output_tokens)
        for row in rows
        if row.share > 0
    )


def _distributed(shape: WorkloadShape, model: Model) -> tuple[SizeCell, ...]:
    """Cells of the two distributions; each is checked alone first, so that a problem says which."""
    assert shape.distribution is not None  # the shape asks for one of three
    sides = {"input": shape.distribution.input, "output": shape.distribution.output}
    problems: list[Problem] = []
    for side, counts in sides.items():
        try:
            distribution_cells(_distribution(counts), Distribution("constant", 1))
        except BadInput as error:
            problems.append(((*_WORKLOAD, "distribution", side), str(error)))
    if problems:
        raise NotConverted(problems)
    cells = distribution_cells(_distribution(sides["input"]), _distribution(sides["output"]))
    inputs, outputs = max(cell.input_tokens for cell in cells), max(cell.output_tokens for cell in cells)
    if inputs + outputs > model.max_context:
        raise _refuse(f"{_beyond(inputs, outputs, model)}; max says where sizes end", "distribution")
    return cells


def _distribution(counts: TokenCounts) -> Distribution:
    return Distribution(counts.name, counts.mean, counts.spread, counts.max)


def _beyond(inputs: int, outputs: int, model: Model) -> str:
    return f"got {inputs} + {outputs} tokens, allowed: up to the {model.max_context} tokens of {model.name}'s context"


def inventory(shape: ClusterInventory, context: Context) -> Inventory:
    """The inventory that a document describes."""
    spec = shape.spec
    return Inventory(
        name=shape.metadata.name,
        node_groups=tuple(_node_group(group, context.catalog) for group in spec.node_groups),
        links=tuple(_link(link) for link in spec.links),
        power_domains=tuple(PowerDomain(domain.name, domain.budget) for domain in spec.power_domains),
        usd_per_joule=spec.energy_price or 0.0,
        quotas=tuple(_quota(quota) for quota in spec.quotas),
        stock=tuple(Stock(s.name, s.nodes, s.gpus, s.free_gpus, tuple(s.parts)) for s in spec.stock),
    )


def _quota(shape: QuotaShape) -> Quota:
    named = None if shape.services is None else tuple(shape.services)
    return Quota(shape.name, shape.namespace, shape.gpus, shape.held_gpus, named)


def _link(shape: LinkShape) -> Link:
    a, b = shape.between
    return Link(a, b, shape.bandwidth, shape.latency)


def _node_group(shape: NodeGroupShape, catalog: Catalog) -> NodeGroup:
    gpu, commitment = catalog.gpu(shape.gpu), shape.commitment
    price = 0.0 if shape.owned else gpu.usd_per_hour if shape.price_per_hour is None else shape.price_per_hour
    assert price is not None  # the shape asks for a price where the catalogue has none
    return NodeGroup(
        name=shape.name,
        gpu=gpu,
        gpus_per_node=shape.gpus_per_node,
        nodes=shape.nodes,
        zone=shape.zone,
        usd_per_gpu_hour=price,
        owned=shape.owned,
        spot=shape.spot,
        power_domain=shape.power_domain,
        commitment=None if commitment is None else Commitment(commitment.gpus, commitment.price_per_hour),
        network_bytes_per_s=shape.network_bandwidth,
    )
