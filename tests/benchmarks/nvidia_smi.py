"""Every exported value beside what nvidia-smi said in the same second, on a real H200 under load.

    python -m tests.benchmarks.nvidia_smi

Reads a recording (tests/telemetry/data/h200_nvidia_smi.csv.gz, driver 580.159.04: 14 s each of rest, matrix products at
the power limit, copies, a mix, rest; nvidia-smi once a second beside the agent's page, fetched as its line came). Both
sample by themselves: a value agrees where nvidia-smi's lies between the least and the most that we exported from a
second before to a second after, give or take what is stated here.
"""

import csv
import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.common import bar

RECORDING = Path(__file__).parents[1] / "telemetry" / "data" / "h200_nvidia_smi.csv.gz"
MIB, MHZ, PERCENT = float(1 << 20), 1e6, 1e-2


class Pair(NamedTuple):
    """A column of nvidia-smi, our series, and by how much they may differ, in our unit."""

    smi: str
    series: str
    read: Callable[[str], float]
    margin: float
    why: str = "same reading"
    least: float = 1.0  # share of seconds that must agree; less where the value moves faster than either samples


def _times(unit: float) -> Callable[[str], float]:
    return lambda text: float(text) * unit


def _yes(text: str) -> float:
    return float(text == "Yes")


def _bit(bit: int) -> Callable[[str], float]:
    return lambda text: float(bool(int(text, 16) & bit))


_ROUND = "nvidia-smi rounds to MiB"
_MOVES = "sensor moves within the second"
PAIRS: tuple[Pair, ...] = (
    Pair("power.draw.average", "power_watts", float, 15.0, "mean of one second, taken at another moment", 0.95),
    Pair("power.draw.instant", "power_instant_watts", float, 60.0, "the mix moves within milliseconds", 0.9),
    Pair("utilization.gpu", "utilization_ratio", _times(PERCENT), 0.03, "periods of 1/6 to 1 s", 0.95),
    Pair("utilization.memory", "memory_utilization_ratio", _times(PERCENT), 0.03, "periods of 1/6 to 1 s", 0.95),
    Pair("memory.used", "memory_used_bytes", _times(MIB), MIB, _ROUND),
    Pair("memory.free", "memory_free_bytes", _times(MIB), MIB, _ROUND),
    Pair("memory.reserved", "memory_reserved_bytes", _times(MIB), MIB, _ROUND),
    Pair("memory.total", "memory_total_bytes", _times(MIB), MIB, _ROUND),
    Pair("temperature.gpu", "temperature_celsius{sensor=core}", float, 1.0, _MOVES, 0.95),
    Pair("temperature.memory", "temperature_celsius{sensor=memory}", float, 1.0, _MOVES),
    Pair("clocks.sm", "clock_hertz{domain=sm}", _times(MHZ), 60 * MHZ, "steps of 15 MHz while the power limit holds"),
    Pair("clocks.mem", "clock_hertz{domain=memory}", _times(MHZ), 0.0),
    Pair("pstate", "performance_state", lambda text: float(text[1:]), 0.0),
    Pair("pcie.link.gen.current", "pcie_generation", float, 0.0),
    Pair("pcie.link.width.current", "pcie_width", float, 0.0),
    Pair("enforced.power.limit", "power_limit_watts{kind=enforced}", float, 0.0),
    Pair("power.min_limit", "power_limit_watts{kind=min}", float, 0.0),
    Pair("power.max_limit", "power_limit_watts{kind=max}", float, 0.0),
    Pair("power.default_limit", "power_limit_watts{kind=default}", float, 0.0),
    Pair(
        "ecc.errors.corrected.volatile.total",
        "ecc_errors_total{type=corrected,scope=volatile,location=all}", float, 0.0,
    ),
    Pair(
        "ecc.errors.uncorrected.volatile.total",
        "ecc_errors_total{type=uncorrected,scope=volatile,location=all}", float, 0.0,
    ),
    Pair("remapped_rows.correctable", "remapped_rows{cause=corrected}", float, 0.0),
    Pair("remapped_rows.uncorrectable", "remapped_rows{cause=uncorrected}", float, 0.0),
    Pair("remapped_rows.pending", "row_remap_pending", _yes, 0.0),
    Pair("remapped_rows.failure", "row_remap_failed", _yes, 0.0),
    Pair("clocks.max.sm", "clock_max_hertz{domain=sm}", _times(MHZ), 0.0),
    Pair("clocks.max.mem", "clock_max_hertz{domain=memory}", _times(MHZ), 0.0),
    Pair("pcie.link.gen.max", "pcie_generation_max", float, 0.0),
    Pair("pcie.link.width.max", "pcie_width_max", float, 0.0),
    Pair("gpu_recovery_action", "recovery_action", lambda text: 0.0 if text == "None" else 1.0, 0.0),
)  # fmt: skip
MASK = "clocks_event_reasons.active"
BITS = {
    "gpu_idle": 0x1, "application_clocks": 0x2, "sw_power_cap": 0x4, "hw_slowdown": 0x8, "sync_boost": 0x10,
    "sw_thermal": 0x20, "hw_thermal": 0x40, "hw_power_brake": 0x80, "display_clocks": 0x100,
}  # fmt: skip
PAIRS += tuple(
    Pair(MASK, f"clock_event{{reason={name}}}", _bit(bit), 0.0, "flaps at the power limit", 0.9)
    for name, bit in BITS.items()
)


class Agreement(NamedTuple):
    """How many seconds of a pair agree, of all, and the largest difference beyond what we exported around then."""

    pair: Pair
    agree: int
    seconds: int
    furthest: float


def rows() -> list[dict[str, str]]:
    """The recording, second by second."""
    with gzip.open(RECORDING, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def compared(found: list[dict[str, str]]) -> list[Agreement]:
    """Every pair; the first and the last second have no neighbours."""
    result = []
    for pair in PAIRS:
        beyond = []
        for index in range(1, len(found) - 1):
            theirs = pair.read(found[index][f"smi {pair.smi}"])
            ours = [float(found[i][pair.series]) for i in (index - 1, index, index + 1) if found[i][pair.series]]
            beyond.append(max(min(ours) - theirs, theirs - max(ours), 0.0))
        agree = sum(one <= pair.margin for one in beyond)
        result.append(Agreement(pair, agree, len(beyond), max(beyond)))
    return result


def without_peer(found: list[dict[str, str]]) -> list[str]:
    """Series of ours that nvidia-smi's query has no column for, or had no answer to."""
    known = {pair.series for pair in PAIRS}
    return sorted(name for name in found[0] if name != "t" and not name.startswith("smi ") and name not in known)


def main() -> None:
    """Print every pair; exit code 1 where one disagrees in more seconds than it may."""
    found = rows()
    met = [
        bar(
            one.pair.series,
            one.agree >= one.pair.least * one.seconds,
            f"{one.agree} of {one.seconds} s within {one.pair.margin:g} of {one.pair.smi} ({one.pair.why}); "
            f"furthest {one.furthest:g}",
        )
        for one in compared(found)
    ]
    print(f"no peer in nvidia-smi's query: {', '.join(without_peer(found))}")
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
