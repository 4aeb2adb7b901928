"""The agent on a fake driver of eight GPUs, as processes that are measured from outside."""

import http.client
import json
import multiprocessing
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from telemetry.settings import Settings
from tests.telemetry.agent_runner import HOST, free_port
from tests.telemetry.fake_nvml.state import FakeNvml, build

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Said(NamedTuple):
    """A change of phase that the agent logged: when its line came here, and what it says."""

    at_s: float
    detector: str
    gpu: int
    after: str
    part: str


class Watched:
    """A running agent: its pages, its log, its processes."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.said: queue.Queue[Said] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            at_s, found = time.monotonic(), json.loads(line)
            if found.get("event") != "fault":
                continue
            subject = found["subject"]
            self.said.put(Said(at_s, found["detector"], subject["gpu"], found["after"], subject["part"]))

    def scrape(self) -> tuple[str, float]:
        """The page /metrics, and the seconds that it took."""
        return fetched(self.port)

    def until_read(self, gpus: int = 8) -> float:
        """Seconds until every GPU's power is on the page."""
        began = time.monotonic()
        while time.monotonic() - began < 30:
            try:
                if self.scrape()[0].count("\nmuster_gpu_power_watts{") == gpus:
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.005)
        raise AssertionError("no metric within 30 s")

    def seconds_to(self, inject: Callable[[], None], wanted: Callable[[Said], bool], within_s: float = 60.0) -> float:
        """Seconds from an injection to the log line that it must bring."""
        self.drained()
        began = time.monotonic()
        inject()
        while True:
            said = self.said.get(timeout=within_s)
            if wanted(said):
                return said.at_s - began

    def drained(self) -> list[Said]:
        """What was said and nobody waited for."""
        found = []
        while not self.said.empty():
            found.append(self.said.get())
        return found

    def pids(self) -> list[int]:
        """The agent and everything that it started."""
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())
        return found

    def cpu_s(self) -> float:
        """CPU seconds of all of them so far."""
        return sum(sum(map(int, _stat(pid)[11:13])) for pid in self.pids()) / TICKS_PER_S

    def pss_bytes(self) -> float:
        """Memory of all of them, what they share counted once."""
        return sum(map(memory_bytes, self.pids()))

    def rss_bytes(self) -> float:
        """The same with what they share counted for each: it does not change with who else runs Python here."""
        return sum(memory_bytes(pid, "Rss") for pid in self.pids())


@contextmanager
def agent(nvml: FakeNvml, library: Path, **settings: object) -> Iterator[Watched]:
    """An agent that runs for the block."""
    port = free_port()
    given = Settings(node="node-1", host=HOST, port=port, **settings)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "telemetry.serve", given.dumped()]
    process = subprocess.Popen(command, env=nvml.environment(library), stdout=subprocess.PIPE)
    try:
        yield Watched(process, port)
    finally:
        nvml.state.hang = 0
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


@contextmanager
def under_load(nvml: FakeNvml) -> Iterator[None]:
    """Readings differ from one to the next, as those of GPUs at work do; errors stay where they are."""
    # A process of its own: as a thread it would stand in the way of whoever times a scrape here.
    worker = multiprocessing.get_context("fork").Process(target=_work, args=(nvml,), daemon=True)
    worker.start()
    try:
        yield
    finally:
        worker.kill()
        worker.join()


def _work(nvml: FakeNvml) -> None:
    dice = random.Random(0)
    while True:
        time.sleep(0.5)
        for index in range(nvml.state.count):
            _vary(nvml, index, dice)


def _vary(nvml: FakeNvml, index: int, dice: random.Random) -> None:
    gpu, counted = nvml.gpu(index), int(time.monotonic() * 1e6)
    gpu.utilization, gpu.memory_utilization = dice.randrange(80, 101), dice.randrange(30, 60)
    gpu.temperature, gpu.margin = dice.randrange(50, 60), dice.randrange(27, 37)
    gpu.sm_clock, gpu.memory_used = dice.randrange(1700, 1980), dice.randrange(100 << 30, 120 << 30)
    gpu.memory_free, gpu.reasons = gpu.memory_total - gpu.memory_used, dice.choice((0, 4))
    gpu.gpm[:] = [dice.uniform(40.0, 90.0) for _ in range(4)]
    nvml.set_field(index, 82, dice.randrange(60, 70))
    for field in (185, 186):  # power, mean and instant
        nvml.set_field(index, field, dice.randrange(450_000, 650_000))
    for field in (83, 74, 197, 198, 138, 139):  # energy, capped time, PCIe and NVLink traffic
        nvml.set_field(index, field, counted + field)


@contextmanager
def fake() -> Iterator[tuple[FakeNvml, Path, Path]]:
    """A fake node, its library, and a folder for what the agent keeps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nvml, library = FakeNvml(folder), build(folder)
        # What is timed afterwards finds its bytecode, as that of an installed package.
        command = [sys.executable, "-c", "import telemetry.serve, telemetry.reader"]
        subprocess.run(command, env=nvml.environment(library), check=True)
        yield nvml, library, folder


def fetched(port: int) -> tuple[str, float]:
    """A page and the seconds that it took, on a connection of its own as Prometheus' first scrape."""
    began = time.perf_counter()
    asked = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        asked.request("GET", "/metrics")
        page = asked.getresponse().read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from None
    finally:
        asked.close()
    return page.decode(), time.perf_counter() - began


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()


def memory_bytes(pid: int, kind: str = "Pss") -> float:
    """Memory of a process, of a kind that proc(5) knows."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return 1024.0 * int(line.split()[1])
    raise AssertionError(f"no {kind} of {pid}")
