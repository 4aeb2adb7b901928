"""The controller's own metrics."""

from controller.grants import Grants
from controller.health import has_gpus
from controller.kube.known import Known
from controller.kube.node_round import NodeRound


def page(known: Known, rounds: NodeRound, grants: Grants, leads: bool) -> str:
    """As Prometheus reads it. Standbys hear of no node, so how long one is silent is the leader's to tell."""
    informers = known.cache.informers
    lines: list[str] = []

    def family(name: str, kind: str, text: str, rows: list[tuple[str, float]]) -> None:
        lines.append(f"# HELP muster_{name} {text}\n# TYPE muster_{name} {kind}")
        lines.extend(f"muster_{name}{labels} {value:.15g}" for labels, value in rows)

    family(
        "watch_restarts_total", "counter", "Watches begun anew, by resource and cause.",
        [
            (f'{{resource="{plural}",cause="{cause}"}}', float(count))
            for plural, one in informers.items()
            for cause, count in dict(one.counts.restarts).items()
        ],
    )  # fmt: skip
    family(
        "relist_total", "counter", "Whole lists of a resource.",
        [(f'{{resource="{plural}"}}', float(one.counts.relists)) for plural, one in informers.items()],
    )  # fmt: skip
    family(
        "cached_objects", "gauge", "Objects in the cache.",
        [(f'{{resource="{plural}"}}', float(len(one.items()))) for plural, one in informers.items()],
    )  # fmt: skip
    family("plans_wanted", "gauge", "Services that wait to be planned.", [("", float(len(known.wanted())))])
    held = [one.reason for one in list(known.held.values())]
    family(
        "moves_held", "gauge", "Services whose moves wait, by what for.",
        [(f'{{reason="{reason}"}}', float(held.count(reason))) for reason in ("FleetBudgetSpent", "NoSpareCapacity")],
    )  # fmt: skip
    family("nodes_out", "gauge", "Nodes out for faults.", [("", float(len(known.facts().out - known.lost)))])
    family("nodes_lost", "gauge", "Nodes that do not answer and are done without.", [("", float(len(known.lost)))])
    family(
        "nodes_held",
        "gauge",
        "Nodes whose faults or silence are told and not acted on.",
        [("", float(len(rounds.held)))],
    )
    family("evictions_blocked", "gauge", "Replicas that have to stay on nodes that are out.",
           [("", float(len(rounds.blocked)))])  # fmt: skip
    family(
        "nodes_reporting",
        "gauge",
        "Nodes whose agents were heard since this process began.",
        [("", float(len(rounds.kept.keys() & {one["metadata"]["name"] for one in known.items("nodes")})))],
    )
    family(
        "power_over_budget_watts", "gauge", "Watts that GPUs of a power domain may draw above its budget.",
        [(f'{{domain="{name}"}}', watts) for name, watts in sorted(grants.over_w.items()) if name],
    )  # fmt: skip
    family("leader", "gauge", "1 of the process that leads, 0 of those that stand by.", [("", float(leads))])
    ages = {one["metadata"]["name"]: rounds.silence_s(one) for one in known.items("nodes") if leads and has_gpus(one)}
    family(
        "node_report_age_seconds", "gauge", "Since the report of a node came last, or since this process began.",
        [(f'{{node="{name}"}}', age_s) for name, age_s in sorted(ages.items())],
    )  # fmt: skip
    return "\n".join(lines) + "\n"
