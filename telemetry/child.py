"""The reader as a child that may be lost: started, listened to without waiting, given up when it falls silent.

A process that is stuck in a driver call cannot be killed until the call returns. So it is killed, forgotten, and a new
one is tried; at most `MOST_LOST` of them may be stuck at a time.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from telemetry.settings import Settings
from telemetry.wire import LONGEST_LINE

MOST_LOST = 3
# proc(5); D cannot be killed: the driver itself waits for the GPU.
PROCESS_STATES = {"D": "in an uninterruptible wait (D)", "S": "asleep (S)", "R": "running (R)", "Z": "dead (Z)"}
_CHUNK = 1 << 16


class Lines:
    """Whole lines out of a pipe that is read without waiting."""

    def __init__(self, file: int) -> None:
        self.file = file
        self._rest = b""
        os.set_blocking(file, False)

    def read(self) -> tuple[list[bytes], bool]:
        """The lines that have come, and whether the other end is gone."""
        try:
            chunk = os.read(self.file, _CHUNK)
        except BlockingIOError:
            return [], False
        *whole, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_LINE else b""
        return whole, not chunk


def command(settings: Settings, offset_s: float, events: int) -> list[str]:
    """How the reader of these settings is started: NVML, or a recording in its place."""
    python = [sys.executable, "-m"]
    if settings.replay:
        return [*python, "telemetry.replay", settings.replay, str(settings.replay_speed)]
    periods = (settings.hot_s, settings.warm_s, settings.cold_s, offset_s)
    return [*python, "telemetry.reader", *map(str, periods), str(events)]


class Child:
    """One reader process, its lines and its events."""

    def __init__(self, settings: Settings, offset_s: float) -> None:
        read_end, write_end = os.pipe()
        arguments = command(settings, offset_s, write_end)
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=(write_end,), start_new_session=True
        )
        os.close(write_end)
        assert self._process.stdout is not None
        self.pipes = (Lines(self._process.stdout.fileno()), Lines(read_end))

    @property
    def pid(self) -> int:
        """Process id of the reader, which leads a group with the process that waits for events."""
        return self._process.pid

    def ended(self) -> int | None:
        """Exit code once it has ended."""
        return self._process.poll()

    def code(self) -> int:
        """Exit code of one that has closed its pipes and so is about to end."""
        return self._process.wait()

    def give_up(self) -> None:
        """Kill the reader and its fork, and listen no more; it may take the driver's time to be gone."""
        for pipe in self.pipes:
            os.close(pipe.file)
        self._process.stdout = None  # closed above
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def still_there(lost: Sequence[Child]) -> list[Child]:
    """Those of the children given up that have not ended yet."""
    return [child for child in lost if child.ended() is None]


def where_stuck(pid: int, proc: Path = Path("/proc")) -> str:
    """Where a process hangs, as the kernel tells it; empty where it does not say. Never waits."""
    try:
        state = (proc / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
        where = (proc / str(pid) / "wchan").read_text("utf-8", "replace").strip()
    except (OSError, IndexError):
        return ""
    called = f" in {where}" if where not in ("", "0") else ""
    return f"its reader is {PROCESS_STATES.get(state, f'in state {state}')}{called}"
