"""Power limits and locked clocks: the calls that need root. Only the setter's process imports this."""

import pynvml

from telemetry.nvml.library import decoded


class Limits:
    """Power limits of every GPU, in watts. Raises what NVML raises."""

    def __init__(self) -> None:
        pynvml.nvmlInit()
        self._handles: dict[str, object] = {}
        self._opened: set[int] = set()

    def uuids(self) -> tuple[str, ...]:
        """Who can be set: all GPUs but those that the driver has lost, which are tried again at the next call."""
        for index in set(range(_count())) - self._opened:
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                self._handles[decoded(pynvml.nvmlDeviceGetUUID(handle))] = handle
            except pynvml.NVMLError:
                continue
            self._opened.add(index)
        return tuple(self._handles)

    def bounds_w(self, uuid: str) -> tuple[float, float]:
        """Lowest and highest limit that the driver accepts."""
        low, high = pynvml.nvmlDeviceGetPowerManagementLimitConstraints(self._handles[uuid])
        return low / 1e3, high / 1e3

    def default_w(self, uuid: str) -> float:
        """The limit that the GPU comes with."""
        return float(pynvml.nvmlDeviceGetPowerManagementDefaultLimit(self._handles[uuid])) / 1e3

    def enforced_w(self, uuid: str) -> float:
        """The limit that the driver holds the GPU to now."""
        return float(pynvml.nvmlDeviceGetEnforcedPowerLimit(self._handles[uuid])) / 1e3

    def set_w(self, uuid: str, watts: float) -> None:
        """Ask for a limit; `enforced_w` says what came of it."""
        pynvml.nvmlDeviceSetPowerManagementLimit(self._handles[uuid], round(watts * 1e3))

    def lock_hz(self, uuid: str, hertz: float) -> None:
        """Hold the SM clock at or below a frequency; 0 = free it."""
        if hertz:
            pynvml.nvmlDeviceSetGpuLockedClocks(self._handles[uuid], 0, round(hertz / 1e6))
        else:
            pynvml.nvmlDeviceResetGpuLockedClocks(self._handles[uuid])


def _count() -> int:
    try:
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


NvmlError = pynvml.NVMLError
