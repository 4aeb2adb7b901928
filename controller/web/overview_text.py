"""The fleet at a glance, for a terminal."""

from collections.abc import Mapping
from typing import Any

from controller.web.client import Client
from controller.web.tables import age, below, resource, table
from planner.show import Report, Table, Words, dollars, percent, watts

Object = Mapping[str, Any]


def overview_report(client: Client) -> Report:
    """Cost and power, GPUs by type, services, what changed last."""
    seen = client.ask("GET", "/overview")
    rows, now_s = client.all("/services")
    fleet: Object = seen.found
    report: list[Words | Table] = [Words(_headline(fleet), "bold"), Words(_counts(fleet)), Words("")]
    gpus = Table(("GPU", "USED", "OF", "OUT"), right=("USED", "OF", "OUT"))
    for row in fleet["gpus"]:
        gpus.rows.append((row["gpu"], str(row["used"]), str(row["total"]), str(row["out"] or "-")))
    if gpus.rows:
        report += [gpus, Words("")]
    if rows:
        kind = resource("services")
        report += [below(kind, table(kind, rows, now_s, wide=False, spaces=True), rows), Words("")]
    changes = Table(("CHANGED", "SERVICE", "CAUSE", "$/H", "WHY"), right=("CHANGED", "$/H"), wrapped=("WHY",))
    for row in fleet["changes"][:5]:
        cost = dollars(row["usd_per_hour"])
        changes.rows.append((age(row["at_s"], now_s) or "now", row["service"], row["cause"], cost, row["reason"]))
    return [*report, changes] if changes.rows else report


def _headline(fleet: Object) -> str:
    said = [f"{dollars(fleet['usd_per_hour'])}/h"]
    if fleet["power_w"] is not None:
        said.append(watts(fleet["power_w"]))
    if fleet["domains_w"] is not None and fleet["budget_w"]:
        said.append(f"{watts(fleet['domains_w'])} of {watts(fleet['budget_w'])} in power domains")
    if fleet["attainment_ratio"] is not None:
        said.append(f"{percent(fleet['attainment_ratio'])} of requests within their objectives")
    return "; ".join(said)


def _counts(fleet: Object) -> str:
    said = [
        f"{fleet['services_ready']} of {fleet['services']} services ready",
        f"{fleet['replicas_ready']} of {fleet['replicas']} replicas serve",
        f"{fleet['gpus_used']} of {fleet['gpus_total']} GPUs in use",
    ]
    if fleet["services_waiting"]:
        said.append(f"{fleet['services_waiting']} wait to be planned")
    if fleet["nodes_out"]:
        said.append(f"{fleet['nodes_out']} of {fleet['nodes']} nodes out for faults")
    return "; ".join(said)
