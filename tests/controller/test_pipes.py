"""Hanging up on a process that did not read what it was sent."""

import subprocess
import sys

from controller.pipes import hang_up


def test_a_process_that_ended_before_it_read_all_is_hung_up_on_without_an_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.wait()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"half of a question")  # kept in the buffer, and sent at the latest when it is closed
    hang_up(process)
    assert process.stdin.closed
    assert process.stdout.closed
