"""Plays a recording as the reader would send it.

python -m telemetry.replay FILE SPEED
"""

import gzip
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from telemetry.errors import BadRecord
from telemetry.sample import Reading, Xid
from telemetry.wire import Count, Hello, Message, decode, encode


def messages(path: Path) -> Iterator[Message]:
    """Every message of a recording, plain or gzipped. Raises BadRecord at the first line that is none."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                number += 1
                yield decode(line)
    except (OSError, EOFError, zlib.error) as error:
        raise BadRecord(f"{path}: no whole recording: {error}") from None
    except BadRecord as error:
        raise BadRecord(f"{path}: line {number} is not of a recording (`muster agent --record`): {error}") from None
    if not number:
        raise BadRecord(f"{path}: got an empty file, allowed is a recording (`muster agent --record`)")


def at_s(message: Message) -> float:
    """When a message was written."""
    match message:
        case Hello(at_s=when) | Count(at_s=when) | Reading(at_s=when) | Xid(at_s=when):
            return when


def main() -> None:
    """Play to whoever listens; exit code 2 for what is no recording."""
    try:
        play(Path(sys.argv[1]), float(sys.argv[2]))
    except BadRecord as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the agent's own standard error
        sys.exit(2)


def play(path: Path, speed: float) -> None:
    """Send the recording at a multiple of the speed at which it was made. Raises BadRecord."""
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
