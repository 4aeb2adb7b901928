"""What the agent opens at its start because it was told to: each in words where it cannot be."""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from telemetry import disk
from telemetry.errors import CannotStart
from telemetry.wire import Message, encode, scrubbed

Record = Callable[[Message], None]


@contextlib.contextmanager
def starting(option: str, got: str) -> Iterator[None]:
    """Words for what an option names and cannot be used. Raises CannotStart."""
    try:
        yield
    except OSError as error:
        raise CannotStart(f"{option}: {got}: {error.strerror or error}") from None


@contextlib.contextmanager
def recording(path: str) -> Iterator[Record]:
    if not path:
        yield lambda message: None
        return
    with starting("--record", path):
        file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed below
    with file:
        yes = [True]

        def record(message: Message) -> None:
            try:
                if yes:
                    file.write(encode(scrubbed(message)))
            except OSError as error:  # a full disk ends the recording, not the watch
                yes.clear()
                print(json.dumps({"event": "record", "why": f"{path}: {error.strerror}"}), flush=True)  # noqa: T201

        yield record


def job_socket(path: str) -> socket.socket | None:
    """Where jobs tell of their steps; anybody on the node may."""
    if not path:
        return None
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with starting("--jobs", path):
        disk.make_way(Path(path))
        found.bind(path)
        os.chmod(path, 0o666)
    found.setblocking(False)
    return found
