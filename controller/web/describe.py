"""All about one thing, for a terminal: state and why, figures beside what was planned, events."""

from collections.abc import Callable, Mapping
from typing import Any

from controller.web.client import Client
from controller.web.tables import Resource, age, resource, table
from planner.errors import BadInput
from planner.show import Report, Table, Words, dollars, percent, seconds, watts
from planner.units import rate_words

Object = Mapping[str, Any]
_MOST_EVENTS = 20
_DESCRIBED = ("services", "plans", "nodes", "powerdomains")
_INSTEAD = {"gpus": "; GPUs are told by their node: muster describe node NODE"}


def has_report(kind: Resource) -> None:
    """Raises BadInput for what has none."""
    if kind.name not in _DESCRIBED:
        allowed = ", ".join(_DESCRIBED) + _INSTEAD.get(kind.name, "")
        raise BadInput(f"KIND: got {kind.name!r}, allowed: {allowed}")


def report_of(client: Client, kind: Resource, name: str, namespace: str) -> Report:
    """The report; raises BadInput for what has none."""
    reports: Mapping[str, Callable[[Client, str, str], Report]] = {
        "services": _service, "plans": _plan, "nodes": _node, "powerdomains": _domain,
    }  # fmt: skip
    has_report(kind)
    return reports[kind.name](client, name, namespace)


def view_of(client: Client, kind: Resource, name: str, namespace: str) -> Object:
    """What the report is made of, for programs; raises BadInput for what has none."""
    paths = {
        "services": f"/services/{namespace}/{name}/view", "plans": f"/plans/{namespace}/{name}",
        "nodes": f"/nodes/{name}", "powerdomains": f"/powerdomains/{name}/view",
    }  # fmt: skip
    has_report(kind)
    found: Object = client.ask("GET", paths[kind.name]).found
    return found


def _service(client: Client, name: str, namespace: str) -> Report:
    reply = client.ask("GET", f"/services/{namespace}/{name}/view")
    found, now_s = reply.found, reply.clock_s
    row = found["service"]
    facts = _facts(
        ("Service", row["key"]),
        ("Model", row["model"]),
        ("State", f"{row['reason']}, {row['replicas_ready']} of {row['replicas']} replicas serve"),
        ("Why", row["explained"]),
        ("Rate", _rate(row)),
        ("Objectives", _attained(row)),
        ("Cost", f"{dollars(row['usd_per_hour'])}/h, {watts(row['power_w'])} at full load"),
        ("Plan", row["decision"]),
        ("Age", age(row["created_s"], now_s)),
    )
    report: list[Words | Table] = [*facts, *(Words(f"problem: {one}", "red") for one in found["problems"]), Words("")]
    report += _titled("Latencies", _latencies(found["latencies"]))
    report += _titled("Replicas", _replicas(found["replicas"]))
    report += _titled("Conditions", _conditions(found["conditions"], now_s))
    if found["plan"] is not None:
        report += _binding(found["plan"]["binding"])
    return [*report, *_events(client, row["key"], namespace)]


def _rate(row: Object) -> str:
    seen = "not observed" if row["rate_per_s"] is None else f"{rate_words(row['rate_per_s'])} requests/s"
    return seen if row["planned_per_s"] is None else f"{seen}, planned for {rate_words(row['planned_per_s'])}"


def _attained(row: Object) -> str:
    if not row["replicas_ready"]:
        return "not observed: no replica serves"
    if row["attainment_ratio"] is None:
        return row["slo"] or "not observed"
    missed = "; missed when last judged" if row["slo"] == "Missed" else ""
    return f"met by {percent(row['attainment_ratio'])} of requests in the last minute{missed}"


def _latencies(rows: list[Object]) -> Table:
    figures = ("OBJECTIVE", "PLANNED, LARGEST REQUESTS", "p50 NOW", "p95 NOW")
    made = Table(("CLASS", "LATENCY", "AT", *figures), right=figures)
    for row in rows:
        cells = (row["objective_s"], row["predicted_s"], row["observed_p50_s"], row["observed_p95_s"])
        at = f"p{row['percentile_ratio'] * 100:g}"
        made.rows.append((row["slo_class"], row["metric"].removesuffix("_s").upper(), at, *map(seconds, cells)))
    return made


def _replicas(rows: list[Object]) -> Table:
    figures = ("PLANNED", "TOLD", "READY", "STARTING", "LEAVING", "STALLED")
    made = Table(("EACH", "POOL", "NODE GROUP", *figures), right=figures)
    for row in rows:
        counts = (str(row[key.lower()]) for key in figures)
        made.rows.append((row["recipe"], row["pool"], row["node_group"], *counts))
    return made


def _conditions(rows: list[Object], now_s: float) -> Table:
    made = Table(("TYPE", "STATUS", "REASON", "FOR", "MESSAGE"), right=("FOR",), wrapped=("MESSAGE",))
    for row in rows:
        since = age(row["since_s"], now_s) or "-"
        made.rows.append((row["type"], row["status"], row["reason"], since, row["message"]))
    return made


