"""The process behind `controller.web.simulating`: a fleet of `planner.simulation` under seeded Poisson requests. Pure
but for `main`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from controller.decision import CONTEXT
from controller.plans import allocations
from controller.specs import service
from controller.web.child import serve
from controller.web.simulating import Asked, ClassSeen, LatencySeen, Simulated
from planner.errors import BadInput, MusterError
from planner.hardware import Inventory
from planner.plan import Allocation
from planner.service import SLO, Bucket, ServiceSpec
from planner.simulation.arrivals import Traffic, requests
from planner.simulation.fleet import Fleet
from planner.simulation.model import pace_of
from planner.simulation.told import Finished
from planner.spec.load import parse

_STEP_S, _WARM_RATIO, _LONGEST_TAIL_S = 5.0, 0.1, 300.0
_METRICS = ("ttft_s", "tpot_s", "e2e_s")
Floats = NDArray[np.float64]


def simulated(asked: Asked, spec: ServiceSpec, running: tuple[Allocation, ...], hardware: Inventory) -> Simulated:
    """What comes of the requests. Raises BadInput for replicas that cannot be simulated."""
    fleet = _fleet(asked, spec, running, hardware)
    ended, watts = [], []
    traffic = Traffic(rate_per_s=asked.rate_per_s)
    at_s, last_s = 0.0, asked.duration_s + _LONGEST_TAIL_S
    while at_s < last_s:
        until_s = min(at_s + _STEP_S, asked.duration_s) if at_s < asked.duration_s else at_s + _STEP_S
        if at_s < asked.duration_s:
            made = requests(spec, traffic, at_s, until_s, asked.seed)
            fleet.submit(asked.key, made.arrival_s, made.input_tokens, made.output_tokens, made.bucket)
        elif all(fleet.empty(name) for name in fleet.names()):
            break
        ended += [one for one in (fleet.advance(until_s).get(asked.key),) if one is not None]
        if at_s < asked.duration_s:
            watts.append(sum(fleet.state(name).power_w for name in fleet.names()))
        at_s = until_s
    account = fleet.account(asked.key)
    warm_s = asked.duration_s * _WARM_RATIO
    classes = tuple(_classes(spec, _columns(ended, warm_s)))
    counted_s = asked.duration_s - warm_s
    return Simulated(
        asked.key, asked.decision, asked.rate_per_s, asked.duration_s, warm_s, asked.seed,
        submitted=account.submitted,
        finished=account.finished,
        refused=account.refused,
        left=account.submitted - account.finished - account.refused,
        preemptions=account.preemptions,
        met=bool(classes) and all(row.met_ratio >= row.asked_ratio for row in classes),
        goodput_per_s=sum(row.met_ratio * row.requests for row in classes) / counted_s,
        power_w=float(np.mean(watts)) if watts else 0.0,
        classes=classes,
    )  # fmt: skip


def _fleet(asked: Asked, spec: ServiceSpec, running: tuple[Allocation, ...], hardware: Inventory) -> Fleet:
    fleet = Fleet(asked.seed)
    table: dict[Bucket, dict[str, float]] = {}
    for number, one in enumerate(running):
        if not one.replicas:
            continue
        pace = pace_of(spec, one, hardware)
        if isinstance(pace, str):
            raise BadInput(f"{one.recipe}: {pace}")
        for index in range(one.replicas):
            fleet.add(f"{number}/{index}", str(number), asked.key, one.pool, pace)
        for bucket, share in one.shares.items() if one.pool != "decode" else ():
            table.setdefault(bucket, {})[str(number)] = share
    fleet.weights(asked.key, table, list(spec.workload.rates_per_s))
    return fleet


def _columns(ended: list[Finished], warm_s: float) -> Mapping[str, Floats]:
    """The latencies and buckets of requests that came after the fleet was warm."""
    names = (*_METRICS, "bucket")
    if not ended:
        return {name: np.zeros(0) for name in names}
    kept = np.concatenate([one.arrival_s for one in ended]) >= warm_s
    return {name: np.concatenate([getattr(one, name) for one in ended])[kept] for name in names}


def _classes(spec: ServiceSpec, columns: Mapping[str, Floats]) -> Iterator[ClassSeen]:
    buckets = list(spec.workload.rates_per_s)
    for name in dict.fromkeys(bucket.slo_class for bucket in buckets):
        mine = np.isin(columns["bucket"], [i for i, bucket in enumerate(buckets) if bucket.slo_class == name])
        slo = next((one for one in spec.slos if one.name == name), SLO(name, percentile=0.0))
        met = np.ones(int(mine.sum()), dtype=bool)
        latencies = []
        for metric in _METRICS:
            values, limit_s = columns[metric][mine], getattr(slo, metric)
            if limit_s is not None:
                met &= np.isnan(values) | (values <= limit_s)
            told = values[~np.isnan(values)]
            if len(told):
                quantiles = (float(np.quantile(told, share)) for share in (0.5, 0.95, 0.99))
                latencies.append(LatencySeen(metric, limit_s, *quantiles))
        if len(met):
            yield ClassSeen(name, len(met), float(met.mean()), slo.percentile, tuple(latencies))


def answer(question: bytes) -> bytes:
    """What to say to one question."""
    found: Mapping[str, Any] = orjson.loads(question)
    asked = Asked(**found["asked"])
    try:
        spec = service(found["service"], asked.rate_per_s)
        hardware, problems = parse(found["hardware"], CONTEXT)
        if not isinstance(spec, ServiceSpec) or not isinstance(hardware, Inventory):
            raise BadInput(f"cannot be simulated: {spec if isinstance(spec, list) else problems}")
        made = simulated(asked, spec, allocations(found["allocations"]), hardware)
    except MusterError as error:
        return orjson.dumps({"error": str(error)})
    return orjson.dumps({"simulated": made})


if __name__ == "__main__":
    serve(answer)
