"""Mélange's question, answered exactly: how many GPUs of each type carry a workload for the least money.

Data        c[g] $/h; w[g, s] replicas that bucket s keeps busy on g; count caps, a fleet size, a budget
Variables   y[g] whole GPUs; x[g, s] >= 0 share of bucket s that g carries
Minimise    sum_g c[g] y[g]
Subject to  sum_g x[g, s] = 1 (every request is carried), sum_s w[g, s] x[g, s] <= y[g] (no GPU carries more than it can),
            y[g] <= cap[g], sum_g n[g] y[g] <= max_gpus (n[g] GPUs make one "2xL4"), c·y <= budget
Mélange (arXiv 2404.14527, section 5.4) cuts each bucket into slices and gives each slice to one GPU by a binary variable;
its plans can only be dearer.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from planner.branch import Counts, Limits, cheapest
from planner.errors import BadInput, SolverFault, UnknownName
from planner.instance import Instance
from planner.plan import Infeasible, Status
from planner.transport import Floats, SideRows, Transport

_TIDY = 1e-12
_CENT_FRACTION = 1e-6  # a budget of exactly the plan's cost is enough, whatever the last bit says


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """What the fleet may not exceed; None or absent = no limit."""

    caps: Mapping[str, int] = field(default_factory=dict)
    max_gpus: int | None = None
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class GPUAllocation:
    """`counts` by GPU type; `weights[gpu]` is the router's table, shaped as the workload; `bound_usd_per_hour` is proved."""

    status: Status
    usd_per_hour: float | None
    bound_usd_per_hour: float | None
    gap_ratio: float | None
    counts: Mapping[str, int]
    weights: Mapping[str, Floats]
    nodes: int
    infeasible: Infeasible | None = None


def gpus_of(name: str) -> int:
    """GPUs behind one name: "2xL4" is two."""
    match = re.match(r"(\d{1,4})x", name)
    return int(match[1]) if match and int(match[1]) > 0 else 1


def checked_limits(instance: Instance, limits: FleetLimits) -> FleetLimits:
    """Raise for a cap on an unknown GPU or a negative limit."""
    for gpu, cap in limits.caps.items():
        if gpu not in instance.gpus:
            raise UnknownName("GPU in --cap", gpu, instance.gpus)
        if cap < 0:
            raise BadInput(f"--cap {gpu}: got {cap}, allowed: 0 or more")
    if limits.max_gpus is not None and limits.max_gpus < 0:
        raise BadInput(f"--max-gpus: got {limits.max_gpus}, allowed: 0 or more")
    if limits.usd_per_hour is not None and not 0 <= limits.usd_per_hour < math.inf:
        raise BadInput(f"--budget: got {limits.usd_per_hour}, allowed: 0 or more dollars per hour")
    return limits


def _fleet_size(instance: Instance, limits: FleetLimits) -> SideRows:
    """The limit on GPUs as a side row. The budget is none: the cheapest plan within the rest keeps it, or no plan does."""
    if limits.max_gpus is None:
        return SideRows.none(len(instance.gpus))
    return SideRows(_gpu_counts(instance)[None, :], np.array([float(limits.max_gpus)]))


def _gpu_counts(instance: Instance) -> Floats:
    return np.array([float(gpus_of(gpu)) for gpu in instance.gpus])


def _caps(instance: Instance, limits: FleetLimits) -> Floats:
    return np.array([float(limits.caps.get(gpu, np.inf)) for gpu in instance.gpus])


def dominated(load: Floats, costs: Floats, gpus: Floats, caps: Floats) -> NDArray[np.bool_]:
    """True for an option that another, unlimited one replaces one for one: no dearer, no slower anywhere, no more GPUs."""
    out = np.zeros(len(costs), dtype=np.bool_)
    for g in range(len(costs)):
        better = (costs <= costs[g]) & (gpus <= gpus[g]) & np.isinf(caps) & (load <= load[g]).all(axis=1) & ~out
        better[g] = False
        out[g] = better.any()
    return out


