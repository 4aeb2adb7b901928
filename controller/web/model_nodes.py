"""Nodes and GPUs as people look at them: load, temperature, health, faults, and what runs on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from controller import names
from controller.facts import is_out
from controller.hardware import PRODUCT, ZONE, gpus_of, group_of, held_by_node, holds, is_open, node_gpus
from controller.health import OUT_SINCE, WHY, has_gpus
from controller.kube.known import gpu_of_product
from controller.reports import Fault, Gpu, Kept
from controller.specs import service_of
from controller.status import is_ready
from controller.web.site import Site
from controller.when import seconds
from planner.catalog import gpu as catalogue

Object = Mapping[str, Any]
Health = Literal["ok", "suspect", "degraded", "faulty", "lost", "unknown"]
INDICES = f"{names.GROUP}/gpus"  # annotation on a pod of the embedded cluster: its GPUs on its node, by index
_FRESH_S = 60.0


@dataclass(frozen=True, slots=True)
class FaultRow:
    """A fault of a node or of one of its GPUs (`gpu` -1: the node), as its agent has it."""

    node: str
    gpu: int
    uuid: str
    detector: str
    severity: str  # info, app, degraded, fatal_gpu, fatal_node
    phase: str  # suspect, confirmed, acted, probation
    action: str
    part: str
    words: str
    since_s: float


@dataclass(frozen=True, slots=True)
class PlacementRow:
    """A pod of a service on a node. `gpu_indices` is empty where only the node's device plugin knows them."""

    service: str
    pod: str
    kind: str
    node: str
    gpus: int
    gpu_indices: tuple[int, ...]
    ready: bool
    phase: str


