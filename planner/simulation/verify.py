"""Plans that hold their objectives in simulation at the least cost: from the fluid optimum upwards.

The fluid optimum is planned for means, as if requests came evenly. Headroom is added to the rate, as little as does it,
until every percentile holds under every trial; before that, load moves from kinds under strain to those with room, and
after that counts of replicas are changed where fewer dollars do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planner.corrections import Correction
from planner.hardware import Inventory
from planner.plan import Allocation, ClassLatency, Plan, Prediction, Profile
from planner.profile import EVEN, profiles
from planner.service import ServiceSpec
from planner.simulation.arrivals import Traffic, replayed
from planner.simulation.bench import (
    MOST_STRAIN,
    SAME_USD,
    Bench,
    MakePlan,
    Outcomes,
    confirming,
    pools_of,
    rows_of,
    simulated,
    strain,
)
from planner.simulation.outcome import ServiceOutcome
from planner.simulation.routing import merged, movable, moved
from planner.simulation.run import Trial, by_list, by_process, serves
from planner.simulation.sizing import sized
from planner.traces import Trace, read_trace

FACTORS = (1.0, 1.03, 1.08, 1.15, 1.25, 1.4, 1.7, 2.0)
MEAN = 0.5  # the percentile that a fluid plan is made for
_HALVINGS, _MOVES, _PATIENCE = 4, 6, 2
_HOPELESS = 2.5  # strains beyond this are not mended by moving load
_LATE, _SHORT_S, _LONG_S = 500, 300.0, 3600.0  # of a Poisson trial: requests beyond the percentile; its length
_WINDOW_S, _PLANNED_FOR = 30.0, 0.95


@dataclass(frozen=True, slots=True)
class Verified:
    """A plan and how it did. `factor`: of the rate that was planned for; `fluid_usd_per_hour`: of the fluid optimum.

    `held`: whether every objective holds under every trial. `moves`: how often load was moved between kinds. `sized`:
    whether counts of replicas were changed after that. `beyond`: kinds of a sized plan -> how many times what the
    planner's bounds let them carry they do, as simulation shows. What the allocations predict is what was simulated, at
    the percentiles of the objectives.
    """

    plan: Plan
    factor: float
    held: bool
    fluid_usd_per_hour: float
    outcomes: Outcomes
    moves: int = 0
    sized: bool = False
    beyond: Mapping[str, float] = field(default_factory=dict)

    @property
    def usd_per_hour(self) -> float:
        """What the plan costs."""
        return self.plan.usd_per_hour or 0.0

    @property
    def added_usd_per_hour(self) -> float:
        """What the headroom costs."""
        return self.usd_per_hour - self.fluid_usd_per_hour


def verified(bench: Bench) -> Verified | Plan:
    """The cheapest of the plans tried that holds; the last one tried where none does; a Plan that is none as it is.

    Raises BadInput for what cannot be simulated.
    """
    failed, last, first = 1.0, None, None
    for factor in FACTORS:
        made = _tried(bench, factor, first)
        if isinstance(made, Plan):
            return last or made  # more than this cannot be had
        last, first = made, first or made
        if made.held:
            break
        failed = factor
    assert last is not None
    assert first is not None
    if not last.held or last.factor == 1:
        return last
    best, reached = _sized(bench, last, first), last.factor
    for _ in range(_HALVINGS):
        factor = (failed + reached) / 2
        middle = _tried(bench, factor, first, best.usd_per_hour)
        if isinstance(middle, Verified) and not middle.held:
            failed = factor
        else:
            best, reached = middle if isinstance(middle, Verified) else best, factor
    return best if best.sized or best is last else _sized(bench, best, first)


def _tried(bench: Bench, factor: float, first: Verified | None, below_usd: float = inf) -> Verified | Plan:
    """A plan for so many times the rate, its load moved about while that helps; as it was made where it is too dear."""
    bench.progress("planning" if factor == 1 else f"planning for {factor:.3g} times the rate")
    plan = bench.make([_fluid(one, factor) for one in bench.services])
    usd_per_hour = plan.usd_per_hour or 0.0
    if plan.status not in ("optimal", "feasible") or usd_per_hour > below_usd - SAME_USD:
        return plan
    made = _balanced(bench, plan.allocations)
    allocations = _predicting(bench.services, made.allocations, made.outcomes)
    fluid = usd_per_hour if first is None else first.fluid_usd_per_hour
    held = made.strain_ratio <= MOST_STRAIN and confirming(bench, made.allocations) <= 1
    return Verified(replace(plan, allocations=tuple(allocations)), factor, held, fluid, made.outcomes, made.moves)


def _sized(bench: Bench, held: Verified, first: Verified) -> Verified:
    """A plan that holds, with other counts of replicas where fewer dollars do."""
    found = sized(bench, held.plan, first.plan.bound_usd_per_hour or 0.0)
    if found is None:
        return held
    allocations = tuple(_predicting(bench.services, found.plan.allocations, found.outcomes))
    unknown = tuple({**held.plan.one_type, **dict.fromkeys(held.plan.one_type_unknown)})  # what they cost when sized
    plan = replace(found.plan, allocations=allocations, one_type={}, one_type_unknown=unknown)
    return replace(held, plan=plan, factor=1.0, outcomes=found.outcomes, sized=True, beyond=found.beyond)


class _Try(NamedTuple):
    """Allocations after so many moves of load, and what came of them."""

    allocations: Sequence[Allocation]
    outcomes: Outcomes
    strain_ratio: float
    moves: int


def _balanced(bench: Bench, allocations: Sequence[Allocation]) -> _Try:
    """Load is moved to the kinds that have room for as long as that helps; the best of what was tried."""
    best: _Try | None = None
    for moves in range(_MOVES + 1):
        outcomes = simulated(bench, allocations, bench.trials)
        made = _Try(allocations, outcomes, strain(outcomes), moves)
        better = best is None or made.strain_ratio < best.strain_ratio
        best = made if best is None or better else best
        able = [one for one in bench.services if movable(one, allocations)]
        if made.strain_ratio <= MOST_STRAIN or not able or moves - best.moves >= _PATIENCE:
            return best
        joint = _merged(bench, able, made)
        if joint is None and made.strain_ratio > _HOPELESS:
            return best
        allocations = _moved(able, made) if joint is None else joint
    assert best is not None
    return best


def _merged(bench: Bench, services: Sequence[ServiceSpec], made: _Try) -> Sequence[Allocation] | None:
    limited = bool(bench.inventory.power_domains)
    for service in services:
        found = merged(service, made.allocations, pools_of(service, made.outcomes), limited)
        if found is not None:
            return found
    return None


def _moved(services: Sequence[ServiceSpec], made: _Try) -> Sequence[Allocation]:
    allocations = made.allocations
    for service in services:
        allocations = moved(service, allocations, pools_of(service, made.outcomes))
    return allocations


def _predicting(
    services: Sequence[ServiceSpec], allocations: Sequence[Allocation], outcomes: Outcomes
) -> list[Allocation]:
    """Allocations that predict what was simulated: a class's latencies over all who serve it, in the worst trial."""
    made = list(allocations)
    for service in services:
        rows = rows_of(outcomes, service)
        by_class = tuple(_worst(slo.name, rows) for slo in service.slos)
        for i, one in enumerate(made):
            if serves(one, service):
                classes = {bucket.slo_class for bucket, share in one.shares.items() if share > 0}
                mine = tuple(row for row in by_class if row.slo_class in classes)
                made[i] = replace(one, predicted=_told(one.predicted, mine)) if mine else one
    return made


