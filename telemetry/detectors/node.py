"""What the agent itself notices of the node: a driver that falls silent, GPUs that are missing.

Judged in the agent's loop, where the silence is (`Watch.see`): a driver that hangs gives no reading to look at.
"""

import math

from telemetry.detector import Detector, elsewhere
from telemetry.fault import Rule

SILENT, HUNG, MISSING, NODE = "driver_silent", "driver_hung", "gpus_missing", "node_fault"
DETECTORS = (
    Detector(SILENT, "degraded", "none", "hot", Rule(clear_s=10.0, probation_s=60.0), elsewhere, "It answers late."),
    Detector(HUNG, "fatal_node", "reboot_node", "hot", Rule(clear_s=60.0), elsewhere, "The driver answers no more."),
    Detector(MISSING, "fatal_node", "reboot_node", "cold", Rule(2, 2, 60.0), elsewhere, "Fewer GPUs than there were."),
    Detector(
        NODE, "fatal_node", "reboot_node", "hot", Rule(clear_s=math.inf), elsewhere,
        "Several GPUs failed within ten seconds.",
    ),
)  # fmt: skip
