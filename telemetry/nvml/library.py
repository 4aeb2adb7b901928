"""NVML itself: its start, its versions, its error codes."""

from collections.abc import Callable

import pynvml

from telemetry.errors import NvmlUnavailable
from telemetry.sample import Driver

# What a GPU answers to what it will never be able to tell; anything else may pass.
NEVER = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
)
GONE = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_NOT_FOUND)


def start() -> Driver:
    """Load and initialise NVML. Raises NvmlUnavailable where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailable(f"NVML cannot be used: {error}; is an NVIDIA driver loaded on this host?") from error
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    return Driver(text(pynvml.nvmlSystemGetDriverVersion), text(pynvml.nvmlSystemGetNVMLVersion), boot_id)


def count() -> int:
    """GPUs that the driver sees now."""
    return int(pynvml.nvmlDeviceGetCount())


def text(call: Callable[[], object]) -> str:
    try:
        return decoded(call())
    except pynvml.NVMLError:
        return ""


def decoded(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
