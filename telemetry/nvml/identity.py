"""Who a GPU is: what NVML tells of its name, place and make. What it does not tell is empty."""

from collections.abc import Callable

import pynvml

from telemetry.nvml.library import GONE, decoded
from telemetry.sample import Gpu

_ARCHITECTURES = {2: "kepler", 3: "maxwell", 4: "pascal", 5: "volta", 6: "turing", 7: "ampere", 8: "ada", 9: "hopper"}
_ARCHITECTURES |= {10: "blackwell"}


def identity(index: int, handle: object) -> Gpu:
    def known(call: Callable[..., object], *more: object) -> object:
        try:
            return call(handle, *more)
        except pynvml.NVMLError as error:
            if error.value in GONE:
                raise
            return None

    def text(call: Callable[..., object]) -> str:
        return decoded(known(call))

    pci, minor = known(pynvml.nvmlDeviceGetPciInfo), known(pynvml.nvmlDeviceGetMinorNumber)
    mig = known(pynvml.nvmlDeviceGetMigMode)
    return Gpu(
        index,
        text(pynvml.nvmlDeviceGetUUID),
        text(pynvml.nvmlDeviceGetName),
        decoded(pci.busId).lower() if pci is not None else "",  # type: ignore[attr-defined]
        minor if isinstance(minor, int) else -1,
        text(pynvml.nvmlDeviceGetSerial),
        text(pynvml.nvmlDeviceGetVbiosVersion),
        _ARCHITECTURES.get(known(pynvml.nvmlDeviceGetArchitecture), ""),  # type: ignore[call-overload]
        isinstance(mig, list) and mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        _links(handle),
    )


def _links(handle: object) -> int:
    """NVLinks that the GPU has; 0 where it cannot tell."""
    for number in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            pynvml.nvmlDeviceGetNvLinkState(handle, number)
        except pynvml.NVMLError:
            return number
    return int(pynvml.NVML_NVLINK_MAX_LINKS)
