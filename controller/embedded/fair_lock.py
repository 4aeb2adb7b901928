"""A lock that goes to who waited longest. With an ordinary one a thread that lets go and takes it again, as that of the
simulated cluster does all the time, keeps everybody else out for seconds.
"""

import threading
from collections import deque
from types import TracebackType


class FairLock:
    """May be taken again by the thread that has it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._owner, self._depth = 0, 0
        self._line: deque[tuple[int, threading.Lock]] = deque()

    def mine(self) -> bool:
        """Whether the calling thread has it."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> "FairLock":
        me = threading.get_ident()
        if self._owner == me:
            self._depth += 1
            return self
        turn = threading.Lock()
        with self._guard:
            if not self._owner:
                self._owner, self._depth = me, 1
                return self
            turn.acquire()
            self._line.append((me, turn))
        try:
            turn.acquire()  # until it is handed over
        except BaseException:  # a signal's
            self._leave(me, turn)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._hand_over()

    def _leave(self, me: int, turn: threading.Lock) -> None:
        """Whoever waits gives up."""
        with self._guard:
            if (me, turn) in self._line:
                self._line.remove((me, turn))
                return
        self._hand_over()  # it came just now

    def _hand_over(self) -> None:
        with self._guard:
            if not self._line:
                self._owner = 0
                return
            self._owner, turn = self._line.popleft()
            self._depth = 1
        turn.release()
