"""Answers to GET that were given a moment ago, given again to the same caller: a crowd costs little more than one.

For one event loop; not thread-safe. What is written here is seen by whoever asks after it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Scope, Send

_MOST, _MOST_BYTES = 256, 2**18


class _Row:
    """An answer, or one that is on its way; `good` where it is whole and may be given again."""

    def __init__(self, began_s: float, writes: int) -> None:
        self.began_s, self.writes = began_s, writes
        self.came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.good = False
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
    """Keeps answers for `keep_s` (0: none) from when the question came. `clock` is monotonic."""

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._rows: dict[str, _Row] = {}
        self._writes = 0

    def forget(self) -> None:
        """Something was written: what is asked from now on is answered anew."""
        self._writes += 1

    async def again(self, key: str, scope: Scope, send: Send) -> bool:
        """Answer as a moment ago, where that can be; whether it could. May wait for an answer that is on its way."""
        row = self._rows.get(key)
        if row is None or row.writes != self._writes or self._clock() - row.began_s >= self._keep_s:
            return False
        if not row.came.done():
            await asyncio.shield(row.came)
        if not row.good:
            return False
        if row.route is not None:
            scope["route"] = row.route  # requests are counted by it
        await send(dict(row.start))
        await send({"type": "http.response.body", "body": row.body})
        return True

    async def first(self, key: str, scope: Scope, send: Send, work: Callable[[Send], Awaitable[None]]) -> None:
        """Have `work` answer, and keep that where it is good and not large."""
        row = _Row(self._clock(), self._writes)
        if len(self._rows) >= _MOST:
            self._rows.clear()
        self._rows[key] = row

        async def seen(message: Message) -> None:
            row.add(message)
            await send(message)

        try:
            await work(seen)
        finally:
            row.route = scope.get("route")
            row.came.set_result(None)
            if not row.good and self._rows.get(key) is row:
                del self._rows[key]