def _worst(slo_class: str, rows: Sequence[ServiceOutcome]) -> ClassLatency:
    found = {"ttft": 0.0, "tpot": 0.0, "e2e": 0.0}
    for latency in (
        latency for row in rows for one in row.classes if one.slo_class == slo_class for latency in one.latencies
    ):
        found[latency.metric] = max(found[latency.metric], latency.at_s)
    return ClassLatency(slo_class, found["ttft"], found["tpot"], found["e2e"])


def _told(told: Prediction, by_class: tuple[ClassLatency, ...]) -> Prediction:
    """A prediction with other latencies; the ends of its intervals are as far from them as before."""
    ttft_s, tpot_s, e2e_s = (max(getattr(row, name) for row in by_class) for name in ("ttft_s", "tpot_s", "e2e_s"))
    first, then = (new / old if old else 1.0 for new, old in ((ttft_s, told.ttft_s), (tpot_s, told.tpot_s)))

    def end(value_s: float | None, by: float) -> float | None:
        return None if value_s is None else value_s * by

    return replace(
        told, ttft_s=ttft_s, tpot_s=tpot_s, e2e_s=e2e_s, by_class=by_class,
        ttft_lo_s=end(told.ttft_lo_s, first), ttft_hi_s=end(told.ttft_hi_s, first),
        tpot_lo_s=end(told.tpot_lo_s, then), tpot_hi_s=end(told.tpot_hi_s, then),
    )  # fmt: skip


