"""The six metrics of EfficientLLM (arXiv 2505.13840, section 5.1) of each service of a plan, at full load.

The paper averages over the time of a run; here a run is a fleet as busy as its objectives allow, in the service's own
mix of requests, so every figure is added up from what is predicted of one replica.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.plan import Allocation, Plan, Prediction

# Metric -> the paper's abbreviation, and what it is here, in words for the user.
MEANING = {
    "memory_utilisation_ratio": ("AMU", "memory in use (weights, KV cache, activations, workspace) of what GPUs have"),
    "compute_utilisation_ratio": ("PCU", "arithmetic that requests need, of the peak of the number formats in use"),
    "mean_latency_s": ("AL", "mean time from request to last token, waits included"),
    "tokens_per_s": ("IT", "output tokens per second of all replicas"),
    "power_w": ("AEC", "average draw of all GPUs"),
    "compression_ratio": ("MCR", "size of the published weights over that of those held, times accuracy kept"),
}


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The metrics of one service; `MEANING` says what each is. Shares of GPUs weigh GPUs, the rest weighs tokens."""

    memory_utilisation_ratio: float
    compute_utilisation_ratio: float
    mean_latency_s: float
    tokens_per_s: float
    power_w: float
    compression_ratio: float


def efficiency(allocations: Sequence[Allocation]) -> Efficiency | None:
    """The metrics of the allocations of one service; None where it runs nothing."""
    if not allocations:
        return None
    gpus = [float(a.replicas * a.gpus_per_replica) for a in allocations]
    # A pool that only prefills has no tokens of its own: they are those of the pool that decodes.
    tokens = [0.0 if a.pool == "prefill" else a.replicas * a.predicted.tokens_per_s for a in allocations]
    work = tokens if sum(tokens) else gpus

    def mean(figure: Callable[[Prediction], float], weights: Sequence[float]) -> float:
        weighed = (weight * figure(a.predicted) for a, weight in zip(allocations, weights, strict=True))
        return sum(weighed) / sum(weights)

    return Efficiency(
        memory_utilisation_ratio=mean(lambda p: p.memory_utilisation_ratio, gpus),
        compute_utilisation_ratio=mean(lambda p: p.compute_utilisation_ratio, gpus),
        mean_latency_s=mean(lambda p: p.mean_latency_s, work),
        tokens_per_s=sum(tokens),
        power_w=sum(a.power_w for a in allocations),
        compression_ratio=mean(lambda p: p.compression_ratio, work),
    )


def by_service(plan: Plan) -> dict[str, Efficiency]:
    """Service -> its metrics, for each that runs."""
    names = dict.fromkeys(a.service for a in plan.allocations)
    made = {name: efficiency([a for a in plan.allocations if a.service == name]) for name in names}
    return {name: metrics for name, metrics in made.items() if metrics is not None}
