"""Clocks held down by heat or by the power supply, and a power limit that is not kept.

Power capping is a way of working, no fault: only what the board or the supply forces is. Minutes are counted as gpud
does (6 of 10 for slowdowns, Apache-2.0).
"""

from telemetry.detector import Detector, Looks, whole
from telemetry.fault import Rule
from telemetry.fields import CLOCK_EVENT_MASK, CLOCK_EVENTS
from telemetry.view import View

MINUTE_S = 60.0
HOT_RATIO = 0.05  # of a minute
OVER_RATIO = 1.05  # of the enforced limit
OVER_S = 5.0
HBM_LIMIT_C = 95.0  # what memory vendors rate HBM for; where a GPU tells its own limit, the driver acts on it first


def _hot(view: View) -> Looks:
    rise = view.history.rise("hw_thermal_s", MINUTE_S)
    if rise is None:
        return {}
    ratio = rise / MINUTE_S
    return whole(ratio > HOT_RATIO, ratio, f"heat held the clocks down for {ratio:.0%} of the last minute")


def _hot_memory(view: View) -> Looks:
    seen = view.history.over("memory_temperature_c", 30.0)
    if not seen or not view.history.covers("memory_temperature_c", 30.0):
        return {}
    return whole(min(seen) > HBM_LIMIT_C, min(seen), f"memory at {min(seen):.0f} C or more for 30 s")


def _bits(view: View, reason: str) -> bool:
    """Whether a reason held the clocks down at any time in the last minute."""
    return any(int(mask) & CLOCK_EVENTS[reason] for mask in view.history.over(CLOCK_EVENT_MASK, MINUTE_S))


def _slowed(view: View) -> Looks:
    if view.get(CLOCK_EVENT_MASK) is None:
        return {}
    return whole(_bits(view, "hw_slowdown"), 1.0, "the board slowed the clocks in the last minute")


def _braked(view: View) -> Looks:
    if view.get(CLOCK_EVENT_MASK) is None:
        return {}
    return whole(_bits(view, "hw_power_brake"), 1.0, "the power supply braked the clocks in the last minute")


def _over_limit(view: View) -> Looks:
    """The mean of a second above what the driver holds the GPU to, for all of five seconds."""
    limit_w, seen = view.get("power_limit_enforced_w"), view.history.over("power_w", OVER_S)
    if not limit_w or not seen or not view.history.covers("power_w", OVER_S):
        return {}
    least_w = min(seen)
    words = f"{least_w:.0f} W or more for {OVER_S:.0f} s, the limit is {limit_w:.0f} W"
    return whole(least_w > OVER_RATIO * limit_w, least_w, words)


DETECTORS = (
    Detector(
        "thermal", "degraded", "ticket", "warm", Rule(1, 1, 300.0), _hot, "The GPU gets too hot.", every_s=MINUTE_S
    ),
    Detector("memory_hot", "degraded", "ticket", "warm", Rule(1, 1, 300.0), _hot_memory, "The memory gets too hot."),
    Detector(
        "hw_slowdown", "degraded", "ticket", "warm", Rule(6, 10, 600.0), _slowed, "The board slows the GPU.", MINUTE_S
    ),
    Detector(
        "power_brake", "degraded", "ticket", "warm", Rule(3, 10, 600.0), _braked, "The power supply brakes.", MINUTE_S
    ),
    Detector(
        "power_over_limit", "degraded", "none", "hot", Rule(1, 1, 60.0, 60.0), _over_limit, "A limit is not kept.", 1.0
    ),
)  # fmt: skip
