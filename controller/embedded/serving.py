"""Replicas of the embedded cluster serve: the simulator has those that are ready, and tells what came of requests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from controller.embedded.agents import Ailment
from controller.embedded.replicas import Replica, allocation_of, replicas
from controller.embedded.seen import LATENCIES, QUANTILES, WINDOW_S, Seen, Window, met, patience_s
from controller.embedded.store import Store
from controller.hardware import offer
from controller.kube.cache import WORKLOADS
from controller.kube.known import Known, gpu_of_product
from controller.manifests.service import table_name, weights_of
from controller.rates import Heard, ServiceKey
from controller.specs import key_of
from planner.hardware import Inventory
from planner.plan import Allocation
from planner.service import ServiceSpec
from planner.simulation.arrivals import STEADY, Traffic, read, requests
from planner.simulation.fleet import Fleet
from planner.simulation.model import pace_under
from planner.simulation.pace import Pace
from planner.simulation.told import Finished, State
from planner.spec.fields import Context
from planner.spec.load import CATALOG, parse

Object = Mapping[str, Any]

_MOST_PER_S = 1e4
_MOST_PACES = 1000
TRAFFIC = "traffic"  # the name under which the store keeps it: service -> its traffic


class Serving:
    """The data plane. `seed` decides chance."""

    def __init__(self, store: Store, known: Known, seed: int) -> None:
        self._store, self._known, self._seed = store, known, seed
        self.fleet = Fleet(seed)
        self.replicas: dict[str, Replica] = {}
        self.allocations: dict[str, Allocation] = {}
        self.states: dict[str, State] = {}
        self.refused: dict[str, str] = {}  # replica -> why it cannot be simulated
        self._numbers: dict[tuple[str, int], str] = {}  # of replicas: service and number -> name
        self._served: dict[tuple[str, int, str], list[float]] = {}
        self._windows: dict[str, Window] = {}
        self._open: set[str] = set()  # services that served once: nobody sends requests to one that never did
        self._paces: dict[tuple[object, ...], Pace | str] = {}
        self._running: dict[str, tuple[object, ...]] = {}  # replica -> the mark of the pace it has
        self._limits_w: Mapping[str, Sequence[float | None]] = {}
        self._seen: dict[str, tuple[float, set[float], Seen | None]] = {}
        self._inventory: tuple[str, Inventory] | None = None

    def traffic(self, key: str) -> Traffic:
        """How requests of a service come."""
        row = (self._store.said(TRAFFIC) or {}).get(key)
        return STEADY if row is None else read(row)

    def start(self, now_s: float) -> None:
        """Time begins here."""
        self.fleet.advance(now_s)

    def go_on(self, start_s: float, end_s: float) -> None:
        """Requests of a stretch of time come and are served."""
        for obj in self._known.items("gpuservices"):
            spec, key = self._known.spec(obj), key_of(obj)
            if not isinstance(spec, ServiceSpec) or obj["metadata"].get("deletionTimestamp") or key not in self._open:
                continue
            made = requests(spec, _bounded(spec, self.traffic(key)), start_s, end_s, self._seed)
            self._windows.setdefault(key, Window()).came.append((start_s, end_s, len(made.arrival_s)))
            self.fleet.submit(key, made.arrival_s, made.input_tokens, made.output_tokens, made.bucket)
        for key, ended in self.fleet.advance(end_s).items():
            self._windows.setdefault(key, Window()).ended.append((end_s, ended))
            self._by_gpu(key, ended)
        for key, window in self._windows.items():
            refused = self.fleet.account(key).refused
            window.refused.append((end_s, refused - window.refused_before))
            window.refused_before = refused
            window.keep(end_s)
        self.states = {name: self.fleet.state(name) for name in self.fleet.names()}

    def _by_gpu(self, key: str, ended: Finished) -> None:
        """Requests of each replica, as its engine tells the agent of its first GPU."""
        for number in np.unique(ended.replica):
            one = self.replicas.get(self._numbers.get((key, int(number)), ""))
            if one is not None:
                node, gpus = next(iter(one.gpus.items()))
                mine = self._served.setdefault((node, min(gpus), key), [])
                mine.extend(ended.e2e_s[ended.replica == number].tolist())

    def served(self) -> dict[tuple[str, int, str], list[float]]:
        """Since this was last asked: seconds that requests took, by node, GPU and service."""
        found, self._served = self._served, {}
        return found

    def follow(self, ills: Mapping[str, Mapping[int, Ailment]]) -> None:
        """Have the simulator serve with the replicas that are ready, as fast as their GPUs, by the routers' tables."""
        cache = self._known.cache
        workloads = [one for plural in WORKLOADS if plural in cache.informers for one in self._known.items(plural)]
        there = {one.name: one for one in replicas(workloads, self._known.items("pods"))}
        for name, one in there.items():
            if name not in self.allocations and (made := self._made_for(one)) is not None:
                self.allocations[name] = made
            serves = one.ready and not one.leaving
            if serves and not self.fleet.has(name):
                self._begin(one)
            elif self.fleet.has(name) and not serves:
                dead = any(ill.stops for ill in _ills(one, ills))
                self.fleet.remove(name, kill=dead or (not one.ready and not one.leaving))
            if self.fleet.has(name):
                factors = [ill.factor for ill in _ills(one, ills) if ill.kind == "slow"]
                self.fleet.slow(name, min(factors, default=1.0))
        for name in self.fleet.names():
            if name not in there:
                self.fleet.remove(name, kill=True)
        self.replicas = there
        self.allocations = {name: one for name, one in self.allocations.items() if name in there}
        self._numbers = {mark: name for mark, name in self._numbers.items() if name in there}
        self._running = {name: mark for name, mark in self._running.items() if self.fleet.has(name)}
        self._tables()

    def limit(self, limits_w: Mapping[str, Sequence[float | None]]) -> None:
        """The power limits in force, by node and GPU (None: its own): replicas run on as fast as these let them."""
        self._limits_w = limits_w
        for name, before in list(self._running.items()):
            one = self.replicas.get(name)
            if one is None or not self.fleet.has(name):
                continue
            found = self._pace(one)
            if found is not None and found[0] != before and isinstance(found[1], Pace):
                self._running[name] = found[0]
                self.fleet.paced(name, found[1])

    def busy(self, pod: Object) -> bool:
        """Whether a pod still has requests."""
        meta = pod["metadata"]
        return not self.fleet.empty(f"{meta['namespace']}/{meta['name']}/{meta['uid']}")

    def heard(self, ready: Mapping[ServiceKey, int], quantiles: Sequence[float]) -> Mapping[ServiceKey, Heard]:
        """What Prometheus would tell of services."""
        found = {}
        for key, count in ready.items():
            seen = self.seen(f"{key.namespace}/{key.name}", quantiles)
            if seen is None:
                continue
            running, waiting = self.queue(f"{key.namespace}/{key.name}")
            found[key] = Heard(
                replicas=count,
                rate_per_s=seen.rate_per_s,
                running=running,
                waiting=waiting,
                input_tokens=seen.input_tokens,
                output_tokens=seen.output_tokens,
                latency_s=seen.latency_s,
                ended=float(seen.finished),
                attained_ratio=seen.attained_ratio,
                window_s=WINDOW_S,
            )
        return found

    def queue(self, key: str) -> tuple[float, float]:
        """Requests of a service in the steps of its replicas, and those that wait in queues there and before them."""
        states = [
            self.states[name] for name, one in self.replicas.items() if one.service == key and name in self.states
        ]
        before = self.fleet.account(key).waiting
        return float(sum(one.running for one in states)), float(before + sum(one.waiting for one in states))

    def seen(self, key: str, quantiles: Sequence[float] = ()) -> Seen | None:
        """A service in the last minute, by `QUANTILES` and others that are asked for; None where nothing came yet."""
        found, asked = self._seen.get(key), {*QUANTILES, *quantiles}
        if found is None or found[0] != self.fleet.now_s or not asked <= found[1]:
            found = self._seen[key] = (self.fleet.now_s, asked, self._look(key, sorted(asked)))
        return found[2]

    def _look(self, key: str, quantiles: Sequence[float]) -> Seen | None:
        window, obj = self._windows.get(key), self._known.service(key)
        spec = None if obj is None else self._known.spec(obj)
        if window is None or not window.came or not isinstance(spec, ServiceSpec):
            return None
        passed_s = window.came[-1][1] - window.came[0][0]
        rate_per_s = sum(count for _, _, count in window.came) / passed_s
        lost = sum(count for _, count in window.refused) + self.fleet.overdue(key, patience_s(spec))
        if not window.ended:
            return Seen(rate_per_s, 0, 0.0 if lost else None, 0.0, None, None, {})
        ended = [one for _, one in window.ended]
        columns = {name: np.concatenate([getattr(one, f"{name}_s") for one in ended]) for name in LATENCIES}
        bucket = np.concatenate([one.bucket for one in ended])
        good = met(spec, columns, bucket)
        latency: dict[tuple[str, float], float] = {}
        for name, values in columns.items():
            told = values[~np.isnan(values)]
            if len(told):
                values_s = np.quantile(told, quantiles).tolist()
                latency |= {(name, q): value_s for q, value_s in zip(quantiles, values_s, strict=True)}
        return Seen(
            rate_per_s,
            len(bucket),
            float(good.sum()) / (len(good) + lost),
            float(good.sum()) / passed_s,
            float(np.mean(np.concatenate([one.input_tokens for one in ended]))),
            float(np.mean(np.concatenate([one.output_tokens for one in ended]))),
            latency,
        )

    def attained_since(self, key: str, since_s: float) -> float | None:
        """Of the requests that came since a time and ended in the last minute, the share that met its objective."""
        window, obj = self._windows.get(key), self._known.service(key)
        spec = None if obj is None else self._known.spec(obj)
        if window is None or not window.ended or not isinstance(spec, ServiceSpec):
            return None
        ended = [one for _, one in window.ended]
        late = np.concatenate([one.arrival_s for one in ended]) >= since_s
        if not late.any():
            return None
        columns = {name: np.concatenate([getattr(one, f"{name}_s") for one in ended])[late] for name in LATENCIES}
        return float(met(spec, columns, np.concatenate([one.bucket for one in ended])[late]).mean())

    def _made_for(self, one: Replica) -> Allocation | None:
        plan = self._known.plan(one.service)
        past = () if plan is None else self._store.past(("plans", *one.service.split("/", 1)))  # type: ignore[arg-type]
        return allocation_of(self._known, one, past)

    def _begin(self, one: Replica) -> None:
        found = self._pace(one)
        if found is None:
            return
        mark, pace = found
        if isinstance(pace, str):
            self.refused[one.name] = pace
            return
        self._running[one.name] = mark
        self._open.add(one.service)
        self._numbers[one.service, self.fleet.add(one.name, one.kind, one.service, one.pool, pace)] = one.name

    def _pace(self, one: Replica) -> tuple[tuple[object, ...], Pace | str] | None:
        """A replica's pace under the limits that its GPUs have now, and what it is kept by; None: nothing is known."""
        made, obj = self.allocations.get(one.name), self._known.service(one.service)
        spec = None if obj is None else self._known.spec(obj)
        if made is None or obj is None or not isinstance(spec, ServiceSpec):
            return None
        cap_w = self._cap_w(one, made)
        mark = (one.kind, obj["metadata"]["generation"], str(made.recipe), cap_w)
        if mark not in self._paces:
            self._paces = self._paces if len(self._paces) < _MOST_PACES else {}
            self._paces[mark] = pace_under(spec, made, self._hardware(), cap_w)
        return mark, self._paces[mark]

    def _cap_w(self, one: Replica, made: Allocation) -> float | None:
        """The limit of a replica's slowest GPU, for which the others wait; as planned while its node told of none."""
        if not one.gpus.keys() <= self._limits_w.keys():
            return made.recipe.power_cap_w
        found = (self._limits_w[node][gpu] for node, gpus in one.gpus.items() for gpu in gpus)
        return min((cap_w for cap_w in found if cap_w is not None), default=None)

    def _hardware(self) -> Inventory:
        """The cluster's GPU types as the planner knows them, nodes that are out included."""
        mark = self._known.facts().offered
        if self._inventory is None or self._inventory[0] != mark:
            nodes = [{**one, "spec": {}} for one in self._known.items("nodes")]
            made = offer(self._known.items("clusterinventories"), (), nodes, {}, {}, gpu_of_product)
            found, problems = parse(dict(made.document), Context(CATALOG, Path("/nonexistent")))
            if not isinstance(found, Inventory):
                raise AssertionError(f"the cluster's own inventory: {problems}")
            self._inventory = (mark, found)
        return self._inventory[1]

    def _tables(self) -> None:
        for obj in self._known.items("gpuservices"):
            key, spec = key_of(obj), self._known.spec(obj)
            meta = obj["metadata"]
            table = self._known.cache.get("configmaps", meta["namespace"], table_name(meta["name"]))
            if table is not None and isinstance(spec, ServiceSpec):
                self.fleet.weights(key, weights_of(table), list(spec.workload.rates_per_s))


def _bounded(spec: ServiceSpec, traffic: Traffic) -> Traffic:
    """Traffic of no more requests than a process can make: a spec may ask for a billion a second."""
    most_per_s = traffic.mean_per_s(spec, traffic.peak_s)
    return traffic if most_per_s <= _MOST_PER_S else replace(traffic, factor=traffic.factor * _MOST_PER_S / most_per_s)


def _ills(one: Replica, ills: Mapping[str, Mapping[int, Ailment]]) -> list[Ailment]:
    """What is wrong with a replica's GPUs."""
    return [ills[node][gpu] for node, gpus in one.gpus.items() for gpu in gpus if gpu in ills.get(node, {})]
