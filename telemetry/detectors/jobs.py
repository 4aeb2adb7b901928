"""What the agent hears from jobs on its node (`telemetry.jobs`): hangs, stragglers, slow communication.

Judged in `telemetry.jobs`, where the records are; a rank is named in the part, its GPU where the job told it.
"""

from telemetry.detector import Detector, elsewhere
from telemetry.fault import Rule

HANG, STRAGGLER = "job_hang", "straggler"
COMMUNICATION_HANG, COMMUNICATION_SLOW = "communication_hang", "communication_slow"
DETECTORS = (
    Detector(HANG, "degraded", "restart_app", "hot", Rule(clear_s=10.0, probation_s=60.0), elsewhere, "A job stands."),
    Detector(
        COMMUNICATION_HANG, "degraded", "restart_app", "hot", Rule(clear_s=10.0, probation_s=60.0), elsewhere,
        "A collective does not end.",
    ),
    Detector(STRAGGLER, "degraded", "replace", "hot", Rule(clear_s=60.0), elsewhere, "A rank is slower than others."),
    Detector(
        COMMUNICATION_SLOW, "degraded", "ticket", "hot", Rule(3, 5, 60.0), elsewhere, "A connection or rank is slow."
    ),
)  # fmt: skip
