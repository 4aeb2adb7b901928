"""Long work for those who ask, one piece after the other: each waits for as long as it may, behind others included.

What is begun when its time is over goes on, so that a process that starts for it on a busy machine is there for the
next; only nobody waits for it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Busy(Exception):
    """More questions wait than may."""


class Late(Exception):
    """The time did not suffice."""


class OneByOne:
    """Thread-safe. At most `most` questions are asked at once; each may be several pieces of work."""

    def __init__(self, most: int, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asking = threading.BoundedSemaphore(most)
        self._worker = ThreadPoolExecutor(1, name)

    @contextmanager
    def question(self) -> Iterator[float]:
        """One question; gives when it began. Raises Busy."""
        if not self._asking.acquire(blocking=False):
            raise Busy
        try:
            yield self._clock()
        finally:
            self._asking.release()

    def do(self, work: Callable[[], T], end_s: float) -> T:
        """What `work` gives. Raises Late where that is not there by `end_s`, and whatever `work` raises."""
        left_s = end_s - self._clock()
        if left_s <= 0:
            raise Late
        try:
            found: Future[T] = self._worker.submit(work)
        except RuntimeError:  # it ends
            raise Late from None
        try:
            return found.result(left_s)
        except TimeoutError:
            if found.done():  # it is the work's own
                raise
            found.cancel()
            raise Late from None

    def stop(self) -> None:
        """What waits is not begun any more."""
        self._worker.shutdown(wait=False, cancel_futures=True)
