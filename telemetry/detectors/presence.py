"""A GPU that the driver has lost, what the driver itself asks for, and a fabric that does not come up.

The driver's own verdict (NVML field 230, recovery action) outranks any table of Xids. From 5 on its numbers changed
their meaning between driver branches: they are read as "reboot".
"""

import math
from collections.abc import Callable

from telemetry.detector import Detector, Looks, whole
from telemetry.fault import Rule
from telemetry.view import View

LOST = "gpu_lost"
UNTIL_RESET = Rule(clear_s=math.inf)
WORDS = {1: "a reset", 2: "a reboot", 3: "draining its peers", 4: "draining and a reset"}
FABRIC_COMPLETED = 3


def _lost(view: View) -> Looks:
    return whole(bool(view.sample.lost), 1.0, f"the driver has lost the GPU: {view.sample.lost or 'it answers'}")


def _asks(*wanted: int) -> Callable[[View], Looks]:
    def look(view: View) -> Looks:
        asked = view.get("recovery_action")
        if asked is None:
            return {}
        code = int(asked)
        hit = code in wanted or (2 in wanted and code > max(WORDS))
        return whole(hit, asked, f"the driver asks for {WORDS.get(code, f'recovery action {code}')}")

    return look


def _fabric(view: View) -> Looks:
    state = view.get("fabric_state")
    if not state:
        return {}
    return whole(state != FABRIC_COMPLETED, state, f"the NVLink fabric is in state {state:.0f}, not completed")


DETECTORS = (
    Detector(LOST, "fatal_node", "reboot_node", "hot", Rule(2, 2, 60.0), _lost, "The GPU is gone.", every_s=0.2),
    Detector("driver_asks_reset", "fatal_gpu", "reset_gpu", "hot", UNTIL_RESET, _asks(1, 4), "It wants a reset."),
    Detector("driver_asks_reboot", "fatal_node", "reboot_node", "hot", UNTIL_RESET, _asks(2), "It wants a reboot."),
    Detector("driver_asks_drain", "degraded", "drain", "hot", UNTIL_RESET, _asks(3), "It wants peers drained."),
    Detector(
        "fabric", "degraded", "ticket", "cold", Rule(3, 3, 120.0, grace_s=300.0), _fabric,
        "The NVLink fabric is not up five minutes after boot.",
    ),
)  # fmt: skip
