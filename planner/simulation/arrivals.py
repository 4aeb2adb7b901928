"""Requests of every service, as a seeded process in time: a mean, a day's rhythm, bursts, and a surge's factor.

Requests of a stretch of time depend on the seed, the service and the stretch alone, so a cluster that is started again
gets those that it would have got.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.errors import BadInput
from planner.service import Bucket, ServiceSpec
from planner.traces import Trace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S = 86_400.0
_STEP_S = 1.0  # rates and bursts change by the second
_MOST = {
    "rate_per_s": 1e4, "factor": 1e3, "swing_ratio": 1.0, "peak_s": DAY_S, "burst_cv": 20.0, "input_ratio": 100.0,
    "output_ratio": 100.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traffic:
    """How requests of a service come. `rate_per_s` None: the rate of its spec; `factor` multiplies either.

    `swing_ratio`: how far a day's peak is above its mean, and its low below it (0 to 1). `peak_s`: when the peak is,
    seconds into the day (UTC). `burst_cv`: coefficient of variation of the time between requests (1 = Poisson).
    `input_ratio`, `output_ratio`: tokens of prompts and answers, over those of the spec.
    """

    rate_per_s: float | None = None
    factor: float = 1.0
    swing_ratio: float = 0.0
    peak_s: float = 14 * 3600.0
    burst_cv: float = 1.0
    input_ratio: float = 1.0
    output_ratio: float = 1.0

    def mean_per_s(self, spec: ServiceSpec, at_s: float) -> float:
        """Requests per second that are expected at a time."""
        base = spec.workload.rate_per_s if self.rate_per_s is None else self.rate_per_s
        day = 1 + self.swing_ratio * math.cos(2 * math.pi * (at_s - self.peak_s) / DAY_S)
        return base * self.factor * day


STEADY = Traffic()


class Requests(NamedTuple):
    """Requests in order of arrival; `bucket` counts in the order of the service's buckets."""

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    bucket: Ints


def read(row: Mapping[str, Any]) -> Traffic:
    """Traffic from plain values; raises BadInput."""
    known = asdict(STEADY)
    if unknown := sorted(set(row) - set(known)):
        raise BadInput(f"traffic: got {', '.join(unknown)}, allowed: {', '.join(known)}")
    for key, value in row.items():
        if value is None and key == "rate_per_s":
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= _MOST[key]:  # NaN is not
            raise BadInput(f"traffic.{key}: got {value!r:.40}, allowed: 0 to {_MOST[key]:g}")
    return replace(STEADY, **row)


def requests(spec: ServiceSpec, traffic: Traffic, start_s: float, end_s: float, seed: int) -> Requests:
    """What comes in [start_s, end_s): Poisson, or with `burst_cv` above 1 in gamma-distributed bunches."""
    mark = sha256(f"{seed}/{spec.namespace}/{spec.name}/{start_s:.3f}".encode()).digest()
    chance = np.random.default_rng(int.from_bytes(mark[:8], "big"))
    steps = max(math.ceil((end_s - start_s) / _STEP_S), 1)
    width_s = (end_s - start_s) / steps
    starts_s = start_s + width_s * np.arange(steps)
    means = np.array([traffic.mean_per_s(spec, float(at_s) + width_s / 2) * width_s for at_s in starts_s])
    if traffic.burst_cv > 1:  # a Poisson number of a gamma-distributed mean: the variance of cv^2 times a Poisson's
        over = traffic.burst_cv**2 - 1
        means = np.where(means > 0, chance.gamma(np.maximum(means, 1e-12) / over, over), 0.0)
    counts = chance.poisson(means)
    count = int(counts.sum())
    arrival_s = np.sort(np.repeat(starts_s, counts) + chance.uniform(0.0, width_s, count))
    buckets = list(spec.workload.rates_per_s)
    shares = np.array([spec.workload.rates_per_s[one] for one in buckets], dtype=float)
    chosen = chance.choice(len(buckets), size=count, p=shares / shares.sum()) if count else np.zeros(0, dtype=int)
    sizes = np.array([_size(spec, traffic, one) for one in buckets], dtype=np.int64).reshape(-1, 2)
    return Requests(arrival_s, sizes[chosen, 0], sizes[chosen, 1], chosen.astype(np.int64))


def replayed(spec: ServiceSpec, trace: Trace, speed: float, seed: int) -> Requests:
    """The requests of a trace, `speed` times as fast; classes by chance, as the service's classes share its load.

    A request goes into the smallest bucket of its class that holds it, or the largest where none does.
    """
    buckets = list(spec.workload.rates_per_s)
    classes = list(dict.fromkeys(one.slo_class for one in buckets))
    rates = spec.workload.rates_per_s
    weights = np.array([sum(rate for one, rate in rates.items() if one.slo_class == name) for name in classes])
    weights = weights / weights.sum() if weights.sum() else np.full(len(classes), 1 / len(classes))
    chosen = np.random.default_rng(seed).choice(len(classes), size=len(trace), p=weights)
    which = np.zeros(len(trace), dtype=np.int64)
    for index, name in enumerate(classes):
        mine = [i for i, one in enumerate(buckets) if one.slo_class == name]
        order = sorted(mine, key=lambda i: (buckets[i].input_tokens * buckets[i].output_tokens, i))
        left = chosen == index
        which[left] = order[-1]
        for i in order:
            fits = (trace.input_tokens <= buckets[i].input_tokens) & (trace.output_tokens <= buckets[i].output_tokens)
            which[left & fits] = i
            left = left & ~fits
    return Requests(trace.arrival_s / speed, trace.input_tokens, np.maximum(trace.output_tokens, 1), which)


def _size(spec: ServiceSpec, traffic: Traffic, bucket: Bucket) -> tuple[int, int]:
    """Mean tokens of what falls into a bucket."""
    inputs, outputs = spec.workload.mean_tokens.get(bucket, (bucket.input_tokens, bucket.output_tokens))
    return max(round(inputs * traffic.input_ratio), 1), max(round(outputs * traffic.output_ratio), 1)
