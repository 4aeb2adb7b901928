"""Caps from the controller's decision to the driver: how long, what the agent costs with a controller, and who may die.

    python -m tests.benchmarks.caps [--grants 200] [--kills 40]

On the fake driver with eight GPUs, over HTTPS on loopback. A decision waits for the agent's next report, as it would;
the controller asks for one each second.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.common import bar
from tests.telemetry.agent_runner import free_port
from tests.telemetry.controller_stub import Stub, controller, self_signed
from tests.telemetry.fake_nvml.state import FakeNvml, build
from tests.telemetry.test_caps import FULL_W, SAFE_W, Node, grants, killed_on_the_way, node

REPORT_S = 1.0


def main() -> None:
    """Print each bar; exit code 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grants", type=int, default=200)
    parser.add_argument("--kills", type=int, default=40)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nvml, library, certificate = FakeNvml(folder), build(folder), self_signed(folder)
        met = delays(nvml, library, certificate, folder, given.grants)
        met &= kills(nvml, library, certificate, folder, given.kills)
    sys.exit(not met)


def delays(nvml: FakeNvml, library: Path, certificate: Path, folder: Path, count: int) -> bool:
    """From the decision to eight limits in the driver."""
    dice, took_s = random.Random(0), []
    with (
        controller(certificate) as stub,
        node(nvml, library, folder, stub.url, certificate, report_s=5.0) as one,
    ):
        _until(stub, nvml, one, 500.0)
        before_s, began_s = _cpu_s(one), time.monotonic()
        for turn in range(count):
            time.sleep(dice.uniform(0.0, REPORT_S))
            took_s.append(_until(stub, nvml, one, 300.0 + turn % 350))
        cores = (_cpu_s(one) - before_s) / (time.monotonic() - began_s)
        pss_bytes = _pss_bytes(one.processes["agent"].pid)
    took_s.sort()
    p99_s = took_s[int(0.99 * (len(took_s) - 1))]
    print(f"      agent reporting each second to a controller: {cores:.2%} of a core, {pss_bytes / 2**20:.1f} MiB PSS")
    return bar("cap in force", p99_s <= 2.0, f"p50 {took_s[len(took_s) // 2]:.2f} s, p99 {p99_s:.2f} s of 2 s")


def kills(nvml: FakeNvml, library: Path, certificate: Path, folder: Path, count: int) -> bool:
    """kill -9 of controller, agent or setter at random moments; the limit is at most the last grant, or safe."""
    dice, port, before_w, over = random.Random(1), free_port(), FULL_W, 0
    with node(nvml, library, folder, f"https://127.0.0.1:{port}", certificate) as one:
        for _ in range(count):
            granted_w = float(dice.randrange(250, 690))
            highest_w = killed_on_the_way(one, nvml, (certificate, port), granted_w, dice)
            over += highest_w > max(SAFE_W, before_w, granted_w)
            before_w = granted_w
        began_s = time.monotonic()
        while one.watts() != [SAFE_W] * 8 and time.monotonic() - began_s < 20:
            time.sleep(0.01)
        safe = one.watts() == [SAFE_W] * 8
    return bar("kill -9", over == 0 and safe, f"{count} kills, {over} limits too high, safe in silence: {safe}")


def _until(stub: Stub, nvml: FakeNvml, one: Node, watts: float) -> float:
    decided_s = time.monotonic()
    stub.answer = lambda report: {**grants(nvml, watts), "next_s": REPORT_S}
    while one.watts() != [watts] * 8:
        time.sleep(0.002)
        if time.monotonic() - decided_s > 30:
            sys.exit(f"no cap of {watts:g} W within 30 s: {one.watts()}")
    return time.monotonic() - decided_s


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _pss_bytes(pid: int) -> int:
    texts = (Path(f"/proc/{one}/smaps_rollup").read_text("ascii") for one in _tree(pid))
    return sum(int(line.split()[1]) * 1024 for text in texts for line in text.splitlines() if line.startswith("Pss:"))


def _cpu_s(one: Node) -> float:
    ticks = 0
    for pid in _tree(one.processes["agent"].pid):
        words = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / 100


if __name__ == "__main__":
    main()
