"""Replicas of many services behind their routers, in simulated time.

Requests are given a kind of replica by the service's table of weights (chance, seeded), and the least full replica
of the kind. Where prefill has replicas of its own, a request goes on to a decode replica once its prompt is computed
and sent. A request for which no replica is ready waits at the router; one whose replica dies begins again elsewhere,
its arrival unchanged. Nothing is lost without being counted. What comes of requests does not depend on how far time
goes at once.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from planner.service import Bucket
from planner.simulation.engine import Engine
from planner.simulation.pace import Pace
from planner.simulation.router import PREFILL, Replica, Router
from planner.simulation.sequence import Sequence as Request
from planner.simulation.told import Account, Finished, State, finished

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Names = Sequence[tuple[int, ...]]
_NAMELESS: tuple[int, ...] = ()


class Fleet:
    """All replicas. The same calls with the same `seed` give the same answers."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = np.random.default_rng(seed)
        self._routers: dict[str, Router] = {}
        self._where: dict[str, str] = {}  # replica -> service
        self._next = 0
        self.now_s = 0.0

    def add(self, name: str, kind: str, service: str, pool: str, pace: Pace) -> int:
        """A replica is ready from now on; its number among the service's, as `Finished` has it."""
        made = Replica(name, kind, pool, Engine(pace, self.now_s, prefill_only=pool == PREFILL))
        self._router(service).add(made)
        self._where[name] = service
        return made.number

    def remove(self, name: str, kill: bool = False) -> None:
        """A replica takes nothing new and ends when it is empty; killed, it ends now and its requests begin again."""
        router, one = self._find(name)
        router.drain(one)
        if kill:
            left = sorted(one.engine.everything(), key=lambda each: each.index)
            router.forget(one)
            router.begin_again(left, self.now_s, self._luck(len(left)))
        self._prune(router)

    def has(self, name: str) -> bool:
        """Whether a replica is there, also while it drains."""
        return name in self._where

    def empty(self, name: str) -> bool:
        """Whether a replica has nothing left to do."""
        return not self.has(name) or self._find(name)[1].engine.empty

    def names(self, service: str = "") -> list[str]:
        """All replicas, or those of a service."""
        return [name for name, of in self._where.items() if not service or of == service]

    def slow(self, name: str, factor: float) -> None:
        """A replica runs at a share of its speed from now on."""
        router, one = self._find(name)
        if factor != one.engine.factor:
            one.engine.runs(one.engine.pace, factor)
            router.look(one)

    def paced(self, name: str, pace: Pace) -> None:
        """A replica runs at another pace from now on, as under another power cap; its limits stay."""
        router, one = self._find(name)
        one.engine.runs(pace, one.engine.factor)
        router.look(one)

    def weights(self, service: str, table: Mapping[Bucket, Mapping[str, float]], buckets: Sequence[Bucket]) -> None:
        """A router's table: bucket -> kind -> share; `buckets` in the order that requests count them."""
        self._router(service).weights = {i: table[one] for i, one in enumerate(buckets) if one in table}

    def submit(
        self,
        service: str,
        arrival_s: Floats,
        input_tokens: Ints,
        output_tokens: Ints,
        bucket: Ints,
        names: Names | None = None,
    ) -> None:
        """Requests in order of arrival, none before now. `names`: contents of each prompt's full blocks, for reuse."""
        router = self._router(service)
        columns = (column.tolist() for column in (arrival_s, input_tokens, output_tokens, bucket))
        rows = zip(*columns, self._luck(len(arrival_s)), repeat(_NAMELESS) if names is None else names, strict=False)
        router.tally("submitted", len(arrival_s))
        late = router.coming and len(arrival_s) and router.coming[-1][0] > arrival_s[0]
        for at_s, inputs, outputs, which, luck, known in rows:
            router.coming.append((at_s, luck, Request(self._next, at_s, inputs, max(outputs, 1), which, known)))
            self._next += 1
        if late:
            router.coming = deque(sorted(router.coming, key=lambda row: (row[0], row[2].index)))

    def advance(self, until_s: float) -> Mapping[str, Finished]:
        """Let time go on; what ended meanwhile, by service."""
        found = {}
        for service, router in self._routers.items():
            router.retry(self.now_s)
            router.advance(until_s)
            self._prune(router)
            if router.done:
                done, router.done = router.done, []
                found[service] = finished(done)
                router.tally("finished", len(done))
        self.now_s = until_s
        return found

    def state(self, name: str) -> State:
        """A replica now."""
        engine = self._find(name)[1].engine
        busy_ratio, power_w = engine.used(self.now_s)
        return State(engine.running, engine.waiting, engine.kv_ratio, busy_ratio, power_w)

    def overdue(self, service: str, longest_s: float) -> int:
        """Requests of a service that have waited for a replica for longer than that."""
        router = self._routers.get(service)
        return 0 if router is None else sum(self.now_s - one.arrival_s > longest_s for _, one in router.waiting)

    def account(self, service: str) -> Account:
        """Where a service's requests are."""
        router = self._routers.get(service)
        if router is None:
            return Account()
        replicas = router.replicas.values()
        counts = {**router.counts}
        preempted = counts.pop("preemptions", 0) + sum(one.engine.preemptions for one in replicas)
        flying = sum(one.outstanding for one in replicas) + len(router.done)
        waiting = len(router.waiting) + len(router.coming)
        return Account(**counts, in_flight=flying, waiting=waiting, preemptions=preempted)

    def _luck(self, count: int) -> Iterator[float]:
        return iter(self._chance.random(count).tolist())

    def _router(self, service: str) -> Router:
        return self._routers.setdefault(service, Router())

    def _find(self, name: str) -> tuple[Router, Replica]:
        router = self._routers[self._where[name]]
        return router, router.replicas[name]

    def _prune(self, router: Router) -> None:
        """Replicas that have ended are forgotten."""
        for name in router.gone:
            del self._where[name]
        router.gone.clear()
