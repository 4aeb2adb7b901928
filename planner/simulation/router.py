"""One service's router and its replicas: every request goes to a replica as the replicas are when it comes.

A kind of replica is drawn by the table's shares; of the kind, the least full replica takes the request, or, where it is
full (every place is taken, or a line stands before it), one of another kind that is not: so proxies that count
outstanding requests do.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import count

from planner.simulation.engine import Engine
from planner.simulation.sequence import NEVER
from planner.simulation.sequence import Sequence as Request

PREFILL, DECODE = "prefill", "decode"
MOST_WAITING = 100_000  # requests at the router of a service; more are refused, as a proxy does
_LINE = 16  # requests that wait at an engine before its router sends it no more
_SPARE_ROWS = 64


class Replica:
    """A replica behind a router. `outstanding`: requests that it was given and that have not ended."""

    __slots__ = ("due_s", "engine", "kind", "least", "name", "number", "outstanding", "places", "pool", "turn")

    def __init__(self, name: str, kind: str, pool: str, engine: Engine) -> None:
        self.name, self.kind, self.pool, self.engine = name, kind, pool, engine
        self.least = Least()  # among which it is found
        self.number = 0  # in the order in which the router got its replicas
        self.places = engine.pace.max_sequences
        self.outstanding = self.turn = 0
        self.due_s = NEVER

    @property
    def full_ratio(self) -> float:
        """Outstanding requests over places."""
        return self.outstanding / self.places


class Least:
    """Replicas of a kind that take requests, the least full first; of equal ones the one that waited longest."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, int, Replica]] = []  # also rows that no longer hold: their turn has passed
        self._members: dict[str, Replica] = {}

    def put(self, one: Replica, turn: int) -> None:
        """A replica has become fuller or emptier, or is new."""
        one.turn = turn
        self._members[one.name] = one
        heappush(self._rows, (one.outstanding / one.places, turn, one))
        if len(self._rows) > 4 * len(self._members) + _SPARE_ROWS:
            self._rows = [row for row in self._rows if row[1] == row[2].turn]
            heapify(self._rows)

    def drop(self, one: Replica) -> None:
        """A replica takes no more requests."""
        self._members.pop(one.name, None)
        one.turn = -1

    def first(self, tokens: int = 0) -> Replica | None:
        """The least full replica whose memory ever holds so many tokens; None where there is none."""
        rows = self._rows
        while rows and rows[0][1] != rows[0][2].turn:
            heappop(rows)
        if not rows or rows[0][2].engine.pace.holds(tokens):
            return rows[0][2] if rows else None
        able = [one for one in self._members.values() if one.engine.pace.holds(tokens)]
        return min(able, key=lambda one: (one.full_ratio, one.turn), default=None)


