"""Power, clocks and temperature of the GPU while something runs on it, read from NVML by a thread."""

import threading
import time
from dataclasses import dataclass
from statistics import fmean
from types import TracebackType
from typing import Any

import pynvml

POWER_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT: milliwatts now, not the mean of the last second
CAPPED = 0x4 | 0x8 | 0x80  # clock event reasons: software power cap, hardware slowdown, hardware power brake


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading; `reasons` is NVML's bit mask of why the clock is not higher."""

    at_s: float
    power_w: float
    sm_hz: float
    temperature_c: float
    reasons: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a stretch of time drew: the mean of instantaneous readings, and the energy counter's difference."""

    seconds: float
    power_w: float
    energy_power_w: float
    sm_hz: float
    temperature_c: float
    reasons: int
    samples: int


class Meter:
    """Reads GPU `index` every 20 ms from `__enter__` to `__exit__`."""

    def __init__(self, index: int = 0, period_s: float = 0.02) -> None:
        pynvml.nvmlInit()
        self.gpu: Any = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.period_s = period_s
        self.samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.read()  # first calls are slow

    def describe(self) -> dict[str, object]:
        """Name, driver, limit and highest clocks of the GPU, for the file's head."""
        clock = pynvml.nvmlDeviceGetMaxClockInfo
        return {
            "gpu": pynvml.nvmlDeviceGetName(self.gpu),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "power_limit_w": pynvml.nvmlDeviceGetEnforcedPowerLimit(self.gpu) / 1e3,
            "max_sm_hz": clock(self.gpu, pynvml.NVML_CLOCK_SM) * 1e6,
            "max_memory_hz": clock(self.gpu, pynvml.NVML_CLOCK_MEM) * 1e6,
        }

    def read(self) -> Sample:
        """One reading now."""
        field = pynvml.nvmlDeviceGetFieldValues(self.gpu, [POWER_INSTANT])[0]
        return Sample(
            time.perf_counter(),
            field.value.uiVal / 1e3,
            self.sm_hz(),
            float(pynvml.nvmlDeviceGetTemperature(self.gpu, pynvml.NVML_TEMPERATURE_GPU)),
            int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(self.gpu)),
        )

    def sm_hz(self) -> float:
        """The clock of the multiprocessors now."""
        return float(pynvml.nvmlDeviceGetClockInfo(self.gpu, pynvml.NVML_CLOCK_SM)) * 1e6

    def energy_j(self) -> tuple[float, float]:
        """When it was read, and the energy counter."""
        joules = pynvml.nvmlDeviceGetTotalEnergyConsumption(self.gpu) / 1e3
        return time.perf_counter(), joules

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.period_s):
            self.samples.append(self.read())

    def between(self, start: tuple[float, float], end: tuple[float, float]) -> Reading:
        """What was read from `start` to `end`, each an answer of `energy_j`."""
        seen = [sample for sample in self.samples if start[0] <= sample.at_s <= end[0]] or [self.read()]
        reasons = 0
        for sample in seen:
            reasons |= sample.reasons
        seconds = end[0] - start[0]
        return Reading(
            seconds,
            fmean(sample.power_w for sample in seen),
            (end[1] - start[1]) / seconds,
            fmean(sample.sm_hz for sample in seen),
            seen[-1].temperature_c,
            reasons,
            len(seen),
        )
