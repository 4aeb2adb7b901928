"""Views that many look at, made once for all who look at the same moment."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

_MOST = 1000
T = TypeVar("T")


class Glance:
    """Keeps views until a moment is over, or something is written here.

    Thread-safe; of several who ask for the same view at once, one makes it and the others wait. `clock` is monotonic.
    """

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}
        self._writes = 0

    def of(self, name: str, make: Callable[[], T]) -> T:
        """A view by name, as `make` makes it."""
        with self._lock:
            if len(self._rows) > _MOST:
                self._rows.clear()
            row = self._rows.setdefault(name, _Row())
        with row.lock:
            writes, now_s = self._writes, self._clock()
            if row.writes != writes or now_s - row.made_s >= self._keep_s:
                row.view, row.writes, row.made_s = make(), writes, now_s
            return cast(T, row.view)

    def forget(self) -> None:
        """Something was written: what is looked at from now on shows it."""
        with self._lock:
            self._writes += 1


class _Row:
    """One view."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.view: Any = None
        self.writes = -1
        self.made_s = float("-inf")
