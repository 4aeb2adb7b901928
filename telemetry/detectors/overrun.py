"""More than the plan gives: power over share or cap, memory over request, latency over its objective, rate over plan.

Judged in `telemetry.overrun`, once a second or once in ten, where the allotments and the requests are. None is a
fault of the GPU: the controller weighs them, the node does nothing.
"""

from telemetry.detector import Detector, elsewhere
from telemetry.fault import Rule

POWER, MEMORY, LATENCY, RATE = "power_over_share", "memory_over_request", "latency_over_slo", "rate_over_plan"
DETECTORS = (
    Detector(POWER, "app", "none", "hot", Rule(5, 5, 10.0, 60.0), elsewhere, "More power than its share or cap."),
    Detector(MEMORY, "app", "none", "hot", Rule(10, 10, 10.0, 60.0), elsewhere, "More memory than was asked for."),
    Detector(LATENCY, "info", "none", "hot", Rule(3, 5, 30.0, 60.0), elsewhere, "Requests miss their objective."),
    Detector(RATE, "info", "none", "hot", Rule(3, 5, 30.0, 60.0), elsewhere, "More requests than were planned."),
)
