"""Services as people look at them: state and why, rates and latencies against plan and objective, replicas, routing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller import names
from controller.cluster import Running
from controller.manifests.service import table_name, weights_of
from controller.specs import key_of
from controller.status import condition
from controller.web.model_plans import PlanView, plan
from controller.web.site import Site
from controller.web.why import explained
from controller.when import seconds
from planner.service import SLO, ServiceSpec

Object = Mapping[str, Any]
_LATENCIES = ("ttft_s", "tpot_s", "e2e_s")


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """One aspect of a service's state."""

    type: str
    status: str  # True, False, Unknown
    reason: str
    message: str
    since_s: float


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service in a list. What is None was not observed, as of one without replicas, or not planned; `why` is empty
    where nothing is amiss, and `explained` says the same whole."""

    key: str
    namespace: str
    name: str
    model: str
    priority: int
    ready: bool
    reason: str
    why: str
    explained: str
    replicas: int  # planned
    replicas_ready: int
    gpus: int
    rate_per_s: float | None  # observed
    planned_per_s: float | None
    attainment_ratio: float | None
    slo: str
    usd_per_hour: float
    power_w: float
    decision: str
    awaits_approval: bool
    paused: bool
    created_s: float
    version: str


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """One latency of one class: what is asked at `percentile_ratio`, predicted there for its largest requests at full
    load, and observed of all requests of all classes."""

    slo_class: str
    metric: str  # ttft_s, tpot_s, e2e_s
    percentile_ratio: float
    objective_s: float
    predicted_s: float | None
    observed_p50_s: float | None
    observed_p95_s: float | None


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """Replicas of one kind: how many are planned, told to run, serving, on their way, going, overdue."""

    kind: str
    recipe: str
    gpu: str
    pool: str
    node_group: str
    gpus_per_replica: int
    planned: int
    told: int
    ready: int
    starting: int
    leaving: int
    stalled: int


@dataclass(frozen=True, slots=True)
class WeightRow:
    """The share of requests of a class and size that replicas of one kind get, as the router has it now."""

    slo_class: str
    input_tokens: int
    output_tokens: int
    kind: str
    recipe: str
    node_group: str
    share_ratio: float


@dataclass(frozen=True, slots=True)
class ServiceDetail:
    """All of one service. `problems`: what is wrong with its spec, empty for a good one."""

    service: ServiceRow
    generation: int
    conditions: tuple[ConditionRow, ...]
    problems: tuple[str, ...]
    latencies: tuple[LatencyRow, ...]
    replicas: tuple[ReplicaRow, ...]
    weights: tuple[WeightRow, ...]
    plan: PlanView | None
    goodput_per_s: float | None
    waiting: float | None
    kv_cache_ratio: float | None


def services(site: Site) -> list[ServiceRow]:
    """All services, by namespace and name."""
    seen = {metric: site.history.latest(metric) for metric in ("rate_per_s", "attainment_ratio")}
    return [service_row(site, obj, seen) for obj in sorted(site.known.items("gpuservices"), key=key_of)]


def service_row(site: Site, obj: Object, seen: Mapping[str, Mapping[str, float]]) -> ServiceRow:
    """One service. `seen`: metric -> service -> last value."""
    key, meta, spec = key_of(obj), obj["metadata"], obj["spec"]
    status: Object = obj.get("status") or {}
    ready, serving = condition(obj, "Ready"), int(status.get("readyReplicas", 0))
    planned = site.known.plan(key)
    asked = (planned or {"spec": {}})["spec"].get("planned") or {}
    rate = asked.get("ratePerSecond")
    return ServiceRow(
        key=key,
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        model=str(spec.get("model", "")),
        priority=int(spec.get("priority", 0)),
        ready=ready.get("status") == "True",
        reason=ready.get("reason", "NotSeen"),
        why=_said(status.get("why")),
        explained=explained(status),
        replicas=int(status.get("desiredReplicas", 0)),
        replicas_ready=serving,
        gpus=int(status.get("gpus", 0)),
        rate_per_s=seen.get("rate_per_s", {}).get(key),
        planned_per_s=None if rate is None else float(rate),
        attainment_ratio=seen.get("attainment_ratio", {}).get(key) if serving else None,
        slo=_said(status.get("slo")),
        usd_per_hour=float(status.get("usdPerHour", 0.0)),
        power_w=float(status.get("powerW", 0.0)),
        decision=_said(status.get("plan")),
        awaits_approval=bool(planned and planned["spec"].get("proposal")),
        paused=names.PAUSED in (meta.get("annotations") or {}),
        created_s=seconds(meta["creationTimestamp"]) if meta.get("creationTimestamp") else 0.0,
        version=meta.get("resourceVersion", ""),
    )


def _said(text: str | None) -> str:
    return "" if text in (None, "-") else str(text)


def service(site: Site, key: str) -> ServiceDetail | None:
    """All of one service; None where there is none."""
    obj = site.known.service(key)
    if obj is None:
        return None
    seen: dict[str, Mapping[str, float]] = {metric: site.history.latest(metric) for metric in _METRICS}
    spec, planned = site.known.spec(obj), plan(site, key)
    running = site.known.running(key)
    status: Object = obj.get("status") or {}
    if not status.get("readyReplicas"):  # the last values of replicas that are gone say nothing of now
        seen |= {metric: {} for metric in _OF_REPLICAS}
    return ServiceDetail(
        service=service_row(site, obj, seen),
        generation=int(obj["metadata"].get("generation", 1)),
        conditions=tuple(_condition(one) for one in status.get("conditions") or ()),
        problems=tuple(spec) if isinstance(spec, list) else (),
        latencies=_latencies(site, key, spec, seen) if isinstance(spec, ServiceSpec) else (),
        replicas=_replicas(site, key, running),
        weights=_weights(site, key, running),
        plan=planned,
        goodput_per_s=seen["goodput_per_s"].get(key),
        waiting=seen["waiting"].get(key),
        kv_cache_ratio=seen["kv_cache_ratio"].get(key),
    )


_METRICS = (
    "rate_per_s", "attainment_ratio", "goodput_per_s", "waiting", "kv_cache_ratio", "ttft_p50_s", "ttft_p95_s",
    "tpot_p50_s", "tpot_p95_s", "e2e_p95_s",
)  # fmt: skip
_OF_REPLICAS = [one for one in _METRICS if one not in ("rate_per_s", "waiting")]


def _condition(row: Object) -> ConditionRow:
    since = row.get("lastTransitionTime")
    return ConditionRow(
        row["type"], row["status"], row.get("reason", ""), row.get("message", ""), seconds(since) if since else 0.0
    )


def _latencies(
    site: Site, key: str, spec: ServiceSpec, seen: Mapping[str, Mapping[str, float]]
) -> tuple[LatencyRow, ...]:
    found = site.known.plan(key)
    decided = [one for one in (site.known.decided(found) if found is not None else ()) if one.replicas]

    def predicted_s(slo: SLO, metric: str) -> float | None:
        rows = [row for one in decided for row in one.predicted.by_class if row.slo_class == slo.name]
        return max((float(getattr(row, metric)) for row in rows), default=None)

    def observed_s(metric: str, percentile: str) -> float | None:
        return seen.get(f"{metric.removesuffix('_s')}_{percentile}_s", {}).get(key)

    return tuple(
        LatencyRow(
            slo.name, metric, slo.percentile, limit_s, predicted_s(slo, metric), observed_s(metric, "p50"),
            observed_s(metric, "p95"),
        )
        for slo in spec.slos
        for metric in _LATENCIES
        if (limit_s := getattr(slo, metric)) is not None
    )  # fmt: skip


def _replicas(site: Site, key: str, running: list[Running]) -> tuple[ReplicaRow, ...]:
    """What runs beside what is planned; a kind that is only planned or only runs has zeros on the other side."""
    obj = site.known.service(key)
    made = [] if obj is None else site.known.made(obj, site.known.plan(key))
    planned = {one.kind.name: one.replicas for one in made}
    kinds = {kind.name: kind for kind in (*(one.kind for one in made), *(one.kind for one in running))}
    runs = {one.kind.name: one for one in running}
    rows = []
    for name, kind in sorted(kinds.items()):
        one = runs.get(name, Running(kind, 0))
        starting = max(one.replicas - one.ready - one.stalled, 0)
        rows.append(
            ReplicaRow(
                name, kind.recipe, gpu_of(kind.recipe), kind.pool, kind.node_group, kind.gpus, planned.get(name, 0),
                one.replicas, one.ready, starting, one.leaving, one.stalled,
            )
        )  # fmt: skip
    return tuple(rows)


def gpu_of(recipe: str) -> str:
    """The GPU type of a recipe in words, such as `2xL4 tp2`."""
    first = recipe.partition(" ")[0]
    count, _, name = first.partition("x")
    return name if count.isdecimal() and name else first


def _weights(site: Site, key: str, running: list[Running]) -> tuple[WeightRow, ...]:
    space, _, name = key.partition("/")
    found = site.known.cache.get("configmaps", space, table_name(name))
    if found is None:
        return ()
    kinds = {one.kind.name: one.kind for one in running}
    return tuple(
        WeightRow(
            *bucket, kind, kinds[kind].recipe if kind in kinds else "",
            kinds[kind].node_group if kind in kinds else "", share,
        )
        for bucket, row in sorted(weights_of(found).items())
        for kind, share in sorted(row.items())
    )  # fmt: skip
