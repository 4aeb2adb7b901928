"""Four verdicts on a job's communication, from when each rank began and ended each collective.

C4D (Dong et al., "Enhancing Large-Scale AI Training Efficiency: The C4 Solution for Real-Time Anomaly Detection and
Communication Optimization", arXiv 2406.04594): collectives are equal on all ranks, so that whoever differs is at
fault. For the operations of a communicator, S = ranks that began one, F = ranks that ended it.

- communication hang: all began, not all ended, and nothing moved for a while. At fault: those that did not end.
- other hang: not all began, and nothing moved. At fault: those that never came (they compute, load, or are dead).
- communication slow: seconds a byte, rank to rank. A hot cell is a connection, a row its sender, a column its receiver.
- other slow: who waits least, as others wait for it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

Verdict = Literal["communication_hang", "other_hang", "communication_slow", "other_slow"]
HANG_S = 20.0  # tens of seconds in place of the ten minutes of NCCL's watchdog
SLOW_RATIO = 1.5  # of the median cell, row or column
LATE_RATIO, LATE_S = 0.10, 1e-3  # of the time between operations; and never below a millisecond
MOST_OPERATIONS = 64  # of one communicator: older ones are over
MOST_COMMUNICATORS, MOST_KEPT = 256, 100_000  # of all jobs; records of all of them: some 40 MB
LEAST_OPERATIONS = 5  # before anybody is called slow


@dataclass(frozen=True, slots=True)
class Operation:
    """One rank's part in one collective, or one message to a `peer`; `end_s` None = not ended yet. Unix times."""

    job: str
    comm: str
    sequence: int
    kind: str
    rank: int
    start_s: float
    end_s: float | None = None
    bytes: float = 0.0
    peer: int | None = None
    node: str = ""
    gpu: int = -1


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict on a communicator. `ranks`: at fault; `link`: sender and receiver where it is one connection."""

    verdict: Verdict
    job: str
    comm: str
    ranks: tuple[int, ...]
    value: float
    words: str
    link: tuple[int, int] | None = None


class Communicator:
    """The last operations of one communicator of `size` ranks."""

    def __init__(self, job: str, comm: str, size: int) -> None:
        self.job, self.comm, self.size = job, comm, size
        self.moved_s = -1e18
        self.kept = 0  # records
        self._operations: dict[int, dict[int, Operation]] = {}
        self._messages: dict[tuple[int, int], list[float]] = defaultdict(list)

    def note(self, operation: Operation) -> None:
        """One more record; a later one of the same rank and operation takes its place."""
        self.moved_s = max(self.moved_s, operation.start_s, operation.end_s or operation.start_s)
        if operation.peer is not None:
            if operation.end_s is not None and operation.bytes > 0:
                cell = self._messages[operation.rank, operation.peer]
                cell.append((operation.end_s - operation.start_s) / operation.bytes)
                self.kept += 1 - len(cell[:-MOST_OPERATIONS])
                del cell[:-MOST_OPERATIONS]
            return
        ranks = self._operations.setdefault(operation.sequence, {})
        self.kept += operation.rank not in ranks
        ranks[operation.rank] = operation
        for old in sorted(self._operations)[:-MOST_OPERATIONS]:
            self.kept -= len(self._operations.pop(old))

    def findings(self, now_s: float) -> list[Finding]:
        """What is wrong now."""
        hang = self._hang(now_s)
        return hang or [*self._slow_links(), *self._late()]

    def _hang(self, now_s: float) -> list[Finding]:
        """Of the oldest operation that is not over."""
        silent_s = now_s - self.moved_s
        if silent_s < HANG_S:
            return []
        for sequence, ranks in sorted(self._operations.items()):
            absent = tuple(sorted(set(range(self.size)) - set(ranks)))
            unended = tuple(sorted(rank for rank, one in ranks.items() if one.end_s is None))
            kind = next(iter(ranks.values())).kind
            what = f"{kind} {sequence} of {self.comm} has not moved for {silent_s:.0f} s"
            if absent:
                words = f"{what}: ranks {_few(absent)} never began it"
                return [Finding("other_hang", self.job, self.comm, absent, silent_s, words)]
            if unended:
                words = f"{what}: ranks {_few(unended)} began and did not end it"
                return [Finding("communication_hang", self.job, self.comm, unended, silent_s, words)]
        return []

    def _slow_links(self) -> list[Finding]:
        """Hot rows and columns of the delay matrix, then what single cells are left."""
        cells = {pair: median(times) for pair, times in self._messages.items() if len(times) >= LEAST_OPERATIONS}
        if len(cells) < 3:
            return []
        usual = median(cells.values())
        hot = {pair: time / usual for pair, time in cells.items() if time > SLOW_RATIO * usual}
        found = []
        senders, receivers = _all_hot(cells, hot, 0), _all_hot(cells, hot, 1)
        for rank in sorted(senders | receivers):
            side = "sends and receives" if rank in senders & receivers else "sends" if rank in senders else "receives"
            ratio = max(value for pair, value in hot.items() if rank in pair)
            words = f"rank {rank} {side} {ratio:.1f} times as slowly as usual in {self.comm}"
            found.append(Finding("communication_slow", self.job, self.comm, (rank,), ratio, words))
        for pair, ratio in sorted(hot.items()):
            if pair[0] not in senders and pair[1] not in receivers:
                words = f"rank {pair[0]} to rank {pair[1]} is {ratio:.1f} times as slow as usual in {self.comm}"
                found.append(Finding("communication_slow", self.job, self.comm, pair, ratio, words, pair))
        return found

    def _late(self) -> list[Finding]:
        """The rank that comes last and so waits least, in most of the operations that all have begun."""
        whole = [ranks for _, ranks in sorted(self._operations.items()) if len(ranks) == self.size]
        if len(whole) < LEAST_OPERATIONS or self.size < 2:
            return []
        begins = [max(one.start_s for one in ranks.values()) for ranks in whole]
        period_s = median(b - a for a, b in pairwise(begins))
        waits: dict[int, list[float]] = defaultdict(list)
        for begin, ranks in zip(begins, whole, strict=True):
            for rank, one in ranks.items():
                waits[rank].append(begin - one.start_s)
        waited = {rank: median(times) for rank, times in waits.items()}
        least = min(waited, key=lambda rank: waited[rank])
        others_s = min((time for rank, time in waited.items() if rank != least), default=0.0)
        if others_s < max(LATE_RATIO * period_s, LATE_S) or waited[least] > 0.1 * others_s:
            return []
        words = f"rank {least} comes {others_s:.3g} s after all others to every operation of {self.comm}"
        return [Finding("other_slow", self.job, self.comm, (least,), others_s, words)]


class Jobs:
    """Every communicator that is heard of."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], Communicator] = {}

    def note(self, operation: Operation, size: int) -> bool:
        """One more record of a communicator of `size` ranks; False where there are too many to keep one more."""
        key = (operation.job, operation.comm)
        found = self._all.get(key)
        if sum(one.kept for one in self._all.values()) >= MOST_KEPT:
            return False
        if found is None or found.size != size:
            if found is None and len(self._all) >= MOST_COMMUNICATORS:
                return False
            found = self._all[key] = Communicator(*key, size)
        found.note(operation)
        return True

    def forget(self, job: str) -> None:
        """The job is over."""
        self._all = {key: one for key, one in self._all.items() if key[0] != job}

    def findings(self, now_s: float) -> list[Finding]:
        """What is wrong now, in any communicator."""
        return [finding for one in self._all.values() for finding in one.findings(now_s)]


def _all_hot(cells: Mapping[tuple[int, int], float], hot: Mapping[tuple[int, int], float], side: int) -> set[int]:
    """Ranks all of whose connections on one side (0 as sender) are hot, of which there must be two."""
    every: dict[int, list[bool]] = defaultdict(list)
    for pair in cells:
        every[pair[side]].append(pair in hot)
    return {rank for rank, ones in every.items() if len(ones) > 1 and all(ones)}


def _few(ranks: Sequence[int] | Iterable[int], most: int = 8) -> str:
    listed = list(ranks)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(map(str, listed[:most])) + more