def allocate(instance: Instance, limits: FleetLimits | None = None, search: Limits | None = None) -> GPUAllocation:
    """The cheapest allocation with its proof, or the constraints that conflict and the cheapest way out."""
    limits = checked_limits(instance, limits or FleetLimits())
    load = instance.load()
    if load.shape[1] == 0:
        return _answer(instance, np.zeros(len(instance.gpus)), 0.0, np.zeros((len(instance.gpus), 0)), 0)
    stranded: NDArray[np.bool_] = ~np.isfinite(load).any(axis=0)
    if stranded.any():
        return _nowhere(_stranded(instance, stranded))
    found, shares = _solve(instance, load, limits, search or Limits())
    if found.counts is None:
        if math.isinf(found.bound):
            return _nowhere(explain_infeasible(instance, limits), found.nodes)
        return GPUAllocation("unknown", None, found.bound, None, {}, {}, found.nodes)
    return _answer(instance, found.counts, found.bound, shares, found.nodes)


def _solve(instance: Instance, load: Floats, limits: FleetLimits, search: Limits) -> tuple[Counts, Floats]:
    """Solve over the options that matter; counts and shares over all of them. bound = inf: proved infeasible."""
    nothing = Counts(None, math.inf, math.inf, 0), np.zeros((0, 0))
    caps, costs, gpus = _caps(instance, limits), instance.usd_per_hour, _gpu_counts(instance)
    use = np.flatnonzero(~dominated(load, costs, gpus, caps) & (caps > 0))
    if not np.isfinite(load[use]).any(axis=0).all():
        return nothing
    if (
        limits.max_gpus is not None
    ):  # the smallest fleet first: without it, proving that none is small enough takes long
        smallest = cheapest(Transport(load[use], gpus[use]), gpus[use], upper=caps[use], limits=search)
        if smallest.bound > limits.max_gpus:
            return nothing
    side = _fleet_size(instance, limits)
    transport = Transport(load[use], costs[use], SideRows(side.matrix[:, use], side.limits))
    found = cheapest(transport, costs[use], upper=caps[use], limits=search)
    if limits.usd_per_hour is not None and found.bound > limits.usd_per_hour + _CENT_FRACTION:
        return nothing
    too_dear = limits.usd_per_hour is not None and found.cost > limits.usd_per_hour + _CENT_FRACTION
    if found.counts is None or too_dear:
        return replace(found, counts=None), np.zeros((0, 0))
    carried = transport.carries(found.counts)
    if carried is None:
        raise SolverFault("the counts found do not carry the workload")
    counts, shares = np.zeros(len(costs)), np.zeros_like(load)
    counts[use], shares[use] = found.counts, transport.shares(carried.weights)
    return replace(found, counts=counts), shares


def _answer(instance: Instance, counts: Floats, bound: float, shares: Floats, nodes: int) -> GPUAllocation:
    cost = float(instance.usd_per_hour @ counts)
    gap = max(0.0, (cost - bound) / cost) if cost > 0 else 0.0
    weights = np.zeros(instance.throughput.shape).reshape(len(counts), -1)
    weights[:, instance.rates.ravel() > 0] = np.where(shares > _TIDY, shares, 0.0)
    tables = weights.reshape(instance.throughput.shape)
    optimal = gap <= 1e-9
    return GPUAllocation(
        status="optimal" if optimal else "feasible",
        usd_per_hour=cost,
        bound_usd_per_hour=cost if optimal else bound,
        gap_ratio=0.0 if optimal else gap,
        counts={gpu: int(n) for gpu, n in zip(instance.gpus, counts, strict=True) if n > 0},
        weights={gpu: tables[i] for i, gpu in enumerate(instance.gpus) if counts[i] > 0},
        nodes=nodes,
    )


def _nowhere(why: Infeasible, nodes: int = 0) -> GPUAllocation:
    return GPUAllocation("infeasible", None, None, None, {}, {}, nodes, why)


def _stranded(instance: Instance, stranded: NDArray[np.bool_]) -> Infeasible:
    columns = instance.rates.shape[1]
    cells = np.flatnonzero(instance.rates.ravel() > 0)[stranded]
    share = float(instance.rates.ravel()[cells].sum() / instance.rates.sum())
    named = [f"cell [{cell // columns}][{cell % columns}]" for cell in cells[:5]]
    more = f" and {len(cells) - 5} more" if len(cells) > 5 else ""
    return Infeasible(
        why=f"no GPU in gpu_info serves {', '.join(named)}{more} ({share:.2%} of requests): throughput 0 everywhere",
        constraints=tuple(named),
        relaxation=f"add a GPU type that serves them, or loosen the SLO, or leave these sizes out ({share:.2%} of requests)",
    )


