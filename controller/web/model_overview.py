"""The fleet at a glance: cost and power, whether objectives are met, GPUs in use, what changed last and why."""

from dataclasses import dataclass

from controller.web.model_nodes import NodeRow, nodes
from controller.web.model_plans import PlanDiff, diff, plans
from controller.web.model_power import domains
from controller.web.model_services import services
from controller.web.site import Site

_MOST_CHANGES = 10


@dataclass(frozen=True, slots=True)
class GpuCount:
    """GPUs of one type: what nodes that are open or in use have, what replicas hold, what is out for faults."""

    gpu: str
    used: int
    total: int
    out: int


@dataclass(frozen=True, slots=True)
class Change:
    """A plan that came into force: why, and what it changed of the one before (None: it was the first)."""

    at_s: float
    service: str
    decision: str
    cause: str
    reason: str
    usd_per_hour: float
    diff: PlanDiff | None


@dataclass(frozen=True, slots=True)
class Overview:
    """`power_w`: of all nodes, None: no agent was heard. `budget_w`: of all power domains, None: there is none;
    `domains_w` is drawn of it, and no more than that is held to it. `attainment_ratio` None: not observed."""

    at_s: float
    speed: float  # simulated seconds per second; 1 for a real cluster
    usd_per_hour: float
    power_w: float | None
    budget_w: float | None
    domains_w: float | None
    attainment_ratio: float | None
    services: int
    services_ready: int
    services_waiting: int  # to be planned
    replicas: int
    replicas_ready: int
    gpus_used: int
    gpus_total: int
    gpus: tuple[GpuCount, ...]
    nodes: int
    nodes_out: int
    faults: int
    changes: tuple[Change, ...]


def overview(site: Site, rows: list[NodeRow] | None = None) -> Overview:
    """The fleet now. `rows`: the nodes, where the caller has them."""
    rows, served = nodes(site) if rows is None else rows, services(site)
    power = [row.power_w for row in rows if row.power_w is not None]
    held = domains(site, rows)
    drawn = [row.drawn_w for row in held if row.drawn_w is not None]
    gpus = _gpus(rows)
    return Overview(
        at_s=site.clock(),
        speed=site.speed(),
        usd_per_hour=sum(row.usd_per_hour for row in served),
        power_w=sum(power) if power else None,
        budget_w=sum(row.budget_w for row in held) if held else None,
        domains_w=sum(drawn) if drawn else None,
        attainment_ratio=site.history.latest("attainment_ratio").get(""),
        services=len(served),
        services_ready=sum(row.ready for row in served),
        services_waiting=len(site.known.wanted()),
        replicas=sum(row.replicas for row in served),
        replicas_ready=sum(row.replicas_ready for row in served),
        gpus_used=sum(row.used for row in gpus),
        gpus_total=sum(row.total for row in gpus),
        gpus=gpus,
        nodes=len(rows),
        nodes_out=sum(row.out for row in rows),
        faults=sum(len(row.faults) for row in rows),
        changes=changes(site),
    )


def _gpus(rows: list[NodeRow]) -> tuple[GpuCount, ...]:
    found: dict[str, list[int]] = {}
    for row in rows:
        counts = found.setdefault(row.gpu or "unknown", [0, 0, 0])
        counts[0] += row.held
        counts[1] += row.gpus
        counts[2] += row.gpus if row.out else sum(tile.health in ("faulty", "lost") for tile in row.tiles)
    return tuple(GpuCount(gpu, *counts) for gpu, counts in sorted(found.items()))


def changes(site: Site, most: int = _MOST_CHANGES) -> tuple[Change, ...]:
    """The plans that came into force last, the newest first: one for each service."""
    found = []
    for one in plans(site):
        now = one.current
        if not now.at_s or one.infeasible is not None:
            continue
        before = None if one.previous is None else diff(one.key, one.previous, now)
        found.append(Change(now.at_s, one.key, now.decision, now.cause, now.reason, now.usd_per_hour, before))
    return tuple(sorted(found, key=lambda row: -row.at_s)[:most])
