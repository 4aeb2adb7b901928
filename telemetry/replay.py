"""Plays a recording as the reader would send it.

python -m telemetry.replay FILE SPEED
"""

import gzip
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from telemetry.sample import Reading, Xid
from telemetry.wire import Count, Hello, Message, decode, encode


def messages(path: Path) -> Iterator[Message]:
    """Every message of a recording, plain or gzipped. Raises BadRecord at the first line that is none."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            yield decode(line)


def at_s(message: Message) -> float:
    """When a message was written."""
    match message:
        case Hello(at_s=when) | Count(at_s=when) | Reading(at_s=when) | Xid(at_s=when):
            return when


def main() -> None:
    """Send the recording at a multiple of the speed at which it was made."""
    path, speed = Path(sys.argv[1]), float(sys.argv[2])
    first_s: float | None = None
    began = time.monotonic()
    for message in messages(path):
        first_s = at_s(message) if first_s is None else first_s
        time.sleep(max((at_s(message) - first_s) / speed - (time.monotonic() - began), 0.0))
        try:
            os.write(1, encode(message))
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
