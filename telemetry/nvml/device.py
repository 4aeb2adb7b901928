"""One GPU, read tier by tier. What it does not support is found out once and never asked again.

What a reading costs is the driver's time, and it differs a thousandfold. On an H200 (driver 580.159.04, medians of 50):
most calls 1 to 25 us (ECC counters 1.4 us) and power 0.5 ms, but the energy counter 4 ms, each kind of clock event
seconds 0.6 to 0.9 ms, the temperature margin 0.9 ms, highest clocks 1.4 ms; fields 226 and 227, which 230 replaces,
0.15 ms. So the hot tier holds what is cheap (uncorrected errors, remapped rows and recovery action: 1 to 6 us); what is
dear waits for the warm one, or for an event of the driver. Whole tiers, medians of 60 in wall and CPU time alike: hot
0.16 ms (0.23 ms when asked every 0.8 s), warm 11.0 ms, cold 3.4 ms.
"""

import struct
import time
from collections.abc import Callable, Mapping
from ctypes import byref

import pynvml

from telemetry.fields import CLOCK_EVENT_MASK, FIELDS, LINK_FIELDS, MHZ, PERCENT
from telemetry.nvml.field_values import FieldValues
from telemetry.nvml.identity import identity
from telemetry.nvml.instances import instances
from telemetry.nvml.library import GONE, NEVER
from telemetry.sample import TIERS, Instance, Reading, Tier

Values = dict[str, float]
Call = Callable[[], Values]
_MEMORY = struct.Struct("=I4x4Q")
_GPM = (
    ("sm_active_ratio", pynvml.NVML_GPM_METRIC_SM_UTIL),
    ("sm_occupancy_ratio", pynvml.NVML_GPM_METRIC_SM_OCCUPANCY),
    ("tensor_active_ratio", pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL),
    ("dram_active_ratio", pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL),
)


def _gpm_request() -> "pynvml.c_nvmlGpmMetricsGet_t":
    asked = pynvml.c_nvmlGpmMetricsGet_t()
    asked.version, asked.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, len(_GPM)
    for slot, (_, metric) in enumerate(_GPM):
        asked.metrics[slot].metricId = metric
    return asked


_GPM_ASKED = _gpm_request()  # of one GPU after another: it is large


