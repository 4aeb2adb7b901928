"""Whether to take a plan, and when to go back to what ran before one. Pure."""

from controller.laws import Laws
from controller.trigger import LEAST_SAMPLES, Cause, Planned, Seen


def worth_it(cause: Cause, before_usd: float, after_usd: float, laws: Laws | None = None) -> bool:
    """Whether to take a plan for $ per hour. One that is only for less than the one in force must save something."""
    return cause != "rate_down" or after_usd < before_usd * (1 - (laws or Laws()).least_saving_ratio)


def worse(planned: Planned, seen: Seen, now_s: float, laws: Laws | None = None) -> str:
    """Why to go back to what ran before a plan, in words; empty for no reason.

    The objective was met in most of a window before the plan and is missed in most of one since, at a rate that the
    plan was made for: then the plan is worse than it was predicted to be, and planning again would give it again.
    """
    laws = laws or Laws()
    if now_s - planned.at_s < laws.slo_window_s:
        return ""
    told = [one for one in seen.samples if one.slo_met is not None]
    before = [one.slo_met for one in told if planned.at_s - laws.slo_window_s < one.at_s <= planned.at_s]
    since = [one for one in told if now_s - laws.slo_window_s < one.at_s <= now_s and one.at_s > planned.at_s]
    if min(len(before), len(since)) < LEAST_SAMPLES:
        return ""
    if any((one.rate_per_s or 0.0) > planned.rate_per_s * (1 + laws.up_tolerance_ratio) for one in since):
        return ""  # more came than was planned for: the plan is too small, not wrong
    start_s = planned.at_s - laws.slo_window_s
    lately = [(one.at_s, one.rate_per_s) for one in told if one.rate_per_s is not None and one.at_s > start_s]
    came, comes = ([rate for at_s, rate in lately if (at_s > planned.at_s) == later] for later in (False, True))
    if came and comes and sum(came) / len(came) < (1 - laws.up_tolerance_ratio) * sum(comes) / len(comes):
        return ""  # more comes than came before: that it was met then says nothing
    was = before.count(False) / len(before)
    missed = [one.slo_met for one in since].count(False) / len(since)
    if missed <= laws.slo_missed_ratio or was >= laws.slo_missed_ratio / 2:
        return ""
    return f"the objective was missed in {was:.0%} of the samples before this plan and in {missed:.0%} since"
