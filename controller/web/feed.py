"""Events for those who follow them: asked of the cluster at most once in a while, however many follow."""

import threading
import time
from collections.abc import Callable

from controller.web.model_events import EventRow, events
from controller.web.site import Site

_EVERY_S = 0.5


class Feed:
    """Thread-safe. `clock` is monotonic."""

    def __init__(self, site: Site, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._site, self._every_s, self._clock = site, every_s, clock
        self._rows: list[EventRow] = []
        self._at_s = float("-inf")
        self._lock = threading.Lock()

    def rows(self) -> list[EventRow]:
        """All events, the newest first, at most so old. Raises ApiError. May wait for the API server."""
        with self._lock:
            if self._clock() - self._at_s >= self._every_s:
                self._rows = events(self._site)
                self._at_s = self._clock()
            return self._rows

    def after(self, version: int) -> list[EventRow]:
        """Events written after a version, the oldest first."""
        return sorted((row for row in self.rows() if row.version > version), key=lambda row: row.version)
