"""Memory over a long time: the agent's state through a simulated day, and its processes polling as fast as they can.

A day is simulated by handing readings to the agent with the clock that they carry, so that a day takes a minute; the
processes poll fifty times a second for a minute, which is as many calls of the driver as an hour makes.

Counted from the third simulated hour on. In the second one the links' counters move for the first time: their families,
most of the page, are written anew while the old ones still stand, which takes a MiB once and is used again ever after
(the count of live objects stays as it was).
"""

import gc
import random
import time

from telemetry.agent import Agent
from telemetry.sample import Gpu, Reading
from telemetry.settings import Settings
from telemetry.wire import Hello
from tests.benchmarks.agent_process import agent, fake
from tests.benchmarks.common import bar
from tests.telemetry.samples import HOT, LINK, START_S, WARM

MIB = float(1 << 20)
SETTLED_S = 7200  # every kind of value has changed by then
WARM_UP_S = 90.0  # what is kept of a minute, and of Xids that only one source told of, has come to its full length


def bars(quick: bool) -> list[bool]:
    """Both."""
    hours = 2 if quick else 24
    grown = day(hours)
    polled = processes(10 if quick else 60)
    return [
        bar(
            f"RSS growth over {hours} simulated hours of 8 GPUs after the first two, < 1 MiB",
            grown < MIB,
            f"{grown / MIB:.2f} MiB",
        ),
        bar("RSS growth of all processes at 50 polls a second, < 1 MiB", polled < MIB, f"{polled / MIB:.2f} MiB"),
    ]


def day(hours: int) -> float:
    """Bytes grown after the first two simulated hours."""
    from telemetry.sample import Driver

    one = Agent(Settings("node-1"), "boot", 0.0)
    gpus = tuple(Gpu(index, f"GPU-{index}", links=18) for index in range(8))
    one.hear(Hello(Driver(), gpus, START_S))
    rng = random.Random(0)
    first = 0
    for second in range(SETTLED_S + hours * 3600):
        if second == SETTLED_S:
            gc.collect()
            first = _resident_bytes()
        for gpu in range(8):
            noise = {
                "power_w": rng.uniform(400, 690),
                "sm_clock_hz": rng.choice((1.7e9, 1.98e9)),
                "temperature_c": 60.0,
            }
            one.hear(Reading(gpu, "hot", START_S + second, {**HOT, **noise}))
            if second % 5 == 0:
                counted = {"pcie_replays": float(second // 3000), "hw_thermal_s": second * 1e-3}
                links = ({**LINK, "replay": float(second // 5000)},) * 18
                one.hear(Reading(gpu, "warm", START_S + second, {**WARM, **counted}, links))
        if second % 15 == 0:
            one.metrics()
    gc.collect()
    return float(_resident_bytes() - first)


def processes(seconds: float) -> float:
    """Bytes grown by the agent's processes after a first while; links flap and an Xid comes now and then."""
    fast = {"hot_s": 0.02, "warm_s": 0.2, "cold_s": 1.0}
    with fake() as (nvml, library, folder), agent(nvml, library, state=str(folder), kmsg="", **fast) as one:
        one.until_read()
        first, began, turn = 0.0, time.monotonic(), 0
        while time.monotonic() - began < WARM_UP_S + seconds:
            turn += 1
            nvml.set_field(turn % 8, 185, 400_000 + turn)
            nvml.set_field(turn % 8, 83, turn * 1000)
            if turn % 50 == 0:
                nvml.push_xid(turn % 8, 13)
                one.scrape()
            if not first and time.monotonic() - began > WARM_UP_S:
                first = one.rss_bytes()
            time.sleep(0.02)
        return one.rss_bytes() - first


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096
