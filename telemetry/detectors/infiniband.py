"""Ports of InfiniBand (and of Ethernet, where RDMA runs over it): down, flapping, erring.

Judged in `telemetry.infiniband`, where the ports are read. A drop lasts four minutes and a flap 25 s (gpud,
Apache-2.0), five flaps in a day are a fault (azurehpc-health-checks, MIT); errors in an hour are judged by the
thresholds that ibqueryerrors ships (infiniband-diags, error_thresholds).
"""

from telemetry.detector import Detector, elsewhere
from telemetry.fault import Rule

DOWN, FLAPS, ERRORS = "infiniband_down", "infiniband_flaps", "infiniband_errors"
DETECTORS = (
    Detector(DOWN, "degraded", "drain", "hot", Rule(clear_s=600.0), elsewhere, "A port that was up is down."),
    Detector(FLAPS, "degraded", "ticket", "hot", Rule(clear_s=3600.0), elsewhere, "A port goes down again and again."),
    Detector(ERRORS, "degraded", "ticket", "hot", Rule(3, 5, 3600.0), elsewhere, "A port corrupts or loses packets."),
)
