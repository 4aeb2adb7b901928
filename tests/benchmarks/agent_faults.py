"""Faults injected into the fake driver: seconds from the injection to the agent's word, again and again."""

import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from telemetry.client import Reporter
from telemetry.fault import FATAL
from telemetry.xid_policy import catalogue
from tests.benchmarks.agent_process import Said, Watched, agent, fake
from tests.benchmarks.common import bar
from tests.telemetry.fake_nvml.state import LOST, FakeNvml

DOUBLE_BIT_EVENT = 0x2
HARD_S = 1.5


def all_bars(quick: bool) -> list[bool]:
    """Every bar of detection."""
    return [xids(quick), *hard_faults(quick), *counter_faults(quick), *hang(quick), job_hang()]


def told(detectors: str | tuple[str, ...], gpu: int, after: tuple[str, ...] = ("confirmed",)) -> Callable[[Said], bool]:
    """Whether a line is the one that is waited for."""
    names = (detectors,) if isinstance(detectors, str) else detectors
    return lambda said: said.detector in names and said.gpu == gpu and said.after in after


def worst(times_s: list[float]) -> float:
    """The 99th percentile; of fewer than a hundred times the longest."""
    return sorted(times_s)[min(int(0.99 * len(times_s)), len(times_s) - 1)]


