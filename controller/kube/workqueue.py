"""A queue of keys to reconcile: each waits at most once and is worked on by one worker at a time.

Keys for which somebody waits go before all others that are due.
"""

import heapq
import random
import threading
import time
from collections.abc import Callable

from controller.kube.backoff import Backoff

RETRY = Backoff(first_s=0.005, most_s=1000.0)
_Due = tuple[bool, float]
"""Whether a key must wait for those that need not, and from when it may be given out. The lesser comes first."""
_NEVER: _Due = (True, float("inf"))


class WorkQueue:
    """Keys, not events. A key added while it is worked on is given out again after `done`.

    Thread-safe. `clock` is monotonic; `draw` gives [0, 1) for the jitter of `retry`.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        backoff: Backoff = RETRY,
    ) -> None:
        self._clock, self._draw, self._backoff = clock, draw, backoff
        self._changed = threading.Condition()
        self._due: dict[str, _Due] = {}  # the keys that wait
        self._heap: list[tuple[_Due, str]] = []  # in their order; those that _due does not bear out are stale
        self._busy: dict[str, bool] = {}  # and whether it was to come first
        self._again: dict[str, _Due] = {}  # added while busy
        self._failures: dict[str, int] = {}
        self._watch: object = None  # of the one worker that waits for the first key's time; the others wait for word
        self._closed = False
        self.retries_total = 0

    def add(self, key: str, delay_s: float = 0.0, first: bool = False) -> None:
        """Have `key` worked on in `delay_s`; of several times for a key the earliest counts.

        `first`: now, and before all keys that are not.
        """
        with self._changed:
            if self._closed:
                return
            due = (False, self._clock()) if first else (True, self._clock() + delay_s)
            waiting = self._again if key in self._busy else self._due
            if due < waiting.get(key, _NEVER):
                waiting[key] = due
                if waiting is self._due:
                    self._push(key, due)

    def retry(self, key: str) -> float:
        """Have `key`, which failed, worked on again after its own back-off; gives the wait."""
        with self._changed:
            self._failures[key] = self._failures.get(key, 0) + 1
            self.retries_total += 1
            wait_s = self._backoff.wait_s(self._failures[key], self._draw)
        self.add(key, wait_s)
        return wait_s

    def forget(self, key: str) -> None:
        """Let the next failure of `key` count as the first."""
        with self._changed:
            self._failures.pop(key, None)

    def get(self, timeout_s: float | None = None) -> tuple[str, float] | None:
        """The next key and how long it was overdue (s); None after `timeout_s` or once the queue is closed.

        The caller owes a `done` for it.
        """
        until_s = None if timeout_s is None else self._clock() + timeout_s
        with self._changed:
            try:
                while not self._closed:
                    now_s = self._clock()
                    self._drop_stale()
                    if self._heap and self._heap[0][0][1] <= now_s:
                        return self._take(now_s)
                    if until_s is not None and now_s >= until_s:
                        return None
                    self._wait(now_s, until_s)
                return None
            finally:
                if self._heap and self._watch is None:
                    self._changed.notify()  # who goes, with a key or without, leaves the next to another

    def done(self, key: str) -> None:
        """Say that the work on `key` ended, well or not."""
        with self._changed:
            self._busy.pop(key, None)
            again = self._again.pop(key, None)
            if again is not None and not self._closed:
                self._due[key] = again
                self._push(key, again)
            if self._closed:
                self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Give out nothing more and wait for the work begun; whether all of it ended in `timeout_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._busy, timeout_s)

    @property
    def depth(self) -> int:
        """How many keys are due and not given out; those that wait for a later time do not count."""
        with self._changed:
            now_s = self._clock()
            return sum(due_s <= now_s for _, due_s in self._due.values())

    @property
    def pressing(self) -> bool:
        """Whether a key that was to come first waits or is worked on."""
        with self._changed:
            self._drop_stale()
            return bool(self._heap and not self._heap[0][0][0]) or any(self._busy.values())

    def _take(self, now_s: float) -> tuple[str, float]:
        (later, due_s), key = heapq.heappop(self._heap)
        del self._due[key]
        self._busy[key] = not later
        return key, now_s - due_s

    def _wait(self, now_s: float, until_s: float | None) -> None:
        """Wait for the first key's time, or for word where another does: crowds that wake cost more than the work."""
        ends, mine = [] if until_s is None else [until_s], object()
        if self._heap and self._watch is None:
            ends.append(self._heap[0][0][1])
            self._watch = mine
        self._changed.wait(min(ends) - now_s if ends else None)
        if self._watch is mine:
            self._watch = None

    def _push(self, key: str, due: _Due) -> None:
        heapq.heappush(self._heap, (due, key))
        if self._heap[0] == (due, key):
            self._watch = None  # its time is not that of the first any more: whoever wakes waits for this one
            self._changed.notify()

    def _drop_stale(self) -> None:
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
