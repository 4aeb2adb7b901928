"""What plans are tried on, and how hard a plan found it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.hardware import Inventory
from planner.plan import Allocation, Plan, Profile
from planner.service import ServiceSpec
from planner.simulation.outcome import PoolOutcome, ServiceOutcome
from planner.simulation.run import Trial, simulate

MOST_STRAIN = 0.96  # of a limit, so that another day's requests hold too
SAME_USD = 1e-6
MakePlan = Callable[[Sequence[ServiceSpec]], Plan]
Profiled = Callable[[ServiceSpec], Sequence[Profile]]
Outcomes = tuple[tuple[str, tuple[ServiceOutcome, ...]], ...]


@dataclass(frozen=True, slots=True)
class Bench:
    """What plans are tried on. `confirm`: other requests, for those plans alone that hold under the trials.

    `profiled`: the recipes that a service may run by, as the planner profiles them; without it plans keep the counts
    of replicas that they were made with.
    """

    services: Sequence[ServiceSpec]
    inventory: Inventory
    make: MakePlan
    trials: Sequence[Trial]
    confirm: Sequence[Trial] = ()
    progress: Callable[[str], None] = lambda _: None
    profiled: Profiled | None = None


def simulated(bench: Bench, allocations: Sequence[Allocation], trials: Sequence[Trial]) -> Outcomes:
    """What came of every service under each of the trials."""
    found = []
    for trial in trials:
        bench.progress(f"simulating {trial.name}")
        rows = simulate(bench.services, allocations, bench.inventory, trial)
        found.append((trial.name, tuple(rows)))
    return tuple(found)


def confirming(bench: Bench, allocations: Sequence[Allocation]) -> float:
    """How hard allocations find the other requests, up to the first beyond a limit; 0 where there are none."""
    worst = 0.0
    for trial in bench.confirm:
        worst = max(worst, strain(simulated(bench, allocations, [trial])))
        if worst > 1:
            break
    return worst


def rows_of(outcomes: Outcomes, service: ServiceSpec | None = None) -> list[ServiceOutcome]:
    """What came of services under each of the trials; of one alone where it is named."""
    return [one for _, rows in outcomes for one in rows if service is None or one.service == service.name]


def strain(outcomes: Outcomes, service: ServiceSpec | None = None) -> float:
    """The worst latency at its objective's percentile, over its limit; what was refused is beyond any."""
    rows = rows_of(outcomes, service)
    return max((float("inf") if one.account.refused else one.strain_ratio for one in rows), default=0.0)


def pools_of(service: ServiceSpec, outcomes: Outcomes) -> list[tuple[PoolOutcome, ...]]:
    """What came of the kinds of a service, in order, under each of the trials."""
    return [one.pools for one in rows_of(outcomes, service)]
