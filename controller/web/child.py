"""A process that answers a line to each question, one at a time, in a limited time; started when it is needed."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

from controller.pipes import hang_up

_NICE = 5  # whoever is served comes first


class Child:
    """Runs `python -m MODULE`, whose `main` is `serve`. Thread-safe; it is started anew after it took too long."""

    def __init__(self, module: str, longest_s: float) -> None:
        self._module, self._longest_s = module, longest_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def ask(self, data: bytes) -> bytes | None:
        """The answer to a question; None where the process ended or took too long."""
        with self._lock:
            if self._stopped:
                return None
            process = self._started()
            timer = threading.Timer(self._longest_s, process.kill)
            timer.start()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(b"%d\n" % len(data) + data)
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = b""
            finally:
                timer.cancel()
            if not line:
                self._end()
            return line or None

    def stop(self) -> None:
        """End the process for good, also in the middle of a question."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()  # whoever waits for its answer gets none
        with self._lock:
            self._end()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # Ctrl-C is for us, who end it
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            hang_up(process)


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Answer until standard input ends; an answer is one line, and nothing that a library prints comes between."""
    os.nice(_NICE)
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        while size := sys.stdin.buffer.readline():
            made = answer(sys.stdin.buffer.read(int(size))) + b"\n"
            try:
                answers.write(made)
                answers.flush()
            except BrokenPipeError:
                os._exit(0)  # who asked is dead
