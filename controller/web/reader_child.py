"""Reads large bodies in a process of its own: Python reads YAML slowly, and would keep everyone else waiting meanwhile.

One body is read at a time; the process is started when it is needed, and anew after it took too long.
"""

import os
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import Any

import orjson

from controller.web.problems import FieldError, Refused

_LONGEST_S = 10.0
_NICE = 5  # whoever is served comes first


class ReaderChild:
    """The process. `read` is for one thread at a time."""

    def __init__(self, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = longest_s
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, data: bytes, kind: str) -> dict[str, Any]:
        """The object in a body; raises Refused."""
        process = self._started()
        timer = threading.Timer(self._longest_s, process.kill)
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"%s %d\n" % (kind.encode(), len(data)) + data)
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if not line:
            self.stop()
            raise Refused(422, "invalid", f"the body: cannot be read in {self._longest_s:g} s, allowed: a smaller one")
        answer = orjson.loads(line)
        if (refused := answer.get("refused")) is not None:
            errors = tuple(FieldError(**one) for one in refused["errors"])
            raise Refused(refused["status"], refused["kind"], refused["detail"], errors)
        found: dict[str, Any] = answer["plain"]
        return found

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for end in (process.stdin, process.stdout):
                if end is not None:
                    end.close()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.stop()
            command = [sys.executable, "-m", "controller.web.reader_child"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process


def answer(data: bytes, kind: str) -> bytes:
    """What to say to one body."""
    from controller.web.documents import read

    try:
        return orjson.dumps({"plain": read(data, kind).plain})
    except Refused as refused:
        said = {"status": refused.status, "kind": refused.kind, "detail": refused.detail}
        return orjson.dumps({"refused": {**said, "errors": [asdict(one) for one in refused.errors]}})


def main() -> None:
    """Answer until standard input ends."""
    os.nice(_NICE)
    while head := sys.stdin.buffer.readline():
        kind, _, size = head.decode().strip().rpartition(" ")
        sys.stdout.buffer.write(answer(sys.stdin.buffer.read(int(size)), kind) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