class Device:
    """One GPU. Raises what NVML raises while it is opened; `read` never does."""

    def __init__(self, index: int) -> None:
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.gpu = identity(index, self._handle)
        self._gpm: list[object] = []
        self._calls = {tier: self._supported(calls) for tier, calls in self._all_calls().items()}
        scoped = [(f, 0) for f in FIELDS if f.field_id is not None]
        self._arrays = {
            tier: FieldValues(self._handle, [(f, s) for f, s in scoped if f.tier == tier]) for tier in TIERS
        }
        links = [(f, n) for n in range(self.gpu.links) for f in LINK_FIELDS if f.field_id is not None]
        self._links = FieldValues(self._handle, links)

    def read(self, tier: Tier) -> Reading:
        """One tier now; a GPU that is lost says so instead."""
        at_s, began = time.time(), time.perf_counter()
        values: Values = {}
        links: tuple[Mapping[str, float], ...] = ()
        try:
            for call in self._calls[tier]:
                values.update(_tolerant(call))
            for name, _, value in self._arrays[tier].read():
                values[name] = value
            parts: tuple[Instance, ...] = ()
            if tier == "warm":
                links = self._read_links()
                parts = instances(self._handle) if self.gpu.mig else ()
        except pynvml.NVMLError as error:
            return Reading(self.gpu.index, tier, at_s, lost=str(error), took_s=time.perf_counter() - began)
        took_s = time.perf_counter() - began
        return Reading(self.gpu.index, tier, at_s, values, links, took_s=took_s, instances=parts)

    def _read_links(self) -> tuple[Mapping[str, float], ...]:
        links: list[Values] = [{} for _ in range(self.gpu.links)]
        for number, link in enumerate(links):
            try:
                link["up"] = pynvml.nvmlDeviceGetNvLinkState(self._handle, number)
            except pynvml.NVMLError as error:
                if error.value in GONE:
                    raise
        for name, number, value in self._links.read():
            links[number][name] = value
        return tuple(links)

    def _supported(self, calls: list[Call]) -> list[Call]:
        found = []
        for call in calls:
            try:
                call()
            except pynvml.NVMLError as error:
                if error.value in GONE:
                    raise
                if error.value in NEVER:
                    continue
            found.append(call)
        return found

    def _all_calls(self) -> dict[Tier, list[Call]]:
        h = self._handle
        return {
            "hot": [
                lambda: _utilization(pynvml.nvmlDeviceGetUtilizationRates(h)),
                lambda: _memory(pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2)),
                lambda: {"temperature_c": pynvml.nvmlDeviceGetTemperatureV(h, pynvml.NVML_TEMPERATURE_GPU)},
                lambda: {"sm_clock_hz": pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_SM) * MHZ},
                lambda: {"memory_clock_hz": pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_MEM) * MHZ},
                lambda: {CLOCK_EVENT_MASK: pynvml.nvmlDeviceGetCurrentClocksEventReasons(h)},
            ],
            "warm": [
                lambda: {"temperature_margin_c": pynvml.nvmlDeviceGetMarginTemperature(h)},
                lambda: {"performance_state": pynvml.nvmlDeviceGetPerformanceState(h)},
                lambda: {"pcie_generation": pynvml.nvmlDeviceGetCurrPcieLinkGeneration(h)},
                lambda: {"pcie_width": pynvml.nvmlDeviceGetCurrPcieLinkWidth(h)},
                lambda: _processes(pynvml.nvmlDeviceGetComputeRunningProcesses_v3(h)),
                self._read_gpm,
            ],
            "cold": [
                lambda: {"pcie_generation_max": pynvml.nvmlDeviceGetMaxPcieLinkGeneration(h)},
                lambda: {"pcie_width_max": pynvml.nvmlDeviceGetMaxPcieLinkWidth(h)},
                lambda: {"sm_clock_max_hz": pynvml.nvmlDeviceGetMaxClockInfo(h, pynvml.NVML_CLOCK_SM) * MHZ},
                lambda: {"memory_clock_max_hz": pynvml.nvmlDeviceGetMaxClockInfo(h, pynvml.NVML_CLOCK_MEM) * MHZ},
                lambda: _banks(pynvml.nvmlDeviceGetRowRemapperHistogram(h)),
                lambda: _fabric(h),
            ],
        }

    def _read_gpm(self) -> Values:
        """Means since the reading before; the first one has none. Hopper and newer."""
        if not self._gpm:
            if not pynvml.nvmlGpmQueryDeviceSupport(self._handle).isSupportedDevice:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            self._gpm = [pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()]
            pynvml.nvmlGpmSampleGet(self._handle, self._gpm[0])
            return {}
        older, newer = self._gpm
        pynvml.nvmlGpmSampleGet(self._handle, newer)
        asked = _GPM_ASKED
        asked.sample1, asked.sample2 = older, newer
        pynvml.nvmlGpmMetricsGet(asked)
        self._gpm = [newer, older]
        given = [(name, asked.metrics[slot]) for slot, (name, _) in enumerate(_GPM)]
        return {name: one.value * PERCENT for name, one in given if not one.nvmlReturn and one.value == one.value}


def opened(index: int) -> Device | None:
    """The GPU of an index, None where it is lost."""
    try:
        return Device(index)
    except pynvml.NVMLError:
        return None


def _tolerant(call: Call) -> Values:
    """What a call gives; nothing where it fails for now. Raises only where the GPU is gone."""
    try:
        return call()
    except pynvml.NVMLError as error:
        if error.value in GONE:
            raise
        return {}


def _utilization(rates: "pynvml.c_nvmlUtilization_t") -> Values:
    return {"utilization_ratio": rates.gpu * PERCENT, "memory_utilization_ratio": rates.memory * PERCENT}


def _memory(info: "pynvml.c_nvmlMemory_v2_t") -> Values:
    """In one look at its bytes (version, then these): each attribute would cost a microsecond."""
    _, total, reserved, free, used = _MEMORY.unpack_from(info)
    return {
        "memory_total_bytes": total,
        "memory_used_bytes": used,
        "memory_free_bytes": free,
        "memory_reserved_bytes": reserved,
    }


def _processes(found: "list[pynvml.c_nvmlProcessInfo_t]") -> Values:
    return {"process_count": len(found), "process_memory_bytes": sum(one.usedGpuMemory or 0 for one in found)}


def _banks(banks: "pynvml.c_nvmlRowRemapperHistogramValues") -> Values:
    return {f"remap_banks_{level}": getattr(banks, level) for level in ("max", "high", "partial", "low", "none")}


def _fabric(handle: object) -> Values:
    info = pynvml.c_nvmlGpuFabricInfo_v2_t()
    pynvml.nvmlDeviceGetGpuFabricInfoV(handle, byref(info))
    return {"fabric_state": info.state}
