"""Replicas of many services behind their routers, in simulated time.

Requests are given a kind of replica by the service's table of weights (chance, seeded), and the next replica of the
kind that is not full. Where prefill has replicas of its own, a request goes on to a decode replica once its prompt is
computed and sent. A request for which no replica is ready waits at the router; one whose replica dies begins again
elsewhere, its arrival unchanged. Nothing is lost without being counted.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.service import Bucket
from planner.simulation.engine import Engine
from planner.simulation.pace import Pace
from planner.simulation.sequence import NEVER
from planner.simulation.sequence import Sequence as Request
from planner.simulation.told import Account, Finished, State, finished

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PREFILL, DECODE = "prefill", "decode"
_LOOK_S, _LOT = 1.0, 4096
_LINE = 16  # requests that wait at an engine before routers send it no more
MOST_WAITING = 100_000  # requests at the router of a service; more are refused, as a proxy does


@dataclass
class _Replica:
    name: str
    kind: str
    service: str
    pool: str
    engine: Engine


@dataclass
class _Router:
    """One service's."""

    replicas: dict[str, _Replica] = field(default_factory=dict)
    weights: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    coming: deque[Request] = field(default_factory=deque)
    waiting: deque[Request] = field(default_factory=deque)
    turns: dict[str, int] = field(default_factory=dict)
    account: dict[str, int] = field(default_factory=dict)
    done: list[Request] = field(default_factory=list)

    def ready(self, kind: str | None = None, decode: bool = False) -> list[_Replica]:
        """Replicas that take requests, of a kind or of all; those of decode pools take none from users."""
        return [
            one
            for one in self.replicas.values()
            if not one.engine.draining and (one.pool == DECODE) == decode and (kind is None or one.kind == kind)
        ]

    def count(self, what: str, by: int = 1) -> None:
        self.account[what] = self.account.get(what, 0) + by


class _Ready:
    """The replicas that take requests of users at one moment: those of a kind in turn, but for those that are full.

    Where all of a kind are full (a line stands before them, or every place is taken), one of another kind that is not
    gets the request, as proxies do that count outstanding requests.
    """

    def __init__(self, router: _Router, replicas: Sequence[_Replica]) -> None:
        self._turns = router.turns
        self._every = list(replicas)
        self._kinds: dict[str, list[_Replica]] = {}
        for one in replicas:
            self._kinds.setdefault(one.kind, []).append(one)
        self._room = {one.name: _room(one.engine) for one in replicas}

    def pick(self, kind: str | None) -> _Replica | None:
        """A replica for one more request; None where there is none."""
        mine = self._kinds.get(kind or "", self._every)
        if not mine:
            return None
        found = self._next(mine) or (self._next(self._every) if mine is not self._every else None)
        if found is None:  # all are full
            found = mine[self._turn(mine[0].kind) % len(mine)]
        self._room[found.name] -= 1
        return found

    def _next(self, replicas: Sequence[_Replica]) -> _Replica | None:
        """The next in turn that has room."""
        for _ in replicas:
            one = replicas[self._turn(replicas[0].kind) % len(replicas)]
            if self._room[one.name] > 0:
                return one
        return None

    def _turn(self, kind: str) -> int:
        self._turns[kind] = turn = self._turns.get(kind, -1) + 1
        return turn


def _room(engine: Engine) -> int:
    """Requests that an engine takes before it is full: none while a line stands before it."""
    if engine.queued >= _LINE:
        return 0
    return engine.pace.max_sequences - engine.running - engine.waiting


