"""Runs the real agent on a fake driver and asks its pages."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetry.settings import Settings
from tests.telemetry.fake_nvml.state import FakeNvml

HOST = "127.0.0.1"
LONGEST_WAIT_S = 30.0


class Running:
    """An agent that runs; `get` asks it for a page."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def get(self, page: str = "/metrics", **headers: str) -> str:
        """The text of a page, whatever its status."""
        asked = urllib.request.Request(f"http://{HOST}:{self.port}{page}", headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as refused:
            return f"{refused.code} {refused.read().decode()}"

    def values(self, name: str) -> dict[str, float]:
        """Every series of a metric: labels -> value."""
        found = {}
        for line in self.get().splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name:
                found[head.partition("{")[2].rstrip("}")] = float(value)
        return found

    def wait_for(self, told: Callable[["Running"], bool], within_s: float = LONGEST_WAIT_S) -> float:
        """Seconds until something holds; fails when it takes too long."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            try:
                if told(self):
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.01)
        raise AssertionError(f"not within {within_s} s")


@contextmanager
def running(nvml: FakeNvml, library: Path, port: int, **settings: object) -> Iterator[Running]:
    """The agent on a fake driver, ended afterwards."""
    given = Settings(node="node-1", host=HOST, port=port, **settings)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "telemetry.serve", given.dumped()]
    process = subprocess.Popen(command, env=nvml.environment(library))
    try:
        yield Running(process, port)
    finally:
        nvml.state.hang = 0
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])
