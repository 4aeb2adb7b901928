"""The setter's socket: lines of peers in, answers out, each with the user id that the kernel tells of its peer."""

import json
import selectors
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LONGEST_LINE, MOST_CLIENTS = 4096, 16
_PEER = struct.Struct("=iII")
Reply = Mapping[str, object]
Answer = Callable[[bytes, int, float], Reply]  # to a line of a user at a time


@dataclass(slots=True)
class _Client:
    """A peer, whose user the kernel tells."""

    socket: socket.socket
    user: int
    rest: bytes = b""


def serve(listener: socket.socket, answer: Answer, tick: Callable[[float], float], stop: Callable[[], bool]) -> None:
    """Answer until told to stop. `tick`: what is due, and when it is again; all times on the clock since boot."""
    due_s = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, None)
        while not stop():
            wait_s = min(max(due_s - _now_s(), 0.0), 0.5)
            for key, _ in selector.select(wait_s):
                if key.data is None:
                    _accept(listener, selector)
                elif not _read(key.data, answer):
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
            due_s = tick(_now_s())


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    peer, _ = listener.accept()
    if len(selector.get_map()) > MOST_CLIENTS:
        peer.close()
        return
    _, user, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    peer.settimeout(1.0)  # a peer that does not take its answer is left
    selector.register(peer, selectors.EVENT_READ, _Client(peer, user))


def _read(client: _Client, answer: Answer) -> bool:
    """Answer the whole lines that have come; False where the peer is done with."""
    try:
        chunk = client.socket.recv(LONGEST_LINE)
        *lines, client.rest = (client.rest + chunk).split(b"\n")
        for line in lines:
            reply = answer(line, client.user, _now_s())
            client.socket.sendall(json.dumps(reply).encode() + b"\n")
    except OSError:
        return False
    return bool(chunk) and len(client.rest) <= LONGEST_LINE