class Router:
    """One service's. `coming`: requests that have a time, and the chance that decides where they go."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self.weights: Mapping[int, Mapping[str, float]] = {}
        self.coming: deque[tuple[float, float, Request]] = deque()
        self.waiting: deque[tuple[float, Request]] = deque()
        self.counts: dict[str, int] = {}
        self.done: list[Request] = []
        self.gone: list[str] = []  # replicas that have ended
        self._ready: dict[str, Least] = {}  # by kind
        self._decode = Least()
        self._events: list[tuple[float, int, Replica]] = []
        self._number = count(1)
        self._added = 0

    def tally(self, what: str, by: int = 1) -> None:
        """So many more requests of which this is true."""
        self.counts[what] = self.counts.get(what, 0) + by

    def add(self, one: Replica) -> None:
        """A replica takes requests from now on."""
        one.number, self._added = self._added, self._added + 1
        one.least = self._decode if one.pool == DECODE else self._ready.setdefault(one.kind, one.least)
        self.replicas[one.name] = one
        one.least.put(one, next(self._number))

    def drain(self, one: Replica) -> None:
        """A replica takes no more requests."""
        one.engine.draining = True
        one.least.drop(one)

    def forget(self, one: Replica) -> None:
        """A replica is gone."""
        one.least.drop(one)
        one.due_s = -1.0
        self.tally("preemptions", one.engine.preemptions)
        self.gone.append(one.name)
        del self.replicas[one.name]

    def begin_again(self, requests: Iterable[Request], now_s: float, luck: Iterable[float]) -> None:
        """Requests whose replica died."""
        for one, chance in zip(requests, luck, strict=False):
            one.anew()
            self.tally("begun_again")
            self.send(one, now_s, chance)

    def advance(self, until_s: float) -> None:
        """Let time go on: requests come and are given to replicas, prompts go on to decode replicas."""
        coming = self.coming
        while coming and coming[0][0] <= until_s:
            at_s, luck, one = coming.popleft()
            self._run(at_s)
            self.send(one, at_s, luck)
        self._run(until_s)
        for replica in list(self.replicas.values()):
            replica.engine.advance(until_s)
            self._after(replica)

    def retry(self, now_s: float) -> None:
        """Requests that wait at the router go to replicas that are ready now."""
        if self.waiting and any(one.first() for one in self._ready.values()):
            waiting, self.waiting = self.waiting, deque()
            for luck, one in waiting:
                self.send(one, max(now_s, one.arrival_s), luck)

    def send(self, one: Request, at_s: float, luck: float) -> None:
        """Give a request a replica, or let it wait, or refuse it where no replica could ever hold it."""
        chosen = self._pick(_drawn(self.weights.get(one.bucket), luck), one, at_s)
        if chosen is not None:
            self._give(chosen, one, at_s)
        elif any(least.first() for least in self._ready.values()) or len(self.waiting) >= MOST_WAITING:
            self.tally("refused")
        else:
            self.waiting.append((luck, one))

    def look(self, replica: Replica) -> None:
        """Something about a replica changed: its next event is another."""
        due_s = replica.engine.next_s()
        if due_s != replica.due_s:
            replica.due_s = due_s
            if due_s < NEVER:
                heappush(self._events, (due_s, next(self._number), replica))

    def _run(self, until_s: float) -> None:
        events = self._events
        while events and events[0][0] <= until_s:
            due_s, _, replica = heappop(events)
            if due_s == replica.due_s:
                replica.due_s = -1.0
                replica.engine.advance(due_s)
                self._after(replica)

    def _after(self, replica: Replica) -> None:
        """Take what a replica has done."""
        engine = replica.engine
        if done := engine.done:
            engine.done = []
            replica.outstanding -= len(done)
            if not engine.draining:
                replica.least.put(replica, next(self._number))
            if replica.pool == PREFILL:
                for one in done:
                    self._hand_over(one)
            else:
                self.done.extend(done)
        if engine.draining and engine.empty:
            self.forget(replica)
        else:
            self.look(replica)

    def _hand_over(self, one: Request) -> None:
        """A prompt is computed and sent: it goes on to be decoded."""
        at_s = one.last_s
        chosen = self._decode.first(one.input + one.output)
        one.anew()
        if chosen is not None:
            one.ready = True
            self._give(chosen, one, at_s)
        elif self._decode.first() is not None:
            self.tally("refused")
        else:
            self.tally("begun_again")
            self.waiting.append((0.5, one))

    def _give(self, replica: Replica, one: Request, at_s: float) -> None:
        one.replica = replica.number
        replica.engine.offer(one, at_s)
        replica.outstanding += 1
        replica.least.put(replica, next(self._number))
        self.look(replica)

    def _pick(self, kind: str | None, one: Request, at_s: float) -> Replica | None:
        tokens = one.input + one.output
        least = self._ready.get(kind) if kind is not None else None
        first = None if least is None else least.first(tokens)
        if first is not None and not self._full(first, at_s):
            return first
        others = [other for least in self._ready.values() if (other := least.first(tokens)) is not None]
        others.sort(key=lambda other: (other.full_ratio, other.turn))
        if first is None:
            return others[0] if others else None
        return next((other for other in others if not self._full(other, at_s)), first)

    def _full(self, one: Replica, at_s: float) -> bool:
        """Whether every place of a replica is taken, or a line stands before it."""
        if one.engine.waiting >= _LINE:  # some may have a place by now
            one.engine.advance(at_s)
            self._after(one)
        return one.outstanding >= one.places or one.engine.waiting >= _LINE


def _drawn(shares: Mapping[str, float] | None, luck: float) -> str | None:
    """A kind by its share; None where there are none."""
    if not shares:
        return None
    if len(shares) == 1:
        return next(iter(shares))
    total = sum(shares.values())
    reached = 0.0
    for kind, share in shares.items():
        reached += share / total if total else 0.0
        if luck < reached:
            return kind
    return list(shares)[-1]
