"""Plans that hold their objectives in simulation: headroom is added, as little as does it, until they do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planner.hardware import Inventory
from planner.plan import Plan
from planner.service import ServiceSpec
from planner.simulation.arrivals import Traffic, replayed
from planner.simulation.outcome import ServiceOutcome
from planner.simulation.run import Source, Trial, by_list, by_process, simulate
from planner.traces import read_trace

FACTORS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0)
_HALVINGS = 2
_LASTS_S = 1200.0  # of arrivals that a plan is judged by
MakePlan = Callable[[Sequence[ServiceSpec]], Plan]


@dataclass(frozen=True, slots=True)
class Verified:
    """A plan and how it did. `factor`: of the rate that was planned for; `fluid_usd_per_hour`: of the plan without it.

    `held`: whether every objective holds under every source of requests.
    """

    plan: Plan
    factor: float
    held: bool
    fluid_usd_per_hour: float
    outcomes: tuple[tuple[str, tuple[ServiceOutcome, ...]], ...]

    @property
    def added_usd_per_hour(self) -> float:
        """What the headroom costs."""
        return (self.plan.usd_per_hour or 0.0) - self.fluid_usd_per_hour


def verified(
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    make: MakePlan,
    sources: Sequence[tuple[str, Source]],
    test: Trial,
    progress: Callable[[str], None] = lambda _: None,
) -> Verified | Plan:
    """The cheapest of the plans tried that holds; the last one tried where none does; a Plan that is none as it is.

    Raises BadInput for what cannot be simulated.
    """
    first: Plan | None = None
    failed = 1.0
    last: Verified | None = None
    for factor in FACTORS:
        made = _tried(services, inventory, make, sources, test, factor, first, progress)
        if isinstance(made, Plan):
            return made if last is None else last  # more than this cannot be had
        first = first or made.plan
        last = made
        if made.held:
            break
        failed = factor
    assert last is not None
    assert first is not None
    low, best = failed, last
    for _ in range(_HALVINGS if last.held and last.factor > FACTORS[1] else 0):
        middle = _tried(services, inventory, make, sources, test, (low + best.factor) / 2, first, progress)
        if (
            isinstance(middle, Verified)
            and middle.held
            and (middle.plan.usd_per_hour or 0) <= (best.plan.usd_per_hour or 0)
        ):
            best = middle
        elif isinstance(middle, Verified):
            low = middle.factor
    return best


def _tried(
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    make: MakePlan,
    sources: Sequence[tuple[str, Source]],
    test: Trial,
    factor: float,
    first: Plan | None,
    progress: Callable[[str], None],
) -> Verified | Plan:
    progress("planning" if factor == 1 else f"planning for {factor:.3g} times the rate")
    plan = make([_faster(one, factor) for one in services])
    if plan.status not in ("optimal", "feasible"):
        return plan
    outcomes = []
    for name, source in sources:
        progress(f"simulating {name}")
        outcomes.append((name, tuple(simulate(services, plan.allocations, inventory, source, test))))
    held = all(one.met and not one.account.refused for _, rows in outcomes for one in rows)
    fluid = (first or plan).usd_per_hour or 0.0
    return Verified(plan, factor, held, fluid, tuple(outcomes))


def _cost(one: Verified) -> float:
    return one.plan.usd_per_hour or 0.0


def _faster(spec: ServiceSpec, factor: float) -> ServiceSpec:
    load = spec.workload
    return replace(
        spec, workload=replace(load, rates_per_s={one: factor * rate for one, rate in load.rates_per_s.items()})
    )


def with_headroom(
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    make: MakePlan,
    trace: Path | None,
    progress: Callable[[str], None],
) -> Verified | Plan:
    """A plan with as much headroom as simulation asks for: under Poisson arrivals, and those of a trace at the rate."""
    sources: list[tuple[str, Source]] = [("Poisson arrivals", by_process(Traffic(), 0))]
    if trace is not None:
        read = read_trace(trace)
        own = len(read) / max(float(read.arrival_s[-1]), 1.0)
        played = {one.name: replayed(one, read, max(one.workload.rate_per_s / own, 1e-6), 0) for one in services}
        sources.append((f"the requests of {trace.name}, at the planned rate", by_list(played)))
    return verified(services, inventory, make, sources, Trial(_LASTS_S), progress)