def _plan(client: Client, name: str, namespace: str) -> Report:
    reply = client.ask("GET", f"/plans/{namespace}/{name}")
    found, now_s = reply.found, reply.clock_s
    now = found["current"]
    facts = _facts(
        ("Plan", f"{found['key']}, decision {now['decision']}"),
        ("Made", f"{age(now['at_s'], now_s) or '-'} ago, for {rate_words(now['rate_per_s'] or 0)} requests/s"),
        ("Cause", now["cause"]),
        ("Reason", now["reason"]),
        ("Cost", f"{dollars(now['usd_per_hour'])}/h, {watts(now['power_w'])} at full load, {now['gpus']} GPUs"),
    )
    report: list[Words | Table] = [*facts, Words("")]
    report += _titled("Runs", _allocations(now["allocations"]))
    report += _binding(found["binding"])
    if (why := found["infeasible"]) is not None:
        report += [Words(f"No plan for what is asked: {why['why']}", "red"), Words(f"way out: {why['relaxation']}")]
    if (waits := found["proposal"]) is not None:
        words = (
            f"Decision {waits['decision']} waits for approval: {waits['reason']}; {dollars(waits['usd_per_hour'])}/h"
        )
        report += [Words(words, "bold"), *_titled("Would run", _allocations(waits["allocations"]))]
    return report


def _allocations(rows: list[Object]) -> Table:
    figures = ("REPLICAS", "BUSY", "$/H", "POWER")
    made = Table(("REPLICAS", "EACH", "NODE GROUP", "BUSY", "$/H", "POWER"), right=figures)
    for row in rows:
        pool = "" if row["pool"] == "serve" else f" ({row['pool']})"
        cells = (percent(row["busy_ratio"]), dollars(row["usd_per_hour"]), watts(row["power_w"]))
        made.rows.append((str(row["replicas"]), row["recipe"] + pool, f"{row['node_group']} ({row['zone']})", *cells))
    return made


def _node(client: Client, name: str, _: str) -> Report:
    reply = client.ask("GET", f"/nodes/{name}")
    row = reply.found
    facts = _facts(
        ("Node", f"{row['name']}, group {row['group']}, zone {row['zone']}"),
        ("GPUs", f"{row['held']} of {row['gpus']} {row['gpu']} in use"),
        ("State", "out for a fault" if row["out"] else "open" if row["open"] else "closed"),
        ("Why", row["why"]),
        ("Heard", "never" if row["heard_s"] is None else f"{row['heard_s']:.0f} s ago"),
        ("Power", watts(row["power_w"])),
    )
    report: list[Words | Table] = [*facts, Words("")]
    report += _titled("GPUs", table(resource("gpus"), row["tiles"], reply.clock_s, wide=True, spaces=False))
    placed = Table(("POD", "SERVICE", "GPUS", "READY", "PHASE"), right=("GPUS",))
    for one in row["placements"]:
        placed.rows.append(
            (one["pod"], one["service"], str(one["gpus"]), "yes" if one["ready"] else "no", one["phase"])
        )
    faults = Table(("GPU", "SEVERITY", "PHASE", "SINCE", "WHAT"), right=("GPU", "SINCE"), wrapped=("WHAT",))
    for one in row["faults"]:
        gpu = "node" if one["gpu"] < 0 else str(one["gpu"])
        since = age(one["since_s"], reply.clock_s) or "-"
        faults.rows.append((gpu, one["severity"], one["phase"], since, one["words"] or one["part"]))
    return [*report, *_titled("Pods", placed), *_titled("Faults", faults), *_events(client, row["name"], "")]


def _domain(client: Client, name: str, _: str) -> Report:
    row = client.ask("GET", f"/powerdomains/{name}/view").found
    facts = _facts(
        ("Power domain", row["name"]),
        ("Budget", watts(row["budget_w"])),
        ("Drawn", watts(row["drawn_w"])),
        ("Limits", watts(row["allowed_w"])),
        ("Planned", f"{watts(row['planned_w'])} by replicas at full load; what idle GPUs draw comes on top"),
        ("Idle", f"{watts(row['idle_w'])} drawn by {row['idle_gpus']} GPUs that nothing runs on"),
        ("GPUs", f"{row['gpus']} in {', '.join(row['groups']) or 'no group'}"),
    )
    figures = ("PRIORITY", "GPUS", "CAP", "PLANNED")
    caps = Table(("PRIORITY", "SERVICE", "EACH", "NODE GROUP", "GPUS", "CAP", "PLANNED"), right=figures)
    for one in row["caps"]:
        words = (one["service"], one["recipe"], one["node_group"], str(one["gpus"]))
        caps.rows.append((str(one["priority"]), *words, watts(one["cap_w"]), watts(one["planned_w"])))
    return [*facts, Words(""), *_titled("Caps by priority", caps)]


def _facts(*rows: tuple[str, str]) -> list[Words | Table]:
    wide = max(len(key) for key, _ in rows) + 2
    return [Words(f"{key + ':':{wide}}{value or '-'}") for key, value in rows]


def _titled(title: str, made: Table) -> list[Words | Table]:
    return [Words(title, "bold"), made, Words("")] if made.rows else []


def _binding(rows: list[Object]) -> list[Words | Table]:
    if not rows:
        return []
    made = Table(("LIMIT", "USED", "OF"), right=("USED", "OF"))
    for row in rows:
        made.rows.append((row["what"], _amount(row["used"], row["unit"]), _amount(row["limit"], row["unit"])))
    return _titled("Stands at", made)


def _amount(value: float, unit: str) -> str:
    """In the unit that suits: never in powers of ten."""
    shown: Mapping[str, Callable[[float], str]] = {
        "W": watts, "s": seconds, "$/h": lambda value: f"{dollars(value)}/h",
    }  # fmt: skip
    return shown[unit](value) if unit in shown else f"{value:,.0f} {unit}"


def _events(client: Client, about: str, namespace: str) -> list[Words | Table]:
    query: dict[str, str | int] = {
        "about": about,
        "limit": _MOST_EVENTS,
        **({"namespace": namespace} if namespace else {}),
    }
    reply = client.ask("GET", "/events", query=query)
    rows = list(reversed(reply.found["items"]))
    return _titled("Events", table(resource("events"), rows, reply.clock_s, wide=False, spaces=False))
