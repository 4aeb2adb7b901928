"""What the driver sends by NVML's event set: the one way to hear of Xids and of failing memory within milliseconds."""

from ctypes import c_void_p, cast
from typing import NamedTuple

import pynvml

from telemetry.nvml.library import count

XID = pynvml.nvmlEventTypeXidCriticalError
# What is worth a look at once: double-bit error, DRAM retired or not to be retired, poison (not fatal, fatal), GPU
# unavailable, recovery action (nvml.h, nvmlEventType*; from 0x400 on since driver 580: a driver is asked which it has).
LOOK_AT_ONCE = 0x2 | 0x400 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000


class Event(NamedTuple):
    """`xid`: its code, None where the driver only says that something is wrong with the GPU."""

    gpu: int
    xid: int | None


class Events:
    """Events of all GPUs, as the driver sends them. Raises what NVML raises."""

    def __init__(self) -> None:
        self._set = pynvml.nvmlEventSetCreate()
        self.gpus = count()
        self._index: dict[int, int] = {}
        for index in range(self.gpus):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            self._index[cast(handle, c_void_p).value or 0] = index
            pynvml.nvmlDeviceRegisterEvents(handle, _known(handle), self._set)

    def next(self, timeout_ms: int) -> Event | None:
        """The next event, or None after a time without any."""
        try:
            event = pynvml.nvmlEventSetWait_v2(self._set, timeout_ms)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return None
            raise
        gpu = self._index[cast(event.device, c_void_p).value or 0]
        return Event(gpu, int(event.eventData) if event.eventType == XID else None)


def _known(handle: object) -> int:
    """Of the types that are wanted those that the driver can send; it refuses all where one is unknown to it."""
    try:
        known = int(pynvml.nvmlDeviceGetSupportedEventTypes(handle))
    except pynvml.NVMLError:
        known = 0
    return known & LOOK_AT_ONCE | int(XID)