def words(times_s: list[float], unit: float = 1.0, name: str = "s") -> str:
    """Median and p99 of times."""
    middle = sorted(times_s)[len(times_s) // 2]
    return f"median {middle * unit:.3g}, p99 {worst(times_s) * unit:.3g} {name} of {len(times_s)}"


def xids(quick: bool) -> bool:
    """Every fatal code on every GPU."""
    codes = [one.xid for one in catalogue().values() if one.meaning in FATAL]
    pairs = [(gpu, code) for code in codes[: 3 if quick else None] for gpu in range(8)]
    random.Random(0).shuffle(pairs)
    with fake() as (nvml, library, folder), agent(nvml, library, state=str(folder), kmsg="") as one:
        one.until_read()
        time.sleep(1.2)  # the process that waits for events starts beside the one that reads
        times_s = []
        for gpu, code in pairs:
            fits = told(("xid_fatal", "xid_fatal_node"), gpu)
            times_s.append(one.seconds_to(lambda g=gpu, c=code: nvml.push_xid(g, c), fits))  # type: ignore[misc]
            time.sleep(random.random() * 0.05)
    return bar("Xid to state, p99 <= 50 ms", worst(times_s) <= 0.05, words(times_s, 1e3, "ms"))


def hard_faults(quick: bool) -> list[bool]:
    """A double-bit error, a failed remap, a lost GPU: one after another on every GPU."""
    found: dict[str, list[float]] = {
        name: [] for name in ("double-bit error", "double-bit error without event", "remap failure", "lost GPU")
    }
    for _ in range(1 if quick else 4):
        with fake() as (nvml, library, folder), agent(nvml, library, state=str(folder), kmsg="") as one:
            one.until_read()
            time.sleep(1.2)
            for gpu in range(3 if quick else 8):
                for name, inject, detector in _hard(nvml, gpu):
                    time.sleep(random.random())
                    found[name].append(one.seconds_to(inject, told(detector, gpu)))
    return [
        bar(f"{name} to confirmed, p99 <= {HARD_S} s", worst(times_s) <= HARD_S, words(times_s))
        for name, times_s in found.items()
    ]


def _hard(nvml: FakeNvml, gpu: int) -> list[tuple[str, Callable[[], None], str]]:
    def double_bit() -> None:
        nvml.set_field(gpu, 4, 1)
        nvml.push_event(gpu, DOUBLE_BIT_EVENT, 0)

    def lost() -> None:
        nvml.gpu(gpu).error = LOST

    return [
        ("double-bit error", double_bit, "ecc_uncorrected")
        if gpu % 2
        else ("double-bit error without event", lambda: nvml.set_field(gpu, 4, 1), "ecc_uncorrected"),
        ("remap failure", lambda: nvml.set_field(gpu, 145, 1), "row_remap_failed"),
        ("lost GPU", lost, "gpu_lost"),
    ]


def counter_faults(quick: bool) -> list[bool]:
    """Links and PCIe, whose counters are read every five seconds."""
    seen = ("suspect", "confirmed")
    found: dict[str, list[float]] = {"NVLink CRC errors": [], "NVLink down": [], "PCIe replays (suspect)": []}
    for _ in range(1 if quick else 2):
        with fake() as (nvml, library, folder), agent(nvml, library, state=str(folder), kmsg="") as one:
            one.until_read()
            time.sleep(1.2)
            for gpu in range(1 if quick else 4):
                time.sleep(random.random() * 5)
                with _growing(nvml, gpu):
                    found["NVLink CRC errors"].append(one.seconds_to(lambda: None, told("nvlink_crc", gpu)))
                time.sleep(random.random() * 5)
                down = told("nvlink_down", gpu)
                found["NVLink down"].append(one.seconds_to(lambda g=gpu: _down(nvml, g), down))  # type: ignore[misc]
                time.sleep(random.random() * 5)
                replays = told("pcie_replays", gpu, seen)
                found["PCIe replays (suspect)"].append(
                    one.seconds_to(lambda g=gpu: nvml.set_field(g, 94, 1000), replays)  # type: ignore[misc]
                )
    return [bar(f"{name} to state, <= 10 s", worst(times_s) <= 10, words(times_s)) for name, times_s in found.items()]


def _down(nvml: FakeNvml, gpu: int) -> None:
    nvml.gpu(gpu).link_up[4] = 0


class _growing:
    """A link whose CRC counter grows by 300 a second."""

    def __init__(self, nvml: FakeNvml, gpu: int) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._grow, args=(nvml, gpu), daemon=True)

    def _grow(self, nvml: FakeNvml, gpu: int) -> None:
        errors = 0
        while not self._stop.wait(0.1):
            errors += 30
            nvml.set_link(gpu, 3, 163, errors)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def hang(quick: bool) -> list[bool]:
    """A driver that answers no more, with a scrape every twentieth of a second meanwhile."""
    times_s: list[float] = []
    pages_s: list[float] = []
    with fake() as (nvml, library, folder), agent(nvml, library, state=str(folder), kmsg="") as one:
        for _ in range(1 if quick else 4):
            one.until_read()
            time.sleep(1.2 + random.random())
            stop = threading.Event()
            scraping = threading.Thread(target=_scrape, args=(one, pages_s, stop))
            scraping.start()
            fits = told("driver_silent", -1)
            times_s.append(one.seconds_to(lambda: setattr(nvml.state, "hang", 1), fits))
            time.sleep(2)
            stop.set()
            scraping.join()
            nvml.state.hang = 0
            one.seconds_to(lambda: None, told("driver_silent", -1, ("probation", "healthy")))
    return [
        bar("driver hang to warning, <= 6 s", worst(times_s) <= 6, words(times_s)),
        bar("/metrics meanwhile, all < 100 ms", max(pages_s) < 0.1, f"longest {max(pages_s) * 1e3:.0f} ms"),
    ]


def _scrape(one: Watched, pages_s: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.05):
        pages_s.append(one.scrape()[1])


def job_hang() -> bool:
    """Four ranks in step; rank 2 stops, and so the others wait."""
    with fake() as (nvml, library, folder), tempfile.TemporaryDirectory() as name:
        jobs = str(Path(name) / "jobs")
        with agent(nvml, library, state=str(folder), jobs=jobs, kmsg="") as one:
            one.until_read()
            reporter = Reporter(jobs)
            for step in range(40):
                time.sleep(0.1)
                for rank in range(4):
                    if (step, rank) != (39, 2):
                        reporter.send({"step": _step(step, rank)})
            hung = one.seconds_to(lambda: None, lambda said: said.detector == "job_hang" and said.part == "rank 2")
            time.sleep(1)
            others = [said for said in one.drained() if said.detector == "job_hang"]
    return bar("job hang to state, rank 2 alone named, <= 30 s", hung <= 30 and not others, f"{hung:.1f} s")


def _step(step: int, rank: int) -> dict[str, object]:
    now = time.time()
    who = {"job": "job-1", "rank": rank, "size": 4, "stage": 0, "gpu": rank}
    return {**who, "step": step, "start_s": now - 0.1, "end_s": now, "compute_s": 0.08}
