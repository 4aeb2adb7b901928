"""The end of a process that was asked and answered over pipes."""

import subprocess
from contextlib import suppress


def hang_up(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process, wait for it, and close both ends, though it may not have read all that it was sent."""
    process.kill()
    process.wait()
    for end in (process.stdin, process.stdout):
        if end is not None:
            with suppress(OSError):  # what it was not sent any more goes nowhere
                end.close()
