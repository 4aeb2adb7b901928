"""What joint planning is asked and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from planner.plan import Infeasible, Status
from planner.transport import Floats


@dataclass(frozen=True, slots=True)
class Problem:
    """One service: `load` (options, buckets) is replicas that a whole bucket keeps busy, inf where none can serve it.

    By option: $/h and GPUs of one replica, and the GPU type that the caps speak of.
    """

    name: str
    load: Floats
    usd_per_hour: Floats
    gpu: tuple[str, ...]
    gpus_per_replica: Floats


@dataclass(frozen=True, slots=True)
class JointLimits:
    """When to stop: at the gap, after so many rounds, or when `stop()` says so. `nodes`: of one service, a round."""

    gap_ratio: float = 1e-3
    rounds: int = 60
    nodes: int = 120
    stop: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class JointAnswer:
    """`counts[service]` by option; `weights[service]` (options, buckets) is the router's table; the bound is proved."""

    status: Status
    usd_per_hour: float | None
    bound_usd_per_hour: float | None
    gap_ratio: float | None
    counts: Mapping[str, Floats]
    weights: Mapping[str, Floats]
    rounds: int
    infeasible: Infeasible | None = None
