"""What a detector sees of a GPU: the latest sample, and how its values have moved.

Of counters only changes are kept, so that a week of a healthy GPU takes no room; of gauges that are asked about over
time, the last minute.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from telemetry.sample import Gpu, Sample
from telemetry.xid_policy import Policy

GAUGE_KEPT_S = 65.0
LEAST_APART_S = 0.4  # however fast a GPU is polled, detectors see it twice a second
MOST_XIDS = 2048
MOST_CHANGES = 4096  # of one counter; older ones are forgotten first
DAY_S, WEEK_S = 86400.0, 7 * 86400.0
KEPT_S = 310.0  # of counters: five minutes are the longest that detectors ask about, but for those judged by their week
LEAST_CHANGE_S, MOST_CHANGE_S = 1.0, 60.0  # changes that are closer are one: a counter may move at each of many polls
KEPT_BY_NAME_S = {"ecc_corrected_volatile_all": WEEK_S}
BIN = 0.005  # what is usual is told to half a percent
MOST_SEEN = 100_000.0
STEPS_S, LEAST_STEPS = 300.0, 10.0


class Track:
    """One counter over time: when it changed, to what. A fall is a reset: what came before is another life."""

    __slots__ = ("_apart_s", "_changes", "_kept_s", "before", "before_s", "first_s", "last", "last_s")

    def __init__(self, at_s: float, value: float, kept_s: float = KEPT_S) -> None:
        self.first_s = self.last_s = self.before_s = at_s
        self.last = self.before = value
        self._kept_s = kept_s
        self._apart_s = min(max(kept_s / MOST_CHANGES, LEAST_CHANGE_S), MOST_CHANGE_S)
        self._changes: deque[tuple[float, float]] = deque([(at_s, value)], MOST_CHANGES)

    def note(self, at_s: float, value: float) -> None:
        """One more reading."""
        self.before, self.before_s = self.last, self.last_s
        self.last_s = at_s
        if value == self.last:
            return
        if value < self.last:
            self._changes.clear()
            self.first_s = self.before_s = at_s
            self.before = value
        self.last = value
        changes = self._changes
        if len(changes) > 1 and at_s - changes[-2][0] < self._apart_s:
            changes.pop()
        changes.append((at_s, value))
        while len(changes) > 1 and changes[1][0] < at_s - self._kept_s:
            changes.popleft()

    def rise(self, window_s: float) -> float:
        """How much it has risen in the last `window_s` seconds up to its last reading."""
        since_s, before = self.last_s - window_s, self.last
        for at_s, value in reversed(self._changes):
            before = value
            if at_s <= since_s:
                break
        return self.last - before

    def rate(self) -> float:
        """How much it rose a second between its last two readings."""
        return (self.last - self.before) / (self.last_s - self.before_s) if self.last_s > self.before_s else 0.0

    def seen_s(self) -> float:
        """For how long it has been watched in this life."""
        return self.last_s - self.first_s


class Usual:
    """What a positive value usually is: its median over all that was seen, old and new alike."""

    def __init__(self) -> None:
        self.count = 0.0
        self._bins: dict[int, float] = {}

    def note(self, value: float) -> None:
        """One more, if it is positive."""
        if value <= 0:
            return
        key = round(math.log(value) / BIN)
        self._bins[key] = self._bins.get(key, 0.0) + 1.0
        self.count += 1.0
        if self.count > MOST_SEEN:  # the past fades, and what was seen once is forgotten
            self._bins = {key: count / 2 for key, count in self._bins.items() if count >= 2.0}
            self.count = sum(self._bins.values())

    def median(self) -> float:
        """The median; 0 before anything was seen."""
        left = self.count / 2
        for key, count in sorted(self._bins.items()):
            left -= count
            if left <= 0:
                return math.exp(key * BIN)
        return 0.0


class History:
    """All that is remembered of one GPU."""

    def __init__(self) -> None:
        self.xids: deque[tuple[float, Policy]] = deque(maxlen=MOST_XIDS)  # oldest first
        self.clock, self._limit_w = Usual(), 0.0  # of the SMs under load while nothing holds them down, at this limit
        self.step_j = Usual()  # energy of a step of `job`
        self.job, self._step_noted_s = "", -math.inf
        self.shows_processes = False  # in a container the driver may list none
        self._counters: dict[tuple[str, int], Track] = {}
        self._gauges: dict[str, deque[tuple[float, float]]] = {}

    def note(self, at_s: float, counters: Mapping[str, float], link: int = -1) -> None:
        """Counters of the GPU, or of one of its links, as read at `at_s`."""
        for name, value in counters.items():
            track = self._counters.get((name, link))
            if track is None:
                self._counters[name, link] = Track(at_s, value, KEPT_BY_NAME_S.get(name, KEPT_S))
            else:
                track.note(at_s, value)

    def held_to(self, limit_w: float) -> None:
        """The power limit in force; under another one other clocks are usual, also while no event bit is set."""
        if limit_w != self._limit_w:
            self.clock, self._limit_w = Usual(), limit_w

    def worked(self, at_s: float, job: str, steps: float) -> None:
        """How many steps of a job the GPU has made; another job has another usual."""
        if job != self.job:
            self.job, self.step_j = job, Usual()
            self._counters.pop(("job_steps", -1), None)
        self.note(at_s, {"job_steps": steps})
        energy_j = self.step_energy_j()
        if energy_j is not None and at_s - self._step_noted_s >= 60.0:
            self._step_noted_s = at_s
            self.step_j.note(energy_j)

    def step_energy_j(self) -> float | None:
        """Energy of a step over the last five minutes; None where too few were made."""
        steps, energy_j = self.rise("job_steps", STEPS_S), self.rise("energy_j", STEPS_S)
        if not steps or not energy_j or steps < LEAST_STEPS or self.seen_s("job_steps") < STEPS_S:
            return None
        return energy_j / steps

    def note_gauge(self, at_s: float, name: str, value: float) -> None:
        """A gauge that detectors ask about over time."""
        kept = self._gauges.get(name)
        if kept is None:
            kept = self._gauges[name] = deque()
        if kept and 0 <= at_s - kept[-1][0] < LEAST_APART_S:
            return
        kept.append((at_s, value))
        while kept[0][0] < at_s - GAUGE_KEPT_S:
            kept.popleft()

    def rise(self, name: str, window_s: float, link: int = -1) -> float | None:
        """How much a counter rose in a window; None where it is not read."""
        track = self._counters.get((name, link))
        return None if track is None else track.rise(window_s)

    def rate(self, name: str, link: int = -1) -> float | None:
        """How much a counter rose a second between its last two readings; None where it is not read."""
        track = self._counters.get((name, link))
        return None if track is None else track.rate()

    def seen_s(self, name: str) -> float:
        """For how long a counter has been watched since its last reset."""
        track = self._counters.get((name, -1))
        return 0.0 if track is None else track.seen_s()

    def over(self, name: str, window_s: float) -> list[float]:
        """Values of a gauge in the last `window_s` seconds, oldest first."""
        kept = self._gauges.get(name)
        if not kept:
            return []
        since_s, found = kept[-1][0] - window_s, []
        for at_s, value in reversed(kept):
            if at_s < since_s:
                break
            found.append(value)
        found.reverse()
        return found

    def covers(self, name: str, window_s: float) -> bool:
        """Whether a gauge has been watched for all of a window (one reading may be missing at its start)."""
        kept = self._gauges.get(name)
        return bool(kept) and kept[-1][0] - kept[0][0] >= 0.9 * window_s  # type: ignore[index]


class Peer(NamedTuple):
    """Another GPU of the node, of the same model, that works on the same job or another."""

    sample: Sample
    history: History


class View(NamedTuple):
    """One GPU at `now_s` (Unix time). `xids`: those that came just now. `booted_s`: when the node came up.

    `peers`: asked for by detectors that compare a GPU with the others of its node.
    """

    gpu: Gpu
    now_s: float
    sample: Sample
    history: History
    xids: tuple[Policy, ...] = ()
    booted_s: float = 0.0
    peers: Callable[[], Sequence[Peer]] = tuple

    def get(self, name: str) -> float | None:
        """A value of the sample; None where the GPU does not tell it."""
        return self.sample.values.get(name)

    def links(self) -> Iterator[tuple[int, Mapping[str, float]]]:
        """Every NVLink with its values."""
        return iter(enumerate(self.sample.links))
