"""Answers to GET that were given a moment ago, given again to the same caller: a crowd costs little more than one.

For one event loop; not thread-safe. What is written here is seen by whoever asks after it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.types import Message, Scope, Send

_MOST, _MOST_BYTES = 256, 2**18
Work = Callable[[Send], Awaitable[None]]


class _Row:
    """An answer, or one that is on its way. `much`: it waits for its turn behind those who ask for little."""

    def __init__(self, much: bool) -> None:
        self.much = much
        self.came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began_s, self.writes = float("inf"), -1
        self.good = False  # whole, and may be given again
        self.start: Message = {}
        self.body = b""
        self.route: Any = None

    def add(self, message: Message) -> None:
        """A part of the answer."""
        if message["type"] == "http.response.start":
            self.start = dict(message) if message["status"] == 200 else {}
        elif message["type"] == "http.response.body" and self.start:
            self.body += message.get("body", b"")
            if len(self.body) > _MOST_BYTES:
                self.start, self.body = {}, b""
            elif not message.get("more_body", False):
                self.good = True


class Recent:
    """Keeps answers for `keep_s` (0: none) from when work on them began. `clock` is monotonic."""

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._rows: dict[str, _Row] = {}
        self._writes = 0

    def forget(self) -> None:
        """Something was written: what is asked from now on is answered anew."""
        self._writes += 1

    async def answer(
        self, key: str, much: bool, scope: Scope, send: Send, turn: AbstractAsyncContextManager[None], work: Work
    ) -> None:
        """Answer as a moment ago, with the answer that is on its way, or have `work` answer in its `turn`."""
        row = self._rows.get(key)
        if row is not None and self._fresh(row, much):
            if not row.came.done():
                await asyncio.shield(row.came)
            if row.good:
                scope["route"] = row.route  # requests are counted by it
                await send(dict(row.start))
                await send({"type": "http.response.body", "body": row.body})
                return
        await self._first(key, _Row(much), scope, send, turn, work)

    def _fresh(self, row: _Row, much: bool) -> bool:
        if row.began_s == float("inf"):  # work on it did not begin: it will show all that was written until then
            return self._keep_s > 0 and not row.came.done() and (much or not row.much)
        return row.writes == self._writes and self._clock() - row.began_s < self._keep_s

    async def _first(
        self, key: str, row: _Row, scope: Scope, send: Send, turn: AbstractAsyncContextManager[None], work: Work
    ) -> None:
        if len(self._rows) >= _MOST:
            self._rows.clear()
        self._rows[key] = row

        async def seen(message: Message) -> None:
            row.add(message)
            await send(message)

        try:
            async with turn:
                row.began_s, row.writes = self._clock(), self._writes
                await work(seen)
        finally:
            row.route = scope.get("route")
            row.came.set_result(None)
            if not row.good and self._rows.get(key) is row:
                del self._rows[key]
