"""Who is worked for next: a few requests at a time, callers one after the other, and of one caller the modest first.

Without it everyone stands in one line, and whoever asks most gets most. Python runs one thread at a time, so more at
once would not be answered sooner, only later all together. For one event loop; not thread-safe.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

_MUCH = 20  # where the processor is short, threads of those who ask for much would pile up before the others
_Waiting = tuple[bool, int, "asyncio.Future[None]"]


class Turns:
    """So many at once, of which one is left for those who ask for little. Who takes longer than `longest_s` goes on,
    and another begins: it may well wait for others."""

    def __init__(self, at_once: int, longest_s: float) -> None:
        self._free, self._free_much, self._longest_s = at_once, max(at_once - 1, 1), longest_s
        self._lines: dict[str, list[_Waiting]] = {}  # callers in the order of their turns
        self._number = count()

    @asynccontextmanager
    async def turn(self, caller: str, much: bool) -> AsyncIterator[None]:
        """A caller's turn. `much`: it is one of those who ask for much, and comes after those who do not."""
        await self._taken(caller, much)
        given = [False]

        def give() -> None:
            if not given[0]:
                given[0] = True
                self._give(much)

        timer = asyncio.get_running_loop().call_later(self._longest_s * (_MUCH if much else 1), give)
        try:
            yield
        finally:
            timer.cancel()
            give()

    async def _taken(self, caller: str, much: bool) -> None:
        if self._free and (self._free_much or not much):
            self._free -= 1
            self._free_much -= much
            return
        mine = asyncio.get_running_loop().create_future()
        heapq.heappush(self._lines.setdefault(caller, []), (much, next(self._number), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._give(much)  # the turn came while its owner went
            raise

    def _give(self, much: bool) -> None:
        """A turn is over, and goes to whoever is next."""
        self._free += 1
        self._free_much += much
        for caller in list(self._lines):
            line = self._lines[caller]
            while line and line[0][2].done():
                heapq.heappop(line)  # it went before its turn came
            if line and line[0][0] and not self._free_much:
                continue
            del self._lines[caller]
            if not line:
                continue
            asks_much, _, first = heapq.heappop(line)
            if line:
                self._lines[caller] = line  # behind the others
            self._free -= 1
            self._free_much -= asks_much
            first.set_result(None)
            return
