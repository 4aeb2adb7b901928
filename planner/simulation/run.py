"""A plan put to the test: its replicas serve requests for a while, and are judged by what came of them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from planner.errors import BadInput
from planner.hardware import Inventory
from planner.plan import Allocation
from planner.service import Bucket, ServiceSpec
from planner.simulation.arrivals import Requests, Traffic, requests
from planner.simulation.fleet import Fleet
from planner.simulation.model import pace_of
from planner.simulation.outcome import PoolOutcome, ServiceOutcome, classes, joined, part
from planner.simulation.pace import Pace
from planner.simulation.told import Finished

STRETCH_S = 60.0
WARM_S = 120.0  # what arrives before is served and not judged: engines begin empty
_PATIENCE_S = 600.0  # after the last arrival, for those in flight
Progress = Callable[[float], None]
Source = Callable[[ServiceSpec, float, float], Requests]
"""The requests of a service that come in a stretch of time, from and to in seconds."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Requests that a plan is tried by. `duration_s`: of arrivals that are judged; those of `warm_s` before are not."""

    name: str
    source: Source
    duration_s: float
    seed: int = 0
    warm_s: float = WARM_S


def by_process(traffic: Traffic, seed: int) -> Source:
    """Arrivals of a process."""
    return lambda spec, start_s, end_s: requests(spec, traffic, start_s, end_s, seed)


def by_list(made: Mapping[str, Requests]) -> Source:
    """Arrivals that are known beforehand, by service, such as those of a trace."""

    def between(spec: ServiceSpec, start_s: float, end_s: float) -> Requests:
        every = made[spec.name]
        start, end = (every.arrival_s.searchsorted(at_s) for at_s in (start_s, end_s))
        when_s, inputs, outputs, which = every
        return Requests(when_s[start:end], inputs[start:end], outputs[start:end], which[start:end])

    return between


def kind_of(one: Allocation) -> str:
    """Equal replicas of an allocation by name."""
    return f"{one.recipe} {one.pool} in {one.node_group}"


def serves(one: Allocation, service: ServiceSpec) -> bool:
    """Whether an allocation is of a service."""
    return one.service in (service.name, f"{service.namespace}/{service.name}")


def simulate(
    services: Sequence[ServiceSpec],
    allocations: Sequence[Allocation],
    inventory: Inventory,
    trial: Trial,
    progress: Progress = lambda _: None,
) -> list[ServiceOutcome]:
    """What comes of every service. Raises BadInput for what cannot be simulated."""
    fleet, paces = Fleet(trial.seed), dict[str, Pace]()
    for service in services:
        mine = [one for one in allocations if serves(one, service)]
        if not mine:
            raise BadInput(f"plan: got no allocation of {service.name}, allowed: a plan of every service given")
        _place(fleet, service, mine, inventory, paces)
    ended: dict[str, list[Finished]] = {service.name: [] for service in services}
    used: dict[str, list[tuple[float, float, float]]] = {}
    whole_s, at_s = trial.warm_s + trial.duration_s, 0.0
    while at_s < whole_s + _PATIENCE_S:
        until_s = at_s + STRETCH_S
        for service in services if at_s < whole_s else ():
            came = trial.source(service, at_s, min(until_s, whole_s))
            fleet.submit(service.name, came.arrival_s, came.input_tokens, came.output_tokens, came.bucket)
        for name, found in fleet.advance(until_s).items():
            ended[name].append(found)
        for name in fleet.names():
            state = fleet.state(name)
            if trial.warm_s <= at_s < whole_s:
                used.setdefault(name, []).append((state.busy_ratio, state.kv_ratio, state.power_w))
        at_s = until_s
        progress(min(at_s / whole_s, 1.0))
        if at_s >= whole_s and not any(fleet.account(one.name).in_flight for one in services):
            break
    return [_outcome(fleet, one, joined(ended[one.name]), allocations, used, trial) for one in services]


def _place(
    fleet: Fleet,
    service: ServiceSpec,
    mine: Sequence[Allocation],
    inventory: Inventory,
    paces: dict[str, Pace],
) -> None:
    """The replicas of a service, and its router's table."""
    table: dict[Bucket, dict[str, float]] = {}
    for one in mine:
        kind = kind_of(one)
        pace = pace_of(service, one, inventory)
        if isinstance(pace, str):
            raise BadInput(f"{service.name}: {one.recipe}: {pace}")
        paces[f"{service.name}/{kind}"] = pace
        for number in range(one.replicas):
            fleet.add(f"{service.name}/{kind}/{number}", kind, service.name, one.pool, pace)
        for bucket, share in one.shares.items():
            if one.pool != "decode" and share > 0:
                table.setdefault(bucket, {})[kind] = share
    fleet.weights(service.name, table, list(service.workload.rates_per_s))


def _outcome(
    fleet: Fleet,
    service: ServiceSpec,
    ended: Finished,
    allocations: Sequence[Allocation],
    used: Mapping[str, Sequence[tuple[float, float, float]]],
    trial: Trial,
) -> ServiceOutcome:
    kept = part(ended, ended.arrival_s >= trial.warm_s)
    found = classes(service, kept)
    pools, first = [], 0
    for one in allocations:
        if not serves(one, service):
            continue
        kind = kind_of(one)
        rows = [row for number in range(one.replicas) for row in used.get(f"{service.name}/{kind}/{number}", ())]
        means = [sum(row[i] for row in rows) / len(rows) if rows else 0.0 for i in range(3)]
        mine = part(kept, (kept.replica >= first) & (kept.replica < first + one.replicas))
        pools.append(
            PoolOutcome(
                kind, one.pool, one.replicas, means[0], means[1], means[2] * one.replicas, classes(service, mine)
            )
        )
        first += one.replicas
    tokens_per_s = float(kept.output_tokens.sum()) / trial.duration_s
    power_w = sum(one.power_w for one in pools)
    good = sum(one.requests * one.attained_ratio for one in found)
    return ServiceOutcome(
        service=service.name,
        classes=found,
        pools=tuple(pools),
        account=fleet.account(service.name),
        rate_per_s=len(kept) / trial.duration_s,
        goodput_per_s=good / trial.duration_s,
        tokens_per_s=tokens_per_s,
        joules_per_token=power_w / tokens_per_s if tokens_per_s else None,
    )
