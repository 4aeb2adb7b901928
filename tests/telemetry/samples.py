"""Readings by default of a healthy GPU, for tests that change one thing."""

from telemetry.sample import Gpu, Reading, Tier, Xid
from telemetry.watch import Watch

START_S = 1e9  # Unix time of the first reading, long after boot
COUNTERS = {
    "ecc_corrected_volatile_all": 0.0, "pcie_replays": 0.0, "hw_thermal_s": 0.0,
}  # fmt: skip
WARM = {
    **COUNTERS, "pcie_generation": 5.0, "pcie_width": 16.0, "pcie_generation_max": 5.0, "pcie_width_max": 16.0,
    "power_limit_enforced_w": 700.0, "remap_banks_none": 0.0,
}  # fmt: skip
HOT = {
    "utilization_ratio": 0.9, "power_w": 500.0, "memory_temperature_c": 60.0, "temperature_c": 55.0,
    "clock_event_mask": 0.0, "sm_clock_hz": 1.98e9, "ecc_uncorrected_volatile_all": 0.0,
    "remap_pending": 0.0, "remap_failed": 0.0, "remapped_uncorrected": 0.0, "recovery_action": 0.0,
}  # fmt: skip
LINK = {"up": 1.0, "crc": 0.0, "replay": 0.0, "recovery": 0.0}


def watch() -> Watch:
    """A node of two GPUs with two links each, up since Unix time 0."""
    found = Watch(booted_s=0.0)
    found.meet(Gpu(index, f"GPU-{index}", links=2) for index in range(2))
    return found


def warm(at_s: float, gpu: int = 0, link: dict[str, float] | None = None, **values: float) -> Reading:
    """A warm reading at START_S + `at_s`; `link` changes values of link 1."""
    return _reading("warm", at_s, gpu, {**WARM, **values}, ({**LINK}, {**LINK, **(link or {})}))


def hot(at_s: float, gpu: int = 0, **values: float) -> Reading:
    """A hot reading."""
    return _reading("hot", at_s, gpu, {**HOT, **values}, ())


def lost(at_s: float, gpu: int = 0) -> Reading:
    """A reading of a GPU that is gone."""
    return Reading(gpu, "hot", START_S + at_s, lost="GPU is lost")


def xid(at_s: float, code: int, gpu: int = 0, text: str = "") -> Xid:
    """An Xid as NVML tells it."""
    return Xid(gpu, code, START_S + at_s, "kmsg" if text else "nvml", text)


def _reading(
    tier: Tier, at_s: float, gpu: int, values: dict[str, float], links: tuple[dict[str, float], ...]
) -> Reading:
    return Reading(gpu, tier, START_S + at_s, values, links)