def _drop(limits: FleetLimits, name: str) -> FleetLimits:
    if name == "caps":
        return replace(limits, caps={})
    return replace(limits, max_gpus=None) if name == "max_gpus" else replace(limits, usd_per_hour=None)


def _names(limits: FleetLimits) -> list[str]:
    present = {
        "caps": bool(limits.caps),
        "max_gpus": limits.max_gpus is not None,
        "budget": limits.usd_per_hour is not None,
    }
    return [name for name, there in present.items() if there]


def _feasible(instance: Instance, limits: FleetLimits) -> bool:
    enough = Limits(gap_ratio=0.0 if limits.usd_per_hour is not None else 1.0)
    found, _ = _solve(instance, instance.load(), limits, enough)
    return found.counts is not None


def explain_infeasible(instance: Instance, limits: FleetLimits) -> Infeasible:
    """A smallest set of limits that conflict (each needed for the conflict), and what loosening each would take."""
    conflict = limits
    for name in _names(limits):  # deletion filter: a limit without which the rest still conflicts is no part of it
        if not _feasible(instance, _drop(conflict, name)):
            conflict = _drop(conflict, name)
    ways = sorted(way for name in _names(conflict) if (way := _way_out(instance, limits, name)) is not None)
    named = tuple(_said(conflict, name) for name in _names(conflict))
    return Infeasible(
        why=f"{' and '.join(named)} cannot hold together: the workload needs more",
        constraints=named,
        relaxation="; or ".join(text for _, text in ways) or "no single limit loosened is enough: loosen them together",
    )


def _said(limits: FleetLimits, name: str) -> str:
    if name == "caps":
        return "caps " + ", ".join(f"{gpu}<={cap}" for gpu, cap in limits.caps.items())
    if name == "max_gpus":
        return f"at most {limits.max_gpus} GPUs"
    return f"a budget of ${limits.usd_per_hour:g}/h"


def _way_out(instance: Instance, limits: FleetLimits, name: str) -> tuple[float, str] | None:
    """($/h of the plan that loosening this one limit least allows, the change in words)."""
    rest = _drop(limits, name)
    if name == "caps":
        return _raised_caps(instance, limits)
    aim = instance if name == "budget" else replace(instance, usd_per_hour=_gpu_counts(instance))
    found, _ = _solve(aim, instance.load(), rest, Limits())
    if found.counts is None:
        return None
    cost = float(instance.usd_per_hour @ found.counts)
    if name == "budget":
        return cost, f"raise the budget to ${cost:.2f}/h"
    return cost, f"allow {int(_gpu_counts(instance) @ found.counts)} GPUs (then ${cost:.2f}/h)"


def _raised_caps(instance: Instance, limits: FleetLimits) -> tuple[float, str] | None:
    """Every capped GPU is offered a second time, uncapped, at its price; within the caps a GPU costs next to nothing."""
    load, caps, costs = instance.load(), _caps(instance, limits), instance.usd_per_hour
    side = _fleet_size(instance, limits)
    both = SideRows(np.hstack([side.matrix, side.matrix]), side.limits)
    aim = np.concatenate([costs * 1e-3, costs])
    transport = Transport(np.vstack([load, load]), aim, both)
    found = cheapest(
        transport, aim, upper=np.concatenate([caps, np.full(len(caps), np.inf)]), limits=Limits(nodes=2000)
    )
    if found.counts is None:
        return None
    if (
        limits.usd_per_hour is not None
        and float(np.tile(costs, 2) @ found.counts) > limits.usd_per_hour + _CENT_FRACTION
    ):
        return None
    within, beyond = found.counts[: len(caps)], found.counts[len(caps) :]
    raised = [
        f"{gpu} to {int(caps[i] + n)}" for i, (gpu, n) in enumerate(zip(instance.gpus, beyond, strict=True)) if n > 0
    ]
    cost = float(costs @ (within + beyond))
    return cost, f"raise the cap of {', '.join(raised)} (then ${cost:.2f}/h)"
