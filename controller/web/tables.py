"""What a client can look at: names of resources, where they are asked for, and the columns that people see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.web.why import whole
from controller.when import seconds
from planner.errors import UnknownName
from planner.show import Table, Words, dollars, percent, watts

Object = Mapping[str, Any]
_BELOW = 2  # columns that what stands below a row is indented
Cell = Callable[[Object, float], str]
"""A row and the cluster's time to what is shown."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `wide`: of -o wide only; `right`: figures; `wraps`: may take several lines."""

    heading: str
    cell: Cell
    wide: bool = False
    right: bool = False
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource. `kind`: of objects that people apply, empty for views; `key`: how a row is called; `below`: what is
    too long for a column, and stands below its row."""

    name: str
    path: str
    aliases: tuple[str, ...]
    columns: tuple[Column, ...]
    key: Callable[[Object], str]
    kind: str = ""
    namespaced: bool = False
    below: Callable[[Object], str] = lambda row: ""


def table(resource: Resource, rows: Sequence[Object], now_s: float, wide: bool, spaces: bool) -> Table:
    """Rows as people see them. `spaces`: with their namespaces, where they have any."""
    columns = [one for one in resource.columns if wide or not one.wide]
    if resource.namespaced and spaces:
        columns = [Column("NAMESPACE", lambda row, _: _space(row)), *columns]
    made = Table(
        tuple(one.heading for one in columns),
        right=tuple(one.heading for one in columns if one.right),
        wrapped=tuple(one.heading for one in columns if one.wraps),
    )
    for row in rows:
        made.rows.append(tuple(one.cell(row, now_s) or "-" for one in columns))
    return made


def below(resource: Resource, made: Table, rows: Sequence[Object]) -> Table:
    """The table with what stands below its rows. `rows`: those that it is of."""
    said = [resource.below(row) for row in rows]
    made.rows[:] = [
        block
        for cells, more in zip(list(made.rows), said, strict=True)
        for block in (cells, *([Words(more, indent=_BELOW)] if more else []))
    ]
    return made


def resource(name: str) -> Resource:
    """By any of its names; raises UnknownName."""
    for one in RESOURCES:
        if name.lower() in (one.name, *one.aliases):
            return one
    raise UnknownName("resource", name, [one.name for one in RESOURCES])


def of_kind(kind: str) -> Resource:
    """The resource of objects of a kind; raises UnknownName."""
    for one in RESOURCES:
        if one.kind == kind:
            return one
    raise UnknownName("kind", kind, [one.kind for one in RESOURCES if one.kind])


def age(at_s: float | None, now_s: float) -> str:
    """How long ago, in the unit that suits: `42s`, `12m`, `5h`, `3d`."""
    if not at_s:
        return ""
    passed_s = max(now_s - at_s, 0.0)
    for most_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if passed_s < most_s:
            return f"{passed_s / unit_s:.0f}{unit}"
    return f"{passed_s / 86_400:.0f}d"


def _space(row: Object) -> str:
    return str(row.get("namespace") or row.get("metadata", {}).get("namespace", ""))


def _made(row: Object, now_s: float) -> str:
    at = row["metadata"].get("creationTimestamp")
    return age(seconds(at), now_s) if at else ""


def _status(key: str) -> Cell:
    return lambda row, _: _told((row.get("status") or {}).get(key))


def _told(value: object) -> str:
    return "" if value in (None, "-") else str(value)


def _counts(row: Object, _: float) -> str:
    status = row.get("status") or {}
    return f"{status.get('readyReplicas', 0)}/{status.get('desiredReplicas', 0)}"


def _ready(row: Object, _: float) -> str:
    rows = (row.get("status") or {}).get("conditions") or ()
    return next((str(one["reason"]) for one in rows if one["type"] == "Ready"), "")


def _watts(key: str) -> Cell:
    return lambda row, _: watts(row.get(key))


def _ratio(key: str) -> Cell:
    return lambda row, _: "" if row.get(key) is None else percent(float(row[key]))


def _text(key: str) -> Cell:
    return lambda row, _: _told(row.get(key))


def _name(row: Object, _: float) -> str:
    return str(row["metadata"]["name"])


def _meta_key(row: Object) -> str:
    return str(row["metadata"]["name"])


def _now(key: str, told: Callable[[Any], str] = _told) -> Cell:
    return lambda row, _: told(row["current"].get(key))


def _state(row: Object, _: float) -> str:
    words = ["Ready" if row["ready"] else "NotReady"]
    words += ["Out"] if row["out"] else ["Closed"] if not row["open"] else []
    return ",".join(words)


def _plan_state(row: Object, _: float) -> str:
    if row["infeasible"]:
        return "Infeasible"
    return "AwaitsApproval" if row["proposal"] else "InForce"


_SERVICES = (
    Column("NAME", _name),
    Column("MODEL", lambda row, _: str(row["spec"].get("model", "")).rpartition("/")[2]),
    Column("READY", _counts, right=True),
    Column("GPUS", _status("gpus"), right=True),
    Column("SLO", _status("slo")),
    Column("$/H", lambda row, _: dollars((row.get("status") or {}).get("usdPerHour")), right=True),
    Column("POWER", lambda row, _: watts((row.get("status") or {}).get("powerW")), wide=True, right=True),
    Column("PLAN", _status("plan"), wide=True),
    Column("STATE", _ready),
    Column("AGE", _made, right=True),
    Column(
        "WHY", lambda row, _: "see below" if _long(row) else _told((row.get("status") or {}).get("why")), wraps=True
    ),
)
_PLANS = (
    Column("NAME", _text("name")),
    Column("DECISION", _now("decision")),
    Column("STATE", _plan_state),
    Column("CAUSE", _now("cause")),
    Column("REPLICAS", _now("replicas"), right=True),
    Column("GPUS", _now("gpus"), right=True),
    Column("$/H", _now("usd_per_hour", dollars), right=True),
    Column("POWER", _now("power_w", watts), wide=True, right=True),
    Column("AGE", lambda row, now_s: age(row["current"]["at_s"], now_s), right=True),
    Column("REASON", _now("reason"), wide=True, wraps=True),
)
_NODES = (
    Column("NAME", _text("name")),
    Column("GROUP", _text("group")),
    Column("GPU", _text("gpu")),
    Column("USED", lambda row, _: f"{row['held']}/{row['gpus']}", right=True),
    Column("STATE", _state),
    Column("POWER", _watts("power_w"), right=True),
    Column("ZONE", _text("zone"), wide=True),
    Column("DOMAIN", _text("power_domain"), wide=True),
    Column("HEARD", lambda row, _: "" if row["heard_s"] is None else f"{row['heard_s']:.0f}s ago", wide=True),
    Column("WHY", _text("why"), wraps=True),
)
_GPUS = (
    Column("NODE", _text("node")),
    Column("GPU", lambda row, _: str(row["index"]), right=True),
    Column("TYPE", _text("gpu")),
    Column("HEALTH", _text("health")),
    Column("BUSY", _ratio("busy_ratio"), right=True),
    Column("POWER", _watts("power_w"), right=True),
    Column("LIMIT", _watts("limit_w"), right=True),
    Column("TEMP", lambda row, _: "" if row["temperature_c"] is None else f"{row['temperature_c']:.0f}C", right=True),
    Column("SERVICE", _text("service")),
    Column("UUID", _text("uuid"), wide=True),
)
_POWER = (
    Column("NAME", _text("name")),
    Column("BUDGET", _watts("budget_w"), right=True),
    Column("DRAWN", _watts("drawn_w"), right=True),
    Column("LIMITS", _watts("allowed_w"), right=True),
    Column("PLANNED", _watts("planned_w"), right=True),
    Column("IDLE", _watts("idle_w"), right=True),
    Column("GPUS", _text("gpus"), right=True),
    Column("GROUPS", lambda row, _: ", ".join(row["groups"]), wide=True),
)
_INVENTORIES = (
    Column("NAME", _name),
    Column("GROUPS", lambda row, _: ", ".join(one["name"] for one in row["spec"]["nodeGroups"]), wraps=True),
    Column("AGE", _made, right=True),
)
_EVENTS = (
    Column("LAST", lambda row, now_s: age(row["last_s"], now_s), right=True),
    Column("TYPE", _text("type")),
    Column("REASON", _text("reason")),
    Column("ABOUT", lambda row, _: f"{row['kind']}/{row['about']}".lower()),
    Column("COUNT", _text("count"), wide=True, right=True),
    Column("NOTE", _text("note"), wraps=True),
)


def _long(row: Object) -> str:
    """The reason of a service that is too long for a column."""
    return whole(row.get("status") or {})


def _key(row: Object) -> str:
    return str(row["key"])


RESOURCES = (
    Resource(
        "services", "services", ("service", "svc", "gsvc", "gpuservice", "gpuservices"), _SERVICES,
        lambda row: f"{_space(row)}/{_meta_key(row)}", "GPUService", True, _long,
    ),
    Resource("plans", "plans", ("plan", "gplan"), _PLANS, _key, namespaced=True),
    Resource("nodes", "nodes", ("node", "no"), _NODES, lambda row: str(row["name"])),
    Resource("gpus", "gpus", ("gpu",), _GPUS, lambda row: f"{row['node']}/{row['index']}"),
    Resource(
        "inventories", "inventories", ("inventory", "ginv", "clusterinventory", "clusterinventories"), _INVENTORIES,
        _meta_key, "ClusterInventory",
    ),
    Resource("powerdomains", "powerdomains", ("powerdomain", "pdom", "power"), _POWER, lambda row: str(row["name"]),
             "PowerDomain"),
    Resource("events", "events", ("event", "ev"), _EVENTS, lambda row: str(row["id"]), namespaced=True),
)  # fmt: skip
