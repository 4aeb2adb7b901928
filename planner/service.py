"""A service as its owner describes it: a model, a workload, and what must hold for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from planner.model import Model

Engine = Literal["vllm", "sglang"]


class Bucket(NamedTuple):
    """Requests of one SLO class with about the same size; the token counts are the bucket's upper edges."""

    slo_class: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class SLO:
    """A latency objective; None = not asked for. It holds for the `percentile` (0 to 1) of requests."""

    name: str
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    percentile: float = 0.95


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests per second by bucket at the planned rate, and the series of total rates behind it, if any.

    `mean_tokens`: bucket -> mean (input, output) tokens of what fell into it; the upper edges where not known.
    `prefix_hit_ratio`: the share of prompt tokens that a cache of prefixes would have (0 = not known).
    """

    rates_per_s: Mapping[Bucket, float]
    series_per_s: tuple[float, ...] = ()
    series_step_s: float = 0.0
    mean_tokens: Mapping[Bucket, tuple[float, float]] = field(default_factory=dict)
    prefix_hit_ratio: float = 0.0

    @property
    def rate_per_s(self) -> float:
        """Total requests per second."""
        return sum(self.rates_per_s.values())


@dataclass(frozen=True, slots=True)
class Constraints:
    """What the owner forbids or demands besides latency. Empty or None = no such constraint."""

    gpu_types: tuple[str, ...] = ()  # catalogue names; only these
    excluded_gpu_types: tuple[str, ...] = ()
    techniques: tuple[str, ...] | None = None  # only these may be tried; None = all
    usd_per_hour: float | None = None
    survive_replicas: int = 0  # the rest still carries every request after any k replicas are lost
    survive_nodes: int = 0  # the same after any one node is lost (0 or 1)
    min_zones: int = 1
    max_zone_share: float = 1.0  # of the service's requests in any one zone
    max_spot_share: float = 1.0  # of the service's requests on spot nodes
    min_replicas: int = 0
    max_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service. `priority`: higher is kept when not all fit. `quality_floor`: least accuracy kept (0 to 1).

    `checkpoint`: the Hugging Face id that the owner's name of the model means; empty where the catalogue knows none.
    """

    name: str
    model: Model
    workload: Workload
    slos: tuple[SLO, ...]
    namespace: str = "default"
    engine: Engine = "vllm"
    deployment: Literal["online", "batch"] = "online"
    approval: Literal["Auto", "Manual"] = "Auto"
    priority: int = 0
    quality_floor: float = 0.0
    constraints: Constraints = field(default_factory=Constraints)
    checkpoint: str = ""

    def slo(self, slo_class: str) -> SLO:
        """The objective of a class; raises KeyError for a class that the service has not."""
        return {slo.name: slo for slo in self.slos}[slo_class]
