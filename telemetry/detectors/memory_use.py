"""Memory that nobody uses but that is not free, and memory that is about to run out.

A GPU without a process that holds memory has lost it to one that died badly; facebookresearch/gcm calls 15 MiB on an
idle GPU a leak, drivers and MPS keep more than that, hence 500 MiB. In a container the driver may list no process at
all: only a GPU whose processes were seen before is judged. A request's memory is judged in `telemetry.overrun`.
"""

from telemetry.detector import Detector, Looks, whole
from telemetry.fault import Rule
from telemetry.view import View

LEAK_BYTES = 500 << 20
LEAST_FREE_RATIO = 0.02


def _leaked(view: View) -> Looks:
    used_bytes, processes = view.get("memory_used_bytes"), view.get("process_count")
    if used_bytes is None or processes is None or not view.history.shows_processes or view.gpu.mig:
        return {}
    idle = not processes and not view.get("utilization_ratio")
    return whole(idle and used_bytes > LEAK_BYTES, used_bytes, f"{used_bytes / 2**30:.1f} GiB in use by no process")


def _full(view: View) -> Looks:
    free_bytes, total_bytes = view.get("memory_free_bytes"), view.get("memory_total_bytes")
    if free_bytes is None or not total_bytes:
        return {}
    ratio = free_bytes / total_bytes
    return whole(ratio < LEAST_FREE_RATIO, ratio, f"{ratio:.1%} of memory is free")


DETECTORS = (
    Detector(
        "memory_leaked", "degraded", "restart_app", "warm", Rule(6, 6, 60.0), _leaked,
        "Memory is in use on an idle GPU, by no process.", 5.0,
    ),
    Detector(
        "memory_full", "info", "none", "hot", Rule(4, 4, 60.0, 60.0), _full,
        "Less than 2 % of memory has been free for half a minute.", 10.0,
    ),
)  # fmt: skip
