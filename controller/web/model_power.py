"""Power domains as people look at them: budget, what is drawn, what may be drawn, and the caps by priority."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.web.model_nodes import GpuTile, NodeRow, nodes
from controller.web.site import Site
from planner.units import POWER

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CapRow:
    """A power cap of a plan on the GPUs of a domain; services of lower `priority` are squeezed first."""

    service: str
    priority: int
    recipe: str
    node_group: str
    gpus: int
    cap_w: float | None  # of each GPU; None: not capped
    planned_w: float  # of all, at full load


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One power domain, in watts. `drawn_w`: measured now; `allowed_w`: the sum of the limits in force;
    `granted_w`: of the caps granted; `planned_w`: by the replicas of plans at full load, to which what GPUs draw that
    nothing runs on comes on top, `idle_w` now; None where no agent was heard."""

    name: str
    budget_w: float
    drawn_w: float | None
    allowed_w: float | None
    granted_w: float | None
    planned_w: float
    idle_w: float | None
    idle_gpus: int
    gpus: int
    groups: tuple[str, ...]
    caps: tuple[CapRow, ...]
    version: str


def domains(site: Site, rows: list[NodeRow] | None = None) -> list[DomainRow]:
    """All power domains, by name. `rows`: the nodes, where the caller has them."""
    rows = nodes(site) if rows is None else rows
    found = sorted(site.known.items("powerdomains"), key=lambda one: str(one["metadata"]["name"]))
    return [_domain(site, obj, rows) for obj in found]


def domain(site: Site, name: str) -> DomainRow | None:
    """One power domain; None where there is none."""
    obj = site.known.cache.get("powerdomains", "", name)
    return None if obj is None else _domain(site, obj, nodes(site))


def _domain(site: Site, obj: Object, rows: list[NodeRow]) -> DomainRow:
    name = obj["metadata"]["name"]
    groups = tuple(group for group, entry in site.known.facts().groups.items() if entry.get("powerDomain", "") == name)
    tiles = [tile for row in rows if row.group in groups for tile in row.tiles]
    idle, caps = [tile for tile in tiles if not tile.service], _caps(site, groups)
    return DomainRow(
        name=name,
        budget_w=POWER.parse(obj["spec"]["budget"]),
        drawn_w=_sum(tiles, "power_w"),
        allowed_w=_sum(tiles, "limit_w"),
        granted_w=_sum(tiles, "cap_w"),
        planned_w=sum(row.planned_w for row in caps),
        idle_w=_sum(idle, "power_w"),
        idle_gpus=len(idle),
        gpus=len(tiles),
        groups=groups,
        caps=caps,
        version=obj["metadata"].get("resourceVersion", ""),
    )


def _sum(tiles: list[GpuTile], reading: str) -> float | None:
    found = [value for tile in tiles if (value := getattr(tile, reading)) is not None]
    return sum(found) if found else None


def _caps(site: Site, groups: tuple[str, ...]) -> tuple[CapRow, ...]:
    """What plans put into the groups, the highest priority first."""
    rows = []
    for plan in site.known.items("plans"):
        for one in site.known.decided(plan):
            if one.node_group not in groups or not one.replicas:
                continue
            obj = site.known.service(f"{plan['metadata'].get('namespace', 'default')}/{plan['metadata']['name']}")
            priority = 0 if obj is None else site.known.priority(obj)
            gpus = one.replicas * one.gpus_per_replica
            cap_w = one.recipe.power_cap_w
            rows.append(CapRow(one.service, priority, str(one.recipe), one.node_group, gpus, cap_w, one.power_w))
    return tuple(sorted(rows, key=lambda row: (-row.priority, row.service, row.recipe)))