@dataclass(frozen=True, slots=True)
class GpuTile:
    """One GPU. Readings are None where its agent was not heard lately; `cap_w` is granted, `limit_w` in force."""

    node: str
    index: int
    uuid: str
    gpu: str
    group: str
    zone: str
    health: Health
    busy_ratio: float | None
    power_w: float | None
    tdp_w: float | None
    limit_w: float | None
    cap_w: float | None
    temperature_c: float | None
    memory_used_bytes: float | None
    memory_total_bytes: float | None
    service: str  # whose replica has it; empty for none, or where nobody can tell
    faults: tuple[FaultRow, ...]


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node. `out`: taken out for a fault, since `out_since_s`, because of `why`. `heard_s` None: never."""

    name: str
    group: str
    gpu: str
    zone: str
    power_domain: str
    spot: bool
    owned: bool
    gpus: int
    held: int
    ready: bool
    open: bool
    out: bool
    out_since_s: float | None
    why: str
    heard_s: float | None  # seconds since its agent's last report
    power_w: float | None
    version: str
    placements: tuple[PlacementRow, ...]
    tiles: tuple[GpuTile, ...]
    faults: tuple[FaultRow, ...]


def nodes(site: Site) -> list[NodeRow]:
    """All nodes that have GPUs, by group and name."""
    kept, caps = site.kept(), site.caps()
    by_node: dict[str, list[Object]] = {}
    for pod in site.known.items("pods"):
        if holds(pod) and gpus_of(pod):
            by_node.setdefault(pod["spec"]["nodeName"], []).append(pod)
    found = [
        _node(site, obj, kept.get(name := obj["metadata"]["name"]), caps, by_node.get(name, []))
        for obj in site.known.items("nodes")
        if has_gpus(obj)
    ]
    return sorted(found, key=lambda row: (row.group, row.name))


def node(site: Site, name: str) -> NodeRow | None:
    """One node; None where there is none with GPUs."""
    obj = site.known.cache.get("nodes", "", name)
    if obj is None or not has_gpus(obj):
        return None
    pods = [one for one in site.known.items("pods") if one["spec"].get("nodeName") == name]
    mine = [one for one in pods if holds(one) and gpus_of(one)]
    return _node(site, obj, site.kept().get(name), site.caps(), mine)


def tiles(rows: Sequence[NodeRow]) -> list[GpuTile]:
    """The GPUs of all nodes."""
    return [tile for row in rows for tile in row.tiles]


def _node(site: Site, obj: Object, kept: Kept | None, caps: Mapping[str, float], pods: Sequence[Object]) -> NodeRow:
    meta, labels = obj["metadata"], obj["metadata"].get("labels") or {}
    groups = site.known.facts().groups
    group = group_of(obj, groups)
    entry: Object = groups.get(group, {})
    gpu = str(entry.get("gpu") or gpu_of_product(labels.get(PRODUCT, "")) or labels.get(PRODUCT, ""))
    notes = meta.get("annotations") or {}
    faults = () if kept is None else tuple(_fault(meta["name"], one) for one in kept.report.faults if _told(one))
    placements = tuple(_placement(pod) for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"])))
    place = _Place(meta["name"], gpu, group, str(entry.get("zone") or labels.get(ZONE, "")), node_gpus(obj))
    now_s = site.clock()
    made = _tiles(place, kept, caps, placements, faults, now_s)
    power = [tile.power_w for tile in made if tile.power_w is not None]
    return NodeRow(
        name=place.node,
        group=group,
        gpu=gpu,
        zone=place.zone,
        power_domain=str(entry.get("powerDomain", "")),
        spot=bool(entry.get("spot")),
        owned=bool(entry.get("owned")),
        gpus=place.gpus,
        held=held_by_node(pods).get(place.node, 0),
        ready=is_ready(obj),
        open=is_open(obj),
        out=is_out(obj),
        out_since_s=seconds(notes[OUT_SINCE]) if OUT_SINCE in notes else None,
        why=notes.get(WHY, ""),
        heard_s=None if kept is None else max(now_s - kept.came_s, 0.0),
        power_w=sum(power) if power else None,
        version=meta.get("resourceVersion", ""),
        placements=placements,
        tiles=made,
        faults=faults,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """What all GPUs of a node share."""

    node: str
    gpu: str
    group: str
    zone: str
    gpus: int


def _tiles(
    place: _Place,
    kept: Kept | None,
    caps: Mapping[str, float],
    placements: Sequence[PlacementRow],
    faults: Sequence[FaultRow],
    now_s: float,
) -> tuple[GpuTile, ...]:
    """A tile for each GPU that the agent tells of, or, where none was heard, for each that the node offers."""
    fresh = kept is not None and now_s - kept.came_s <= _FRESH_S
    told = {} if kept is None else {one.gpu: one for one in kept.report.gpus}
    indices = sorted(told) or range(place.gpus)
    of = {index: row.service for row in placements for index in row.gpu_indices}
    alone = {row.service for row in placements} if sum(row.gpus for row in placements) >= len(indices) else set()
    whole = alone.pop() if len(alone) == 1 else ""  # a node full of one service needs no index to tell whose it is
    return tuple(
        _tile(place, index, told.get(index), fresh, caps, of.get(index, whole), [f for f in faults if f.gpu == index])
        for index in indices
    )


def _tile(
    place: _Place,
    index: int,
    gpu: Gpu | None,
    fresh: bool,
    caps: Mapping[str, float],
    service: str,
    faults: Sequence[FaultRow],
) -> GpuTile:
    known = gpu_of_product(gpu.model if gpu is not None else place.gpu) or gpu_of_product(place.gpu)

    def reading(*keys: str) -> float | None:
        return next((gpu.values[key] for key in keys if key in gpu.values), None) if gpu is not None and fresh else None

    return GpuTile(
        node=place.node,
        index=index,
        uuid="" if gpu is None else gpu.uuid,
        gpu=known or place.gpu,
        group=place.group,
        zone=place.zone,
        health=_health(gpu, fresh, faults),
        busy_ratio=reading("sm_active_ratio", "utilization_ratio"),
        power_w=reading("power_w"),
        tdp_w=None if known is None else catalogue(known).tdp_w,
        limit_w=reading("power_limit_enforced_w"),
        cap_w=None if gpu is None else caps.get(gpu.uuid),
        temperature_c=reading("temperature_c"),
        memory_used_bytes=reading("memory_used_bytes"),
        memory_total_bytes=reading("memory_total_bytes"),
        service=service,
        faults=tuple(faults),
    )


def _health(gpu: Gpu | None, fresh: bool, faults: Sequence[FaultRow]) -> Health:
    if gpu is not None and not gpu.up:
        return "lost"
    sure = {one.severity for one in faults if one.phase in ("confirmed", "acted")}
    if sure & {"fatal_gpu", "fatal_node"}:
        return "faulty"
    if "degraded" in sure:
        return "degraded"
    if any(one.severity in ("degraded", "fatal_gpu", "fatal_node") for one in faults):
        return "suspect"  # not certain yet, or on probation
    return "ok" if gpu is not None and fresh else "unknown"


def _told(fault: Fault) -> bool:
    return fault.phase != "healthy"


def _fault(node: str, fault: Fault) -> FaultRow:
    return FaultRow(
        node, fault.gpu, fault.uuid, fault.detector, fault.severity, fault.phase, fault.action, fault.part,
        fault.words, fault.since_s,
    )  # fmt: skip


def _placement(pod: Object) -> PlacementRow:
    meta, status = pod["metadata"], pod.get("status") or {}
    indices = (meta.get("annotations") or {}).get(INDICES, "")
    return PlacementRow(
        service=service_of(pod),
        pod=meta["name"],
        kind=(meta.get("labels") or {}).get(names.KIND, ""),
        node=pod["spec"].get("nodeName", ""),
        gpus=gpus_of(pod),
        gpu_indices=tuple(int(one) for one in indices.split(",") if one.isdecimal()),
        ready=is_ready(pod),
        phase=status.get("phase", ""),
    )
