"""Mélange's question, answered exactly: how many GPUs of each type carry a workload for the least money.

Data        c[g] $/h; w[g, s] replicas that bucket s keeps busy on g; count caps, a fleet size, a budget
Variables   y[g] whole GPUs; x[g, s] >= 0 share of bucket s that g carries
Minimise    sum_g c[g] y[g]
Subject to  sum_g x[g, s] = 1 (every request is carried),
            sum_s w[g, s] x[g, s] <= y[g] (no GPU carries more than it can),
            y[g] <= cap[g], sum_g n[g] y[g] <= max_gpus (n[g] GPUs make one "2xL4"), c·y <= budget
Mélange (arXiv 2404.14527, section 5.4) cuts each bucket into slices and gives each slice to one GPU by a binary
variable; its plans can only be dearer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.branch import Limits
from planner.errors import BadInput
from planner.fleet import Fleet, FleetLimits, Offer, checked_limits, offer, shares, solve
from planner.fleet_conflict import explain_infeasible, stranded
from planner.instance import Instance
from planner.plan import Infeasible, Status
from planner.transport import Floats

__all__ = ["FleetLimits", "GPUAllocation", "allocate"]

_MOST_GPUS = 1e9  # a larger fleet is a slip in the input
_PROVED_RATIO = 1e-9
_TIDY = 1e-12


@dataclass(frozen=True, slots=True)
class GPUAllocation:
    """`counts` by GPU type; `weights[gpu]` is the router's table, shaped as the workload; the bound is proved."""

    status: Status
    usd_per_hour: float | None
    bound_usd_per_hour: float | None
    gap_ratio: float | None
    counts: Mapping[str, int]
    weights: Mapping[str, Floats]
    nodes: int
    infeasible: Infeasible | None = None


def allocate(instance: Instance, limits: FleetLimits | None = None, search: Limits | None = None) -> GPUAllocation:
    """The cheapest allocation with its proof, or the constraints that conflict and the cheapest way out."""
    limits, search = checked_limits(instance, limits or FleetLimits()), search or Limits()
    what = offer(instance, limits)
    if what.load.shape[1] == 0:
        return _answer(instance, Fleet(np.zeros(len(instance.gpus)), 0.0), what.load)
    if why := stranded(instance, what.load):
        return _nowhere(why)
    _refuse_giants(what)
    found = solve(what, search)
    if found.counts is not None:
        return _answer(instance, found, shares(what, found))
    if math.isinf(found.bound):
        return _nowhere(explain_infeasible(instance, limits, search.stop), found.nodes)
    return GPUAllocation("unknown", None, found.bound, None, {}, {}, found.nodes)


def _refuse_giants(what: Offer) -> None:
    busy = float(what.load.min(axis=0).sum())
    if busy > _MOST_GPUS:
        raise BadInput(
            f"total_request_rate: got a rate that keeps {busy:.2g} GPUs busy, allowed: fleets of up to {_MOST_GPUS:.0e}"
        )


def _answer(instance: Instance, found: Fleet, parts: Floats) -> GPUAllocation:
    assert found.counts is not None
    counts = found.counts
    cost = float(instance.usd_per_hour @ counts)
    gap = max(0.0, (cost - found.bound) / cost) if cost > 0 else 0.0
    weights = np.zeros(instance.throughput.shape).reshape(len(counts), -1)
    weights[:, instance.rates.ravel() > 0] = np.where(parts > _TIDY, parts, 0.0)
    tables = weights.reshape(instance.throughput.shape)
    optimal = gap <= _PROVED_RATIO
    return GPUAllocation(
        status="optimal" if optimal else "feasible",
        usd_per_hour=cost,
        bound_usd_per_hour=cost if optimal else found.bound,
        gap_ratio=0.0 if optimal else gap,
        counts={gpu: int(n) for gpu, n in zip(instance.gpus, counts, strict=True) if n > 0},
        weights={gpu: tables[i] for i, gpu in enumerate(instance.gpus) if counts[i] > 0},
        nodes=found.nodes,
    )


def _nowhere(why: Infeasible, nodes: int = 0) -> GPUAllocation:
    return GPUAllocation("infeasible", None, None, None, {}, {}, nodes, why)