def _fluid(spec: ServiceSpec, factor: float) -> ServiceSpec:
    """A service as if it asked for means alone, of so many times its rate."""
    load = replace(spec.workload, rates_per_s={one: factor * rate for one, rate in spec.workload.rates_per_s.items()})
    slos = tuple(replace(one, percentile=min(one.percentile, MEAN)) for one in spec.slos)
    return replace(spec, workload=load, slos=slos)


def trials(services: Sequence[ServiceSpec], trace: Path | None, seed: int = 0) -> list[Trial]:
    """Poisson arrivals at the planned rate, and those of a trace, as fast as the rate was planned for.

    With a seed the trace's requests come at its times in another order, so that a plan is tried with what it has not
    seen.
    """
    slowest = min((one.workload.rate_per_s for one in services if one.workload.rate_per_s), default=1.0)
    beyond = min((max(1 - slo.percentile, 1e-3) for one in services for slo in one.slos), default=1.0)
    lasts_s = min(max(_LATE / beyond / slowest, _SHORT_S), _LONG_S)
    found = [Trial("Poisson arrivals", by_process(Traffic(), seed), lasts_s, seed)]
    if trace is not None:
        read = read_trace(trace) if not seed else _shuffled(read_trace(trace), seed)
        speeds = {one.name: speed_of(one, read) for one in services}
        played = {one.name: replayed(one, read, speeds[one.name], seed) for one in services}
        shown = " and ".join(dict.fromkeys(f"{speed:.3g}" for speed in speeds.values()))
        ends_s = max(float(one.arrival_s[-1]) for one in played.values()) + 1.0
        found.append(Trial(f"{trace.name}, {shown} times as fast", by_list(played), ends_s, seed, warm_s=0.0))
    return found


def _shuffled(trace: Trace, seed: int) -> Trace:
    order = np.random.default_rng(seed).permutation(len(trace))
    return replace(trace, input_tokens=trace.input_tokens[order], output_tokens=trace.output_tokens[order])


def speed_of(spec: ServiceSpec, trace: Trace) -> float:
    """How much faster a trace has to come for the service's rate to be what 95 % of its half minutes stay within."""
    counts = np.bincount((trace.arrival_s // _WINDOW_S).astype(np.int64))
    whole = counts[:-1] if len(counts) > 1 else counts  # the last one is cut off
    planned_per_s = float(np.quantile(whole, _PLANNED_FOR)) / _WINDOW_S
    return max(spec.workload.rate_per_s / max(planned_per_s, 1e-9), 1e-6)


def with_headroom(
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    make: MakePlan,
    trace: Path | None,
    progress: Callable[[str], None],
    *,
    confidence: float = EVEN,
    corrections: Sequence[Correction] = (),
    recount: bool = True,
) -> Verified | Plan:
    """A plan with as much headroom as simulation asks for: under Poisson arrivals, and those of a trace at the rate.

    `confidence` and `corrections` are those that `make` plans with. `recount`: whether counts of replicas may change
    after planning; where replicas run, only the planner knows the price of that.
    """
    tried, others = trials(services, trace), [*trials(services, None, 1), *trials(services, trace, 2)]

    def for_means(service: ServiceSpec) -> Sequence[Profile]:
        return profiles(_fluid(service, 1.0), inventory, (), confidence, corrections)[0]

    bench = Bench(services, inventory, make, tried, others, progress, for_means if recount else None)
    return verified(bench)
