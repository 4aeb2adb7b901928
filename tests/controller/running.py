"""`muster up` as people run it: a process of its own, on a free port, its state in a folder of the test's."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICES = "/api/v1/services"


@dataclass
class Up:
    """One process."""

    process: subprocess.Popen[str]
    address: str
    log: Path

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        """A call of its API; raises urllib.error.HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.address + path, data, given, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            read = answer.read()
        return json.loads(read) if read else None

    def kill(self) -> None:
        """As a machine that loses power does, to the process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)

    def end(self) -> int:
        """As Ctrl-C does, which a terminal sends to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(timeout=60)
        assert "Traceback" not in self.log.read_text(), self.log.read_text()
        return code


def start(state: Path, *words: str, log: Path | None = None) -> Up:
    """Start it, and wait until it serves."""
    out = log or state.parent / f"{state.name}.log"
    command = [sys.executable, "-m", "planner.main", "up", "--listen", "127.0.0.1:0", "--state", str(state), *words]
    stream = out.open("a")
    at = out.stat().st_size
    process = subprocess.Popen(
        command, stdout=stream, stderr=stream, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}, process_group=0
    )
    stream.close()
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        said = out.read_text()[at:]
        for line in said.splitlines():
            if line.startswith("Muster is at "):
                return Up(process, line.removeprefix("Muster is at ").strip(), out)
        if process.poll() is not None:
            raise AssertionError(f"muster up ended with {process.returncode}: {said[-2000:]}")
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"muster up does not serve: {out.read_text()[-2000:]}")


@contextmanager
def running(state: Path, *words: str) -> Iterator[Up]:
    """A process that ends with the test."""
    made = start(state, *words)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.end()


def a_body(name: str, rate: float = 4.0, **spec: Any) -> dict[str, Any]:
    """A service as a person submits it."""
    return {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "GPUService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "model": "meta-llama/Llama-3.1-8B-Instruct",
            "workload": {
                "ratePerSecond": rate,
                "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}],
            },
            "slos": [{"name": "chat", "ttft": "1s", "tpot": "60ms", "percentile": "p95"}],
            **spec,
        },
    }


def names(answer: Mapping[str, Any]) -> Sequence[str]:
    """Names of the services of a list."""
    return sorted(row["name"] for row in answer["items"])
