"""kill -9 of each of the agent's processes: seconds until all is as it was before."""

import os
import random
import signal
import time
from pathlib import Path

from tests.benchmarks.agent_faults import told, words, worst
from tests.benchmarks.agent_process import Watched, agent, fake
from tests.benchmarks.common import bar
from tests.telemetry.fake_nvml.state import FakeNvml

MOST_S = 1.0


def bars(quick: bool) -> list[bool]:
    """The agent itself; the process that reads; the one that waits for events."""
    turns = 3 if quick else 15
    with fake() as (nvml, library, folder):
        whole_s = [_whole(nvml, library, folder, first=not turn) for turn in range(turns)]
        with agent(nvml, library, state=str(folder), kmsg="") as one:
            one.until_read()
            children_s = [[_child(one, number) for _ in range(turns)] for number in (1, 2)]
    found = {"agent": whole_s, "reader": children_s[0], "process that waits for events": children_s[1]}
    return [
        bar(f"kill -9 of the {name}, all read anew, <= {MOST_S:.0f} s", worst(times_s) <= MOST_S, words(times_s))
        for name, times_s in found.items()
    ]


def _whole(nvml: FakeNvml, library: Path, folder: Path, first: bool) -> float:
    """From the kill to a page with every GPU's power and the fault of before; it is started anew at once."""
    with agent(nvml, library, state=str(folder), kmsg="") as one:
        one.until_read()
        time.sleep(1.2 + random.random())
        if first:
            one.seconds_to(lambda: nvml.push_xid(3, 94), told("xid_degraded", 3))
        began = time.monotonic()
        os.kill(one.process.pid, signal.SIGKILL)
        one.process.wait()
    with agent(nvml, library, state=str(folder), kmsg="") as one:
        one.until_read()
        took_s = time.monotonic() - began
        assert 'part="xid ' in one.scrape()[0], "the fault of before is forgotten"
    return took_s


def _child(one: Watched, number: int) -> float:
    """From the kill of a child to a reading by its successor."""
    time.sleep(1.5 + random.random())
    restarts = _value(one, "muster_agent_reader_restarts_total")
    killed, began = time.time(), time.monotonic()
    os.kill(one.pids()[number], signal.SIGKILL)
    while time.monotonic() - began < 30:
        if _value(one, "muster_agent_reader_restarts_total") > restarts and _seen(one) > killed:
            return time.monotonic() - began
        time.sleep(0.005)
    raise AssertionError("no reading within 30 s")


def _value(one: Watched, name: str) -> float:
    return next(float(line.split()[1]) for line in one.scrape()[0].splitlines() if line.startswith(name + " "))


def _seen(one: Watched) -> float:
    """When the GPU that was not read for the longest time was read."""
    name = "muster_gpu_last_seen_timestamp_seconds{"
    return min(float(line.split()[-1]) for line in one.scrape()[0].splitlines() if line.startswith(name))
