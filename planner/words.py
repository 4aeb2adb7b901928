"""Constraints and changes to them in words, with the keys under which a user finds them in the YAML."""

from collections.abc import Mapping, Sequence

from planner.added import in_stock, is_part
from planner.hardware import Quota, Stock
from planner.plan import Change
from planner.program_rows import Loosening, Program
from planner.units import counted

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
_MOST_GROUPS = 8


def named(knobs: Sequence[Loosening], stock: Mapping[str, Stock]) -> str:
    """`the nodes of h100s (2) and the budget of chat ($9.00/h)`; `the nodes of l40s (3 of 8 GPUs free)`."""
    said = [f"{_NAMES[k.kind].format(target=_owners(k, stock))} ({_has(k, stock)})" for k in knobs]
    return " and ".join(dict.fromkeys(said))


def told(conflict: Sequence[Loosening], program: Program) -> str:
    """The conflict in one sentence; all node groups at once are told as such."""
    knobs, stock = program.loosenings, program.stock
    groups, every = ({_owners(k, stock) for k in some if k.kind == "nodes"} for some in (conflict, knobs))
    if len(groups) < _MANY or len(groups) < len(every):
        return named(conflict, stock)
    there = set(stock.values())
    free, gpus = sum(one.free_gpus for one in there), sum(one.gpus for one in there)
    rest = [k for k in conflict if k.kind != "nodes"]
    all_ = f"the nodes of all {len(groups)} groups" + (f" ({free} of {gpus} GPUs free)" if stock else "")
    return " and ".join(part for part in (all_, named(rest, stock)) if part)


def way_out(changes: Sequence[Change], program: Program) -> str:
    """`raise the nodes of h100s from 2 to 4 and ...`; `add 2 nodes to l40s (2 nodes, 3 of 8 GPUs free)`."""
    before = {(k.kind, k.target): k for k in program.loosenings}
    parts = [change for change in changes if is_part(change, program.stock)]
    there, said = {one.name: one for one in program.stock.values()}, []
    for change in (one for one in changes if one not in parts):
        knob = before[change.kind, change.target]
        verb = "raise" if knob.sign > 0 else "lower"
        name = _NAMES[change.kind].format(target=change.target)
        said.append(f"{verb} {name} from {_amount(change.kind, knob.now)} to {_amount(change.kind, change.value)}")
    added = [
        f"add {counted(round(more.value) - one.nodes, 'node')} to {one.name} ({one.nodes} there, {_share(one)})"
        for more in in_stock(parts, program)
        if (one := there[more.target])
    ]
    return " and ".join((*added, *said))


def free_of(stock: Sequence[Stock]) -> str:
    """`free are 3 of 8 GPUs in l40s, 0 of 4 in h100`."""
    rows = [f"{one.free_gpus} of {one.gpus}{' GPUs' * (at == 0)} in {one.name}" for at, one in enumerate(stock)]
    return f"free are {', '.join(rows[:_MOST_GROUPS])}" + (", and others" if len(rows) > _MOST_GROUPS else "")


def _owners(knob: Loosening, stock: Mapping[str, Stock]) -> str:
    """The target by the name that its owner gave it."""
    return stock[knob.target].name if knob.kind == "nodes" and knob.target in stock else knob.target


def _has(knob: Loosening, stock: Mapping[str, Stock]) -> str:
    if knob.kind == "nodes" and knob.target in stock:
        return _share(stock[knob.target])
    return _amount(knob.kind, knob.now)


def _share(one: Stock) -> str:
    return f"{one.free_gpus} of {counted(one.gpus, 'GPU')} free"


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
