"""False alarms: healthy GPUs replayed for years, and streams of events as real nodes send them, against the detectors.

Readings are those of a real H200 (tests/telemetry/data/h200.jsonl.gz: idle, products at the power limit, copies, a
mix), put together anew and disturbed: noise, a cap that flaps, links that train after boot, replays and corrected
errors now and then, values that are missing for once, a reading that fails, MIG that comes and goes, a driver that is
loaded anew. Events are all that is not fatal: applications' Xids, storms of 45, bursts. Nothing of it may act.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from telemetry.fault import FATAL, Transition
from telemetry.fields import CLOCK_EVENT_MASK, CLOCK_EVENTS, FIELDS
from telemetry.replay import messages
from telemetry.sample import Gpu, Reading, Xid
from telemetry.watch import Watch
from telemetry.xid_policy import catalogue
from tests.benchmarks.common import bar

RECORDING = Path(__file__).parents[1] / "telemetry" / "data" / "h200.jsonl.gz"
GPUS, LINKS = 8, 4
HOUR_S, MONTH_S, START_S = 3600.0, 30 * 86400.0, 1e9
HOT = frozenset(field.name for field in FIELDS if field.tier == "hot") | {CLOCK_EVENT_MASK}
LEAST_HOURS, LEAST_MONTHS = 10_000, 3_000
COUNTED = ("pcie_replays", "ecc_corrected_volatile_all", "hw_thermal_s", "ecc_uncorrected_volatile_all")


class Found(NamedTuple):
    """What a run raised."""

    fatal: list[Transition]
    other: Counter[str]
    messages: int
    cpu_s: float


def recorded() -> list[tuple[Mapping[str, float], Mapping[str, float]]]:
    """(hot values, warm values) second by second."""
    found: list[tuple[Mapping[str, float], Mapping[str, float]]] = []
    warm: Mapping[str, float] = {}
    for message in messages(RECORDING):
        if isinstance(message, Reading) and message.tier == "warm":
            warm = message.values
        elif isinstance(message, Reading) and message.tier == "hot":
            hot = {name: value for name, value in message.values.items() if name in HOT}
            moved = {name: warm[name] for name in ("remap_pending", "remap_failed", "recovery_action") if name in warm}
            found.append(({**hot, **moved}, warm))
    return found


class Simulated:
    """A healthy GPU that works, as its driver would tell of it."""

    def __init__(
        self, index: int, rng: random.Random, tape: list[tuple[Mapping[str, float], Mapping[str, float]]]
    ) -> None:
        self.index, self.rng, self.tape = index, rng, tape
        self.at = rng.randrange(len(tape))
        self.mig = False
        self.energy_j = 0.0
        self.counters = dict.fromkeys(COUNTED, 0.0)
        self.links = [{"crc": 0.0, "replay": 0.0, "recovery": 0.0} for _ in range(LINKS)]

    def hot(self, at_s: float, step_s: float) -> Reading:
        """The next hot reading; one in ten thousand fails as if the GPU were lost."""
        rng = self.rng
        self.at = (self.at + max(int(step_s), 1)) % len(self.tape)
        if rng.random() < step_s / 900.0:
            self.at = rng.randrange(len(self.tape))
        draw = rng.random()
        if draw < 1e-4:
            return Reading(self.index, "hot", at_s, lost="GPU is lost")
        values = dict(self.tape[self.at][0])
        values["power_w"] = min(values["power_w"] * (0.97 + 0.06 * rng.random()), 725.0)  # a capped board overshoots
        values["memory_temperature_c"] = values.get("memory_temperature_c", 40.0) + rng.randrange(3)
        if values["power_w"] > 600.0 and draw < 0.7:
            values[CLOCK_EVENT_MASK] = float(CLOCK_EVENTS["sw_power_cap"])
        if draw > 0.999:
            del values[rng.choice(list(values))]
        if self.mig:
            values.pop("utilization_ratio", None)
            values.pop("memory_utilization_ratio", None)
        self.energy_j += values.get("power_w", 0.0) * step_s
        return Reading(self.index, "hot", at_s, values)

    def warm(self, at_s: float, step_s: float, since_boot_s: float) -> Reading:
        """The next warm reading. Links train in the first minutes after boot, and repeat a packet now and then."""
        rng = self.rng
        if rng.random() < step_s / (20 * HOUR_S):
            self.counters["pcie_replays"] += rng.randrange(1, 20)
        if rng.random() < step_s / (50 * HOUR_S):
            self.counters["ecc_corrected_volatile_all"] += 1
        if rng.random() < step_s / (500 * HOUR_S):
            self.mig = not self.mig
        if rng.random() < step_s / (1000 * HOUR_S):  # the driver is loaded anew
            self.counters, self.energy_j = dict.fromkeys(COUNTED, 0.0), 0.0
        training = since_boot_s < 240.0
        links = []
        for link in self.links:
            if training:
                link["crc"] += rng.randrange(0, 20_000)
                link["replay"] += rng.randrange(0, 500)
            elif rng.random() < step_s / (200 * HOUR_S):
                link["replay"] += 1
                link["crc"] += rng.randrange(0, 50)
            links.append({"up": float(not training or rng.random() < 0.5), **link})
        values = {**self.tape[self.at][1], **self.counters, "energy_j": self.energy_j, "process_count": 1.0}
        return Reading(self.index, "warm", at_s, values, tuple(links))


def hours(gpu_hours: float, hot_s: float, warm_s: float, seed: int) -> Found:
    """Readings of a node of eight for so long, booted anew each week."""
    rng, tape = random.Random(seed), recorded()
    node = _node(START_S)
    gpus = [Simulated(index, rng, tape) for index in range(GPUS)]
    booted_s, at_s, end_s = START_S, START_S, START_S + gpu_hours / GPUS * HOUR_S
    changes: list[Transition] = []
    count, next_warm_s, began = 0, START_S, time.process_time()
    while at_s < end_s:
        if at_s - booted_s > 7 * 24 * HOUR_S:
            booted_s = at_s
            node = _node(at_s)
        for gpu in gpus:
            changes += node.read(gpu.hot(at_s, hot_s))
            count += 1
        if at_s >= next_warm_s:
            next_warm_s = at_s + warm_s
            for gpu in gpus:
                changes += node.read(gpu.warm(at_s + 0.1, warm_s, at_s - booted_s))
                count += 1
        at_s += hot_s
    return _found(changes, count, began)


def months(gpu_months: float, seed: int) -> Found:
    """Events of nodes of eight for so long: a few of all kinds a week, and storms."""
    rng = random.Random(seed)
    changes: list[Transition] = []
    count, began = 0, time.process_time()
    for number in range(int(gpu_months / GPUS)):
        node = _node(START_S)
        for xid in sorted(_events(rng, number), key=lambda one: one.at_s):
            changes += node.hear(xid)
            count += 1
    return _found(changes, count, began)


def _events(rng: random.Random, number: int) -> Iterator[Xid]:
    """A month of one node."""
    harmless = [one.xid for one in catalogue().values() if one.meaning not in FATAL and one.meaning != "ignore"]
    for _ in range(rng.randrange(0, 60)):
        yield Xid(rng.randrange(GPUS), rng.choice(harmless), START_S + rng.random() * MONTH_S, "nvml")
    if number % 5 == 0:  # 672 of Xid 45 in three hours on three nodes: NVSentinel issue 1710
        start_s = START_S + rng.random() * MONTH_S
        for _ in range(224):
            yield Xid(rng.randrange(GPUS), 45, start_s + rng.random() * 3 * HOUR_S, "nvml")
    if number % 3 == 0:  # an application that faults on all GPUs at once, again and again
        start_s, code = START_S + rng.random() * MONTH_S, rng.choice((13, 31, 43, 68, 69))
        for turn in range(rng.randrange(1, 20)):
            for gpu in range(GPUS):
                yield Xid(gpu, code, start_s + turn * rng.uniform(1, 600), "kmsg", "pid='<unknown>', name=python")


def _node(booted_s: float) -> Watch:
    node = Watch(booted_s)
    node.meet(Gpu(index, f"GPU-{index}", model="NVIDIA H200", links=LINKS) for index in range(GPUS))
    return node


def _found(changes: list[Transition], count: int, began: float) -> Found:
    new = [replace(one, words="") for one in changes if one.after == "confirmed"]
    fatal = [one for one in new if one.severity in FATAL]
    other = Counter(one.detector for one in new if one.severity not in FATAL)
    return Found(fatal, other, count, time.process_time() - began)


def bars(quick: bool) -> list[bool]:
    """Fatal actions of readings at two paces, and of events."""
    fast, slow = (20, 200) if quick else (500, LEAST_HOURS)
    long = 48 if quick else LEAST_MONTHS + 8
    return [
        _bar(f"{long:,} GPU-months of events", months(long, 2)),
        _bar(f"{fast:,} GPU-hours, read each 1 s and 5 s", hours(fast, 1.0, 5.0, 0)),
        _bar(f"{slow:,} GPU-hours, read each 10 s and 60 s", hours(slow, 10.0, 60.0, 1)),
    ]


def _bar(name: str, found: Found) -> bool:
    return bar(
        f"fatal actions in {name}, 0 allowed",
        not found.fatal,
        f"{len(found.fatal)} {sorted({one.detector for one in found.fatal})}; others {dict(found.other)}; "
        f"{found.messages:,} messages in {found.cpu_s:.0f} CPU s",
    )
