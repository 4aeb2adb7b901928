"""Constraints and changes to them in words, with the keys under which a user finds them in the YAML."""

from collections.abc import Sequence

from planner.hardware import Quota
from planner.plan import Change
from planner.program_rows import Loosening, Program

_NAMES = {
    "nodes": "the nodes of {target}",
    "power": "the power budget of {target}",
    "quota": "quota {target}",
    "budget": "the budget of {target}",
    "max_replicas": "maxReplicas of {target}",
    "min_replicas": "minReplicas of {target}",
    "min_zones": "zones.min of {target}",
    "max_zone_share": "zones.maxShare of {target}",
    "max_spot_share": "maxSpotShare of {target}",
    "survive_replicas": "redundancy.replicas of {target}",
    "survive_nodes": "redundancy.nodes of {target}",
}

_MANY = 3


def named(knobs: Sequence[Loosening]) -> str:
    """`the nodes of h100s (2) and the budget of chat ($9.00/h)`."""
    said = [f"{_NAMES[k.kind].format(target=k.target)} ({_amount(k.kind, k.now)})" for k in knobs]
    return " and ".join(said)


def told(conflict: Sequence[Loosening], knobs: Sequence[Loosening]) -> str:
    """The conflict in one sentence; all node groups at once are told as such."""
    groups = [k for k in conflict if k.kind == "nodes"]
    if len(groups) < _MANY or len(groups) < sum(k.kind == "nodes" for k in knobs):
        return named(conflict)
    rest = [k for k in conflict if k.kind != "nodes"]
    return " and ".join(part for part in (f"the nodes of all {len(groups)} groups", named(rest)) if part)


def way_out(changes: Sequence[Change], program: Program) -> str:
    """`raise the nodes of h100s from 2 to 4 and ...`."""
    before = {(k.kind, k.target): k for k in program.loosenings}
    said = []
    for change in changes:
        knob = before[change.kind, change.target]
        verb = "raise" if knob.sign > 0 else "lower"
        name = _NAMES[change.kind].format(target=change.target)
        said.append(f"{verb} {name} from {_amount(change.kind, knob.now)} to {_amount(change.kind, change.value)}")
    return " and ".join(said)


def needs(quota: Quota, gpus: int) -> str:
    """`namespace team-a may use 8 GPUs (quota gpus), its services need at least 12`."""
    taken = (
        f", of which {quota.held_gpus} are taken; what is planned needs" if quota.held_gpus else ", its services need"
    )
    return f"namespace {quota.namespace} may use {quota.gpus} GPUs (quota {quota.name}){taken} at least {gpus}"


def _amount(kind: str, value: float) -> str:
    match kind:
        case "budget":
            return f"${value:,.2f}/h"
        case "power":
            return f"{value:,.0f} W"
        case "quota":
            return f"{value:.0f} GPUs"
        case "max_zone_share" | "max_spot_share":
            return f"{value:.2f}"
        case _:
            return f"{value:.0f}"