class Fleet:
    """All replicas. The same calls with the same `seed` give the same answers."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = np.random.default_rng(seed)
        self._routers: dict[str, _Router] = {}
        self._where: dict[str, str] = {}  # replica -> service
        self._next = 0
        self._lots: list[float] = []
        self.now_s = 0.0

    def add(self, name: str, kind: str, service: str, pool: str, pace: Pace) -> None:
        """A replica is ready from now on."""
        engine = Engine(pace, self.now_s, prefill_only=pool == PREFILL)
        self._router(service).replicas[name] = _Replica(name, kind, service, pool, engine)
        self._where[name] = service

    def remove(self, name: str, kill: bool = False) -> None:
        """A replica takes nothing new and ends when it is empty; killed, it ends now and its requests begin again."""
        router, one = self._find(name)
        one.engine.draining = True
        if kill:
            self._collect(router, [one])
            for request in sorted(one.engine.everything(), key=lambda each: each.index):
                router.waiting.append(_anew(request))
                router.count("begun_again")
            self._forget(name)

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
        self._find(name)[1].engine.factor = factor

    def paced(self, name: str, pace: Pace) -> None:
        """A replica runs at another pace from now on, as under another power cap; its limits stay."""
        self._find(name)[1].engine.pace = pace

    def weights(self, service: str, table: Mapping[Bucket, Mapping[str, float]], buckets: Sequence[Bucket]) -> None:
        """A router's table: bucket -> kind -> share; `buckets` in the order that requests count them."""
        self._router(service).weights = {i: table[one] for i, one in enumerate(buckets) if one in table}

    def submit(self, service: str, arrival_s: Floats, input_tokens: Ints, output_tokens: Ints, bucket: Ints) -> None:
        """Requests in order of arrival, none before now nor before those of earlier calls."""
        router = self._router(service)
        rows = zip(arrival_s.tolist(), input_tokens.tolist(), output_tokens.tolist(), bucket.tolist(), strict=True)
        for at_s, inputs, outputs, which in rows:
            router.coming.append(Request(self._next, at_s, inputs, max(outputs, 1), which))
            self._next += 1
        router.count("submitted", len(arrival_s))

    def advance(self, until_s: float) -> Mapping[str, Finished]:
        """Let time go on; what ended meanwhile, by service."""
        while self.now_s < until_s:
            # Routers look at how full replicas are once in a while; with nothing to route there is nothing to look at.
            step_s = (
                _LOOK_S if any(one.coming or one.waiting for one in self._routers.values()) else until_s - self.now_s
            )
            end_s = min(self.now_s + step_s, until_s)
            for router in self._routers.values():
                self._route(router, end_s)
                self._serve(router, end_s)
            self.now_s = end_s
        found = {}
        for service, router in self._routers.items():
            done = [one for one in router.done if one.last_s <= until_s]
            router.done = [one for one in router.done if one.last_s > until_s]
            if done:
                found[service] = finished(done)
                router.count("finished", len(done))
        return found

    def _serve(self, router: _Router, until_s: float) -> None:
        for decode in (False, True):
            mine = [one for one in router.replicas.values() if (one.pool == DECODE) == decode]
            for one in mine:
                one.engine.advance(until_s)
            self._collect(router, mine)
            for one in mine:
                if one.engine.draining and one.engine.empty:
                    self._forget(one.name)

    def _route(self, router: _Router, until_s: float) -> None:
        """Give those that come, after those that wait, a replica each."""
        if not (router.coming and router.coming[0].arrival_s < until_s) and not router.waiting:
            return
        kinds = _Ready(router, router.ready())
        waiting, router.waiting = router.waiting, deque()
        for one in waiting:
            self._send(router, kinds, one, max(self.now_s, one.arrival_s))
        while router.coming and router.coming[0].arrival_s < until_s:
            one = router.coming.popleft()
            self._send(router, kinds, one, one.arrival_s)

    def state(self, name: str) -> State:
        """A replica now."""
        engine = self._find(name)[1].engine
        busy_ratio, power_w = engine.used(self.now_s)
        return State(engine.running, engine.waiting, engine.kv_ratio, busy_ratio, power_w)

    def account(self, service: str) -> Account:
        """Where a service's requests are."""
        router = self._routers.get(service)
        if router is None:
            return Account()
        engines = [one.engine for one in router.replicas.values()]
        flying = sum(one.running + one.waiting for one in engines) + len(router.done) + len(router.coming)
        preempted = sum(one.preemptions for one in engines)
        return Account(**router.account, in_flight=flying, waiting=len(router.waiting), preemptions=preempted)

    def _router(self, service: str) -> _Router:
        return self._routers.setdefault(service, _Router())

    def _find(self, name: str) -> tuple[_Router, _Replica]:
        router = self._routers[self._where[name]]
        return router, router.replicas[name]

    def _forget(self, name: str) -> None:
        router, _ = self._find(name)
        del router.replicas[name], self._where[name]

    def _send(self, router: _Router, kinds: _Ready, one: Request, at_s: float) -> None:
        """Give a request a replica, or let it wait."""
        chosen = kinds.pick(_drawn(router.weights.get(one.bucket, {}), self._luck()))
        if chosen is None:
            if len(router.waiting) >= MOST_WAITING:
                router.count("refused")
            else:
                router.waiting.append(one)
            return
        chosen.engine.offer(one, at_s)

    def _luck(self) -> float:
        """A number from 0 to 1, drawn in lots: one at a time costs more than what it decides."""
        if not self._lots:
            self._lots = self._chance.random(_LOT).tolist()
        return self._lots.pop()

    def _collect(self, router: _Router, replicas: Sequence[_Replica]) -> None:
        """Take what replicas have done; prompts that are computed go on to be decoded."""
        computed: list[Request] = []
        for one in replicas:
            done, one.engine.done = one.engine.done, []
            (computed if one.pool == PREFILL else router.done).extend(done)
        decode = _Ready(router, router.ready(decode=True) if computed else ())
        for request in sorted(computed, key=lambda each: (each.last_s, each.index)):
            if (chosen := decode.pick(None)) is None:
                router.waiting.append(_anew(request))
                router.count("begun_again")
                continue
            at_s = request.last_s
            _anew(request).ready = True
            chosen.engine.offer(request, at_s)


def _anew(one: Request) -> Request:
    """A request as it came: whatever was computed is gone."""
    one.known = one.left = one.input
    one.want, one.end, one.ready = one.output, 0, False
    one.first_s = one.last_s = NEVER
    return one


def _drawn(shares: Mapping[str, float], luck: float) -> str | None:
    """A kind by its share; None where there are none."""
    total = sum(shares.values())
    reached = 0.0
    for kind, share in shares.items():
        reached += share / total if total else 0.0
        if luck < reached:
            return kind
    return list(shares)[-1] if shares else None
