"""How fast the time of a simulated cluster goes in fact: a loaded machine plays it slower than asked."""

import time
from collections import deque
from collections.abc import Callable
from threading import Lock

_WINDOW_S, _APART_S, _LEAST_S = 30.0, 1.0, 5.0
_SLOWER_RATIO = 0.85  # of what is asked: what is closer is the grain of its steps
_QUICK = 5.0  # simulated seconds a second: below, steps of the simulation are too coarse to say


class Pace:
    """Looks at the clock as often as it is told to, and compares what passed there with what passed here."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._lock = monotonic, Lock()
        self._seen: deque[tuple[float, float]] = deque()

    def look(self, clock_s: float) -> float | None:
        """Seconds of the cluster in one of ours, of the last half minute; None until enough of it was seen."""
        now_s = self._monotonic()
        with self._lock:
            while self._seen and now_s - self._seen[0][0] > _WINDOW_S:
                self._seen.popleft()
            if not self._seen or now_s - self._seen[-1][0] >= _APART_S:
                self._seen.append((now_s, clock_s))
            first_s, then_s = self._seen[0]
        return (clock_s - then_s) / (now_s - first_s) if now_s - first_s >= _LEAST_S else None


def speed_words(asked: float, reached: float | None) -> str:
    """How fast it plays, and how fast it should where that is more; empty where time goes as ours."""
    if asked == 1:
        return ""
    if reached is None or asked < _QUICK or reached >= _SLOWER_RATIO * asked:
        return f"{_times(asked)}×"
    return f"plays at {_times(reached)}× of {_times(asked)}× asked"


def _times(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
