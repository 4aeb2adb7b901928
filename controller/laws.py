"""Tolerances and windows of the laws that start a re-plan, or take one back."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Laws:
    """Tolerances and windows. A spec may override them; these suit samples each 15 s to 60 s."""

    up_tolerance_ratio: float = 0.10
    down_tolerance_ratio: float = 0.05
    ask_again_ratio: float = 0.04  # so much lower than when nothing cheaper was found
    least_saving_ratio: float = 0.05  # of a plan for less than the one in force is for
    up_window_s: float = 300.0
    down_window_s: float = 1800.0
    trend_window_s: float = 1800.0
    step_z: float = 5.0
    step_ratio: float = 1.5
    certain_z: float = 3.0
    cool_down_s: float = 600.0
    stale_s: float = 120.0
    slo_window_s: float = 300.0
    slo_missed_ratio: float = 0.5
    slo_headroom_ratio: float = 0.1  # above what comes, for a service whose plan does not hold its objective
    most_headroom_ratio: float = 1.0  # above what comes: a plan for twice that which misses is not mended by more
    queue_headroom_ratio: float = 0.2  # the same where requests queue up, which must go down again
    queue_lead_ratio: float = 1.25  # how long a queue grows before capacity is there, over how long it may take then
    lead_s: float = 600.0  # how far a rise is looked ahead: to when it may be planned again
    size_tolerance_ratio: float = 0.2
    lost_s: float = 30.0  # a node that is not ready for so long is lost
    found_s: float = 60.0  # and is back when it was ready for so long
    sample_s: float = 60.0  # the window that a sample is the mean of
