"""What came of simulated requests: latencies by class against objectives, goodput, watts, how full replicas were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.service import SLO, ServiceSpec
from planner.simulation.told import Account, Finished

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Latency:
    """One latency of a class, in seconds. `at_s`: at the objective's percentile; `limit_s` None: nothing is asked."""

    metric: str  # ttft, tpot, e2e
    quantiles_s: Mapping[float, float]
    at_s: float
    limit_s: float | None

    @property
    def met(self) -> bool:
        """Whether the objective holds; it does where there is none."""
        return self.limit_s is None or self.at_s <= self.limit_s


@dataclass(frozen=True, slots=True)
class ClassOutcome:
    """One SLO class. `attained_ratio`: requests that met every limit of theirs."""

    slo_class: str
    percentile: float
    requests: int
    attained_ratio: float
    latencies: tuple[Latency, ...]

    @property
    def met(self) -> bool:
        """Whether every objective of the class holds."""
        return all(one.met for one in self.latencies)

    @property
    def strain_ratio(self) -> float:
        """The worst latency at the objective's percentile, over its limit; 0 where none is limited."""
        return max((one.at_s / one.limit_s for one in self.latencies if one.limit_s), default=0.0)


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """Replicas of one kind: means over time and replicas, and what came of the requests that they answered."""

    kind: str
    pool: str
    replicas: int
    busy_ratio: float
    kv_ratio: float
    power_w: float  # of all
    classes: tuple[ClassOutcome, ...] = ()

    @property
    def strain_ratio(self) -> float:
        """The worst of its classes."""
        return max((one.strain_ratio for one in self.classes), default=0.0)


@dataclass(frozen=True, slots=True)
class ServiceOutcome:
    """One service. `tokens_per_s` counts those that were written."""

    service: str
    classes: tuple[ClassOutcome, ...]
    pools: tuple[PoolOutcome, ...]
    account: Account
    rate_per_s: float
    goodput_per_s: float
    tokens_per_s: float
    joules_per_token: float | None

    @property
    def met(self) -> bool:
        """Whether every objective of the service holds."""
        return all(one.met for one in self.classes)

    @property
    def strain_ratio(self) -> float:
        """The worst of its classes."""
        return max((one.strain_ratio for one in self.classes), default=0.0)


def classes(spec: ServiceSpec, ended: Finished) -> tuple[ClassOutcome, ...]:
    """Every class of a service that had requests."""
    buckets = list(spec.workload.rates_per_s)
    columns = {"ttft": ended.ttft_s, "tpot": ended.tpot_s, "e2e": ended.e2e_s}
    found = []
    for slo in spec.slos:
        mine = np.isin(ended.bucket, [i for i, one in enumerate(buckets) if one.slo_class == slo.name])
        if mine.any():
            found.append(_class(slo, {name: values[mine] for name, values in columns.items()}))
    return tuple(found)


def _class(slo: SLO, columns: Mapping[str, np.ndarray]) -> ClassOutcome:
    count = len(columns["ttft"])
    met = np.ones(count, dtype=bool)
    made = []
    for name, values in columns.items():
        limit_s, told = getattr(slo, f"{name}_s"), values[~np.isnan(values)]
        if limit_s is not None:
            met &= np.isnan(values) | (values <= limit_s)
        if len(told):
            quantiles = {one: float(np.quantile(told, one)) for one in QUANTILES}
            made.append(Latency(name, quantiles, float(np.quantile(told, slo.percentile)), limit_s))
    return ClassOutcome(slo.name, slo.percentile, count, float(met.mean()), tuple(made))


def part(ended: Finished, of: NDArray[np.bool_]) -> Finished:
    """Some of the requests."""
    return Finished(*(getattr(ended, name)[of] for name in Finished.__slots__))


def joined(parts: Sequence[Finished]) -> Finished:
    """Stretches of one service as one."""
    names = Finished.__slots__
    if not parts:
        empty = np.zeros(0)
        whole = np.zeros(0, dtype=np.int64)
        return Finished(empty, empty, empty, whole, whole, whole, whole)
    return Finished(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))
