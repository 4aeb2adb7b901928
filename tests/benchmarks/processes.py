"""Commands as processes of their own, timed from the outside."""

import json
import os
import pty
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.common import ROOT

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended: seconds on the clock, CPU seconds of its process and of what it started."""

    code: int
    wall_s: float
    cpu_s: float
    out: str

    def json(self) -> Tree:
        """What it printed; empty where that is no JSON object."""
        try:
            answer = json.loads(self.out)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}


def timed(*command: str | Path, terminal: bool = False) -> Ended:
    """Run a command to its end; on a terminal it shows what a person sees, the progress display too."""
    before, began_s = _children_s(), time.perf_counter()
    if terminal:
        code, out = _on_terminal(command)
    else:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        code, out = done.returncode, done.stdout
    return Ended(code, time.perf_counter() - began_s, _children_s() - before, out)


def _on_terminal(command: Sequence[str | Path]) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 65536):
            printed += chunk
    except OSError:
        pass  # Linux says so when the last writer has left
    finally:
        os.close(ours)
    return child.wait(), printed.decode("utf-8", "replace")


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
