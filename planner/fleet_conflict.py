"""Why no fleet carries a workload within its limits: which limits conflict, and the cheapest loosening of them.

The conflict is found by a deletion filter (Chinneck and Dravnieks 1991, "Locating minimal infeasible constraint sets
in linear programs"): a limit without which the rest still conflicts is no part of it. Every question has a node limit;
one left open counts as "there may be a fleet", so that a conflict may list a limit too many but never one too few.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from planner.branch import Limits
from planner.fleet import FleetLimits, Offer, gpus_of, offer, solve
from planner.instance import Instance
from planner.plan import Infeasible
from planner.transport import Floats

_NODES = 300
_NODES_BEYOND = 30
_MOST_FILTERED = 40
_MOST_NAMED = 5
_SAME_USD = 1e-6
_DEARER = 1000.0  # beyond its cap, against within it
_LEAST_USD = 1e-4  # beyond its cap even a free GPU has a price


@dataclass(frozen=True, slots=True)
class WayOut:
    """Limits under which a fleet exists, what it costs, and the change in words."""

    usd_per_hour: float
    limits: FleetLimits
    text: str


def stranded(instance: Instance, load: Floats) -> Infeasible | None:
    """The cells that no GPU serves, if any: no count of GPUs helps them."""
    lost = ~np.isfinite(load).any(axis=0)
    if not lost.any():
        return None
    rates, columns = instance.rates.ravel(), instance.rates.shape[1]
    cells = np.flatnonzero(rates > 0)[lost]
    share = float(rates[cells].sum() / rates.sum())
    named = [f"cell [{cell // columns}][{cell % columns}]" for cell in cells[:_MOST_NAMED]]
    more = f" and {len(cells) - _MOST_NAMED} more" if len(cells) > _MOST_NAMED else ""
    return Infeasible(
        why=f"no GPU in gpu_info serves {', '.join(named)}{more} ({share:.2%} of requests): throughput 0 everywhere",
        constraints=tuple(named),
        relaxation=f"add a GPU type that serves them, loosen the SLO, or leave out these {share:.2%} of requests",
    )


def explain_infeasible(instance: Instance, limits: FleetLimits, stop: Callable[[], bool] | None = None) -> Infeasible:
    """A smallest set of limits that conflict (each needed for the conflict), and the ways out, cheapest fleet first."""
    search = Limits(nodes=_NODES, stop=stop)
    conflict = _conflict(instance, limits, search)
    named = _said(conflict)
    ways = ways_out(instance, limits, conflict, search)
    return Infeasible(
        why=_why(conflict, named),
        constraints=named,
        relaxation="; or ".join(way.text for way in ways),
    )


def _conflict(instance: Instance, limits: FleetLimits, search: Limits) -> FleetLimits:
    def conflicts(fewer: FleetLimits) -> bool:
        found = solve(offer(instance, fewer), search, any_will_do=True)
        return found.counts is None and math.isinf(found.bound)

    if limits.caps and conflicts(replace(limits, caps={})):
        limits = replace(limits, caps={})
    for gpu in list(limits.caps)[:_MOST_FILTERED]:
        fewer = replace(limits, caps={name: cap for name, cap in limits.caps.items() if name != gpu})
        limits = fewer if conflicts(fewer) else limits
    for group in ("max_gpus", "usd_per_hour"):
        fewer = _without(limits, (group,))
        limits = fewer if fewer != limits and conflicts(fewer) else limits
    return limits


def ways_out(instance: Instance, limits: FleetLimits, conflict: FleetLimits, search: Limits) -> list[WayOut]:
    """Loosenings of as few kinds of limit as will do, the one with the cheapest fleet first."""
    kinds, needed = _kinds(limits), set(_kinds(conflict))
    for size in range(1, len(kinds) + 1):
        tries = [freed for freed in combinations(kinds, size) if needed & set(freed)]
        ways = [way for freed in tries if (way := _way_out(instance, limits, freed, search)) is not None]
        if ways:
            return sorted(ways, key=lambda way: way.usd_per_hour)
    return []


def _kinds(limits: FleetLimits) -> list[str]:
    there = {
        "caps": bool(limits.caps),
        "max_gpus": limits.max_gpus is not None,
        "usd_per_hour": limits.usd_per_hour is not None,
    }
    return [kind for kind, present in there.items() if present]


def _without(limits: FleetLimits, kinds: tuple[str, ...]) -> FleetLimits:
    return FleetLimits(
        caps={} if "caps" in kinds else limits.caps,
        max_gpus=None if "max_gpus" in kinds else limits.max_gpus,
        usd_per_hour=None if "usd_per_hour" in kinds else limits.usd_per_hour,
    )


def _way_out(instance: Instance, limits: FleetLimits, freed: tuple[str, ...], search: Limits) -> WayOut | None:
    """The least loosening of one kind of limit, or of several the one that lets the cheapest fleet in."""
    rest = offer(instance, _without(limits, freed))
    if freed == ("caps",):
        counts = _least_beyond(offer(instance, limits), search)
    else:
        counts = solve(rest, search, rest.gpus if freed == ("max_gpus",) else None).counts
    if counts is None:
        return None
    loosened = _loosened(instance, limits, counts)
    best = solve(offer(instance, loosened), search).counts
    usd_per_hour = float(instance.usd_per_hour @ (counts if best is None else best))
    changes = " and ".join(_changes(limits, loosened))
    return WayOut(usd_per_hour, loosened, f"{changes} (the fleet then costs {_at_least(usd_per_hour)})")


def _least_beyond(what: Offer, search: Limits) -> Floats | None:
    """Counts with the least $/h beyond the caps: every option is offered again, without its cap and much dearer.

    To prove them the least can take long; after `_NODES_BEYOND`, counts that are no worse than the cheapest fleet's do.
    """
    free = solve(replace(what, caps=np.full(len(what.caps), np.inf)), search).counts
    if free is None:
        return None
    usd_per_hour = np.tile(what.usd_per_hour, 2)
    both = Offer(
        load=np.tile(what.load, (2, 1)),
        usd_per_hour=usd_per_hour,
        gpus=np.tile(what.gpus, 2),
        caps=np.append(what.caps, np.full(len(what.caps), np.inf)),
        max_gpus=what.max_gpus,
        budget_usd_per_hour=what.budget_usd_per_hour,
    )
    aim = np.append(what.usd_per_hour, np.maximum(what.usd_per_hour, _LEAST_USD) * _DEARER)
    found = solve(both, replace(search, nodes=_NODES_BEYOND), aim).counts
    if found is None:
        return free
    beyond = np.maximum(free - what.caps, 0.0)
    least = found if aim @ found <= aim @ np.append(free - beyond, beyond) else np.append(free - beyond, beyond)
    both_parts: Floats = least.reshape(2, -1).sum(axis=0)
    return both_parts


def _loosened(instance: Instance, limits: FleetLimits, counts: Floats) -> FleetLimits:
    """The limits, each raised as far as these counts need."""
    wanted = dict(zip(instance.gpus, counts, strict=True))
    gpus = sum(gpus_of(name) * int(n) for name, n in wanted.items())
    usd_per_hour = float(instance.usd_per_hour @ counts)
    budget = limits.usd_per_hour
    return FleetLimits(
        caps={gpu: max(cap, int(wanted[gpu])) for gpu, cap in limits.caps.items()},
        max_gpus=None if limits.max_gpus is None else max(limits.max_gpus, gpus),
        usd_per_hour=budget if budget is None or usd_per_hour <= budget + _SAME_USD else _whole_cents(usd_per_hour),
    )


def _changes(old: FleetLimits, new: FleetLimits) -> list[str]:
    changes = [f"raise the cap of {gpu} to {cap}" for gpu, cap in new.caps.items() if cap != old.caps[gpu]]
    if new.max_gpus != old.max_gpus:
        changes.append(f"allow {new.max_gpus} GPUs")
    if new.usd_per_hour is not None and new.usd_per_hour != old.usd_per_hour:
        changes.append(f"raise the budget to {_at_least(new.usd_per_hour)}")
    return changes


def _said(limits: FleetLimits) -> tuple[str, ...]:
    said = [f"{gpu} <= {cap}" for gpu, cap in limits.caps.items()]
    if limits.max_gpus is not None:
        said.append(f"at most {limits.max_gpus} GPUs")
    if limits.usd_per_hour is not None:
        said.append(f"a budget of ${limits.usd_per_hour:.12g}/h")
    return tuple(said)


def _why(conflict: FleetLimits, named: tuple[str, ...]) -> str:
    match _kinds(conflict):
        case ["caps"]:
            return f"no fleet within the caps {', '.join(named)} carries the workload"
        case ["max_gpus"]:
            return f"no fleet of {named[0]} carries the workload"
        case ["usd_per_hour"]:
            return f"no fleet within {named[0]} carries the workload"
    return f"no fleet carries the workload within {', '.join(named[:-1])} and {named[-1]} together"


def _whole_cents(usd: float) -> float:
    """Rounded up, so that the figure shown is enough."""
    return math.ceil(usd * 100 - 1e-6) / 100


def _at_least(usd_per_hour: float) -> str:
    return f"${_whole_cents(usd_per_hour):.2f}/h"
