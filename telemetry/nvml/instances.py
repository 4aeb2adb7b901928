"""MIG devices of a GPU: who they are and what memory they have. NVML tells no load of them.

Found anew at each reading, since they come and go while the GPU stays. Whether MIG is on at all is part of the GPU's
identity: turning it on or off resets the GPU.
"""

from collections.abc import Callable

import pynvml

from telemetry.nvml.library import decoded
from telemetry.sample import Instance


def instances(handle: object) -> tuple[Instance, ...]:
    """Every MIG device of a GPU, in NVML's order. Raises what NVML raises for the GPU as a whole."""
    most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    found = (_instance(handle, index) for index in range(most))
    return tuple(one for one in found if one is not None)


def _instance(handle: object, index: int) -> Instance | None:
    """The MIG device of an index; None where there is none, or it goes while it is read."""
    try:
        part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        gpu_instance = int(pynvml.nvmlDeviceGetGpuInstanceId(part))
        compute_instance = int(pynvml.nvmlDeviceGetComputeInstanceId(part))
        memory = pynvml.nvmlDeviceGetMemoryInfo(part, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise
        return None
    uuid, name = _text(pynvml.nvmlDeviceGetUUID, part), _text(pynvml.nvmlDeviceGetName, part)
    profile = name.rpartition(" MIG ")[2] if " MIG " in name else ""  # "NVIDIA H200 MIG 1g.18gb"
    return Instance(uuid, gpu_instance, compute_instance, profile, memory.total, memory.used, memory.free)


def _text(call: Callable[[object], object], part: object) -> str:
    try:
        return decoded(call(part))
    except pynvml.NVMLError:
        return ""
