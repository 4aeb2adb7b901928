"""What is seen of a service of the embedded cluster in the last minute. Pure."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planner.service import ServiceSpec
from planner.simulation.told import Finished

WINDOW_S = 60.0
LATENCIES = ("ttft", "tpot", "e2e")
QUANTILES = (0.5, 0.95, 0.99)


@dataclass
class Window:
    """What ended and came within the last minute, in stretches."""

    ended: deque[tuple[float, Finished]] = field(default_factory=deque)
    came: deque[tuple[float, float, int]] = field(default_factory=deque)  # start, end, requests
    refused: deque[tuple[float, int]] = field(default_factory=deque)
    refused_before: int = 0

    def keep(self, now_s: float) -> None:
        while self.ended and self.ended[0][0] <= now_s - WINDOW_S:
            self.ended.popleft()
        while self.refused and self.refused[0][0] <= now_s - WINDOW_S:
            self.refused.popleft()
        while self.came and self.came[0][1] <= now_s - WINDOW_S:
            self.came.popleft()


@dataclass(frozen=True, slots=True)
class Seen:
    """A service in the last minute. Latencies by metric and quantile, in seconds; NaN-free."""

    rate_per_s: float
    finished: int
    attained_ratio: float | None
    goodput_per_s: float
    input_tokens: float | None
    output_tokens: float | None
    latency_s: Mapping[tuple[str, float], float]


def met(spec: ServiceSpec, columns: Mapping[str, Any], bucket: Any) -> Any:
    """Whether each request met the limits of its class. `columns`: seconds by latency; `bucket` counts in order."""
    good = np.ones(len(bucket), dtype=bool)
    buckets = list(spec.workload.rates_per_s)
    for slo in spec.slos:
        mine = np.isin(bucket, [i for i, one in enumerate(buckets) if one.slo_class == slo.name])
        for name, values in columns.items():
            if (limit_s := getattr(slo, f"{name}_s")) is not None:
                good &= ~mine | np.isnan(values) | (values <= limit_s)
    return good


def patience_s(spec: ServiceSpec) -> float:
    """How long a request may wait before it has missed the objective of every class."""
    limits = [slo.ttft_s if slo.ttft_s is not None else slo.e2e_s for slo in spec.slos]
    return math.inf if None in limits else max((one for one in limits if one is not None), default=math.inf)
