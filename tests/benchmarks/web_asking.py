"""Clients for `web_clients.py`, a process of their own: each asks once a second; prints what they saw, as JSON.

An answer came when the kernel says so, not when this process was let in to read it, and a question that was sent late
began when it was sent, unless the client still waited for its last answer. So no delay of ours counts as the server's.
"""

import heapq
import json
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.controller.web.cluster import a_spec

_STAMP = 35  # SO_TIMESTAMPNS, which the socket module does not name
_EVERY_S, _PATIENCE_S = 1.0, 30.0
_WRITES = 97  # one in so many questions writes
READS = (
    "/services", "/services/default/assistant", "/services/default/assistant/view", "/plans/default/assistant",
    "/nodes", "/gpus",
    "/overview", "/events?limit=50", "/powerdomains", "/series?metric=rate_per_s&subject=default/assistant",
)  # fmt: skip


def question(token: str, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Client:
    """One connection that stays open. Times are Unix seconds."""

    wire: socket.socket
    turn: int
    due_s: float
    began_s: float = 0.0
    came_s: float = 0.0
    read: bytearray = field(default_factory=bytearray)
    waits: bool = False


@dataclass
class Seen:
    """What came of it; the last two are delays of this process."""

    waits_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    by_second_s: dict[int, float] = field(default_factory=dict)
    sent_late_s: list[float] = field(default_factory=list)
    read_late_s: list[float] = field(default_factory=list)


def main(port: int, tokens: list[str], seconds: float) -> None:
    """Ask, each with a token of its own, and print what was seen."""
    count = len(tokens)
    asks = [[question(token, "GET", path) for path in READS] for token in tokens]
    again = json.dumps(a_spec("again")).encode()
    writes = [question(token, "POST", "/services", again) for token in tokens]
    picked, seen = selectors.DefaultSelector(), Seen()
    start_s = time.time() + 0.2
    line: list[tuple[float, int]] = []
    clients = [Client(_wire(port), index, start_s + index / count * _EVERY_S) for index in range(count)]
    for index, one in enumerate(clients):
        picked.register(one.wire, selectors.EVENT_READ, index)
        heapq.heappush(line, (one.due_s, index))
    end_s = start_s + seconds
    while line or any(one.waits for one in clients):
        now_s = time.time()
        if now_s > end_s + _PATIENCE_S:
            break
        while line and line[0][0] <= now_s:
            which = heapq.heappop(line)[1]
            one = clients[which]
            _send(one, writes[which] if one.turn % _WRITES == 0 else asks[which][one.turn % len(READS)], seen)
        wait_s = max(line[0][0] - time.time(), 0.0) if line else 0.1
        for key, _ in picked.select(min(wait_s, 0.1)):
            one = clients[key.data]
            came_s = _receive(one, seen)
            if came_s is None:
                continue
            one.turn, one.due_s, one.came_s = one.turn + 1, one.due_s + _EVERY_S, came_s
            if one.due_s < end_s:
                heapq.heappush(line, (one.due_s, key.data))
    late = sum(one.waits for one in clients)
    seen.statuses[0] += late
    seen.waits_s += [_PATIENCE_S] * late
    seen.slowest = sorted(seen.slowest, reverse=True)[:20]
    print(json.dumps(vars(seen)))


def _wire(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 10.0)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, _STAMP, 1)
    made.setblocking(False)
    return made


def _send(one: Client, data: bytes, seen: Seen) -> None:
    now_s = time.time()
    if one.came_s >= one.due_s:  # the server kept it from asking in time
        one.began_s = one.due_s
    else:
        one.began_s = now_s
        seen.sent_late_s.append(now_s - one.due_s)
    one.waits = True
    one.wire.send(data)


def _receive(one: Client, seen: Seen) -> float | None:
    """When the answer was there, or None where it is not yet there whole."""
    data, notes, _, _ = one.wire.recvmsg(1 << 20, 256)
    if not data:
        raise ConnectionError("the server closed a connection")
    read_s = time.time()
    came_s = next((_seconds(row) for _, kind, row in notes if kind == _STAMP), read_s)
    one.read += data
    head, found, body = one.read.partition(b"\r\n\r\n")
    if not found:
        return None
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    if len(body) < length:
        return None
    wait_s = came_s - one.began_s
    path = "write" if one.turn % _WRITES == 0 else READS[one.turn % len(READS)]
    seen.waits_s.append(wait_s)
    seen.slowest.append((wait_s, path))
    second = int(one.began_s)
    seen.by_second_s[second] = max(seen.by_second_s.get(second, 0.0), wait_s)
    seen.read_late_s.append(read_s - came_s)
    seen.statuses[int(head.split(None, 2)[1])] += 1
    one.read.clear()
    one.waits = False
    return came_s


def _seconds(stamp: bytes) -> float:
    whole, nanos = struct.unpack("qq", stamp[:16])
    return float(whole + nanos / 1e9)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin.read().split(), float(sys.argv[2]))
