"""When to plan again, and when not. The one home of every law that starts a re-plan; pure, `now_s` is given.

Three laws read rates, all from the same recent samples:

- *Step*: the last sample lies so far above what the samples before it scatter (robust z, median and MAD) and above what
  is planned that noise cannot explain it. Acts at once, upwards only.
- *Drift up*: the mean of a window, less its own uncertainty, is above the planned rate by more than a tolerance. What
  it and a longer window say together is planned for; where the rate surely rises, what it will be when a plan bears.
- *Drift down*: surely less than planned for, over a longer window, since giving capacity back late costs money, giving
  it back early costs users. After a sharp fall that window's second half says how much. It is a question: a plan that
  is not cheaper is not taken (`rollback.worth_it`), and the question is asked again when the rate is lower still.

The uncertainty of a mean uses an effective number of samples, since neighbours are alike (AR(1): n (1 - r)/(1 + r)).
Raising is asked for at once, lowering must hold for its whole window: the damping of the horizontal autoscaler's
stabilisation window. After a re-plan a service is left alone for `cool_down_s`, but not by faults or steps.

Silence is no sample: a service of which nothing was heard for `stale_s` is `stale`, and neither raised nor lowered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from controller.laws import Laws
from controller.means import mean_below, mean_between, outlook, still_late, towards

Cause = Literal[
    "first_plan", "spec_changed", "rate_step", "rate_up", "rate_down", "slo_missed", "overrun", "fault",
    "nodes_changed", "prices_changed", "power_changed", "quota_changed", "size_drift",
]  # fmt: skip
_NORMAL_MAD = 1.4826  # of a normal distribution: its standard deviation over the median of absolute deviations
LEAST_SAMPLES = 4
_MOST_STEP = 2.0  # how far above the last sample a step may end
_OF_THE_WORLD = ("fault", "nodes_changed", "prices_changed", "power_changed", "quota_changed")
_ALWAYS = "the objective was missed in all of"


@dataclass(frozen=True, slots=True)
class Sample:
    """What was heard of a service at one time. None: nothing was said of it, which is not zero."""

    at_s: float
    rate_per_s: float | None = None
    slo_met: bool | None = None
    input_tokens: float | None = None  # means of the requests that ended
    output_tokens: float | None = None
    missed: str = ""  # by which the objective was missed, in words


@dataclass(frozen=True, slots=True)
class Planned:
    """What the plan in force was made for. Versions are opaque: another one means that it changed."""

    rate_per_s: float
    at_s: float
    generation: int
    hardware: str
    prices: str
    faulty: frozenset[str] = frozenset()
    power: str = ""
    quota: str = ""
    sizes: tuple[float, float] = (1.0, 1.0)  # mean input and output tokens planned for, over those of the spec
    since_s: float | None = None  # when replicas were last moved or more was planned for; None: with this plan


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a service now: samples from the oldest, and the versions of what plans depend on."""

    generation: int
    hardware: str
    prices: str
    samples: Sequence[Sample] = ()
    faulty: frozenset[str] = frozenset()
    overruns: frozenset[str] = frozenset()  # that last, and that the plan in force was not made for
    power: str = ""
    quota: str = ""
    mean_tokens: tuple[float, float] | None = None  # input and output, as the spec has them
    carried_per_s: float | None = None  # requests per second that the ready replicas carry; None: as planned
    short_s: float = float("-inf")  # when ready replicas last carried less than was planned for
    asked_per_s: float | None = None  # the least rate for which nothing cheaper than the plan in force was found


@dataclass(frozen=True, slots=True)
class Reason:
    """Why to plan a service again, in words with numbers; `rate_per_s`, `sizes`: what to plan for where it changes."""

    cause: Cause
    text: str
    rate_per_s: float | None = None
    sizes: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reason to plan again or None; `held` says what was seen and why nothing is done about it."""

    reason: Reason | None = None
    held: str = ""
    stale: bool = False


def judge(planned: Planned | None, seen: Seen, now_s: float, laws: Laws | None = None) -> Verdict:
    """Whether a service is to be planned again. The first reason that holds, the urgent ones first.

    Whatever the reason, where surely less comes than was planned for, less is planned for.
    """
    laws = laws or Laws()
    verdict = _judged(planned, seen, now_s, laws)
    reason = verdict.reason
    if planned is None or reason is None or reason.cause not in _OF_THE_WORLD:
        return verdict
    return replace(verdict, reason=replace(reason, rate_per_s=_lower(planned, _heard(seen, now_s, laws), now_s, laws)))


def _judged(planned: Planned | None, seen: Seen, now_s: float, laws: Laws) -> Verdict:
    if planned is None:
        return Verdict(Reason("first_plan", "the service has no plan"))
    if seen.generation != planned.generation:
        return Verdict(
            Reason("spec_changed", f"the spec is generation {seen.generation}, planned {planned.generation}")
        )
    if new := seen.faulty - planned.faulty:
        return Verdict(Reason("fault", f"new faults: {', '.join(sorted(new))}"))
    known = _heard(seen, now_s, laws)
    stale = not known
    if reason := _step(planned, known, laws, planned.rate_per_s if seen.carried_per_s is None else seen.carried_per_s):
        return Verdict(reason)
    if reason := _hurt(planned, seen, now_s, laws):
        return Verdict(reason)
    if (reason := _slo(planned, seen, now_s, laws)) is not None and reason.text.startswith(_ALWAYS):
        return Verdict(reason, stale=stale)  # waiting makes nothing better
    if planned.power and seen.power != planned.power:  # a breaker does not wait
        return Verdict(Reason("power_changed", "the budget of a power domain changed"), stale=stale)
    slow = _drift(planned, known, now_s, laws, seen.asked_per_s) or _slo(planned, seen, now_s, laws)
    slow = slow or _over(planned, seen, now_s, laws) or _sizes(planned, seen, now_s, laws) or world(planned, seen)
    quiet_s = planned.at_s + laws.cool_down_s - now_s
    if slow is not None and 0 < quiet_s <= laws.cool_down_s:
        return Verdict(held=f"{slow.text}; left alone for another {quiet_s:.0f} s after the last plan", stale=stale)
    return Verdict(slow, _silence(seen, now_s) if stale and slow is None else "", stale)


def _heard(seen: Seen, now_s: float, laws: Laws) -> list[tuple[float, float]]:
    """When a rate was heard, and which; nothing where the last was too long ago."""
    rates = [(one.at_s, one.rate_per_s) for one in seen.samples if one.rate_per_s is not None and one.at_s <= now_s]
    return rates if rates and now_s - rates[-1][0] <= laws.stale_s else []


def _there_s(planned: Planned, seen: Seen, laws: Laws) -> float:
    """Since when a plan's replicas are there; one that is held for long is not waited for."""
    return max(planned.at_s, min(seen.short_s, planned.at_s + laws.lead_s))


def _silence(seen: Seen, now_s: float) -> str:
    last_s = max((one.at_s for one in seen.samples if one.rate_per_s is not None and one.at_s <= now_s), default=None)
    return "no rate was ever heard" if last_s is None else f"no rate heard for {now_s - last_s:.0f} s"


def _step(planned: Planned, rates: Sequence[tuple[float, float]], laws: Laws, carried_per_s: float) -> Reason | None:
    """A jump that the scatter of the samples before it does not explain.

    Replicas that have a queue when the new ones come serve what is late already: until it is gone, others must carry
    what comes. So the queue's growth is planned for too, up to all that they carry.
    """
    if not rates:
        return None
    at_s, last = rates[-1]
    before = [rate for then_s, rate in rates[:-1] if then_s >= at_s - laws.trend_window_s]
    if last <= planned.rate_per_s * laws.step_ratio or len(before) < LEAST_SAMPLES:
        return None
    middle = median(before)
    scatter = _NORMAL_MAD * median(abs(rate - middle) for rate in before)
    if last <= middle + laws.step_z * max(scatter, middle * laws.up_tolerance_ratio):
        return None
    # A sample is the mean of a window, of which the new rate has only the part since the last samples.
    then_s, then = rates[-2]
    part = min((at_s - then_s) / laws.sample_s, 1.0) if at_s > then_s else 1.0
    now = min(max(last, then + (last - then) / part), _MOST_STEP * last)
    text = f"{last:.3g} requests/s after {middle:.3g}, planned for {planned.rate_per_s:.3g}"
    late = min(max(now - carried_per_s, 0.0) * laws.queue_lead_ratio, carried_per_s)
    return Reason("rate_step", text, max(now + late, now * (1 + laws.queue_headroom_ratio)))


def _drift(
    planned: Planned, rates: Sequence[tuple[float, float]], now_s: float, laws: Laws, asked_per_s: float | None
) -> Reason | None:
    """A mean that is surely above or below the plan."""
    short = [rate for at_s, rate in rates if at_s > now_s - laws.up_window_s]
    sooner = mean_between(short, laws.certain_z)[0] if len(short) >= LEAST_SAMPLES else 0.0
    if sooner > planned.rate_per_s * (1 + laws.up_tolerance_ratio):
        mean = sum(short) / len(short)
        known = [row for row in rates if row[0] > max(now_s - laws.trend_window_s, planned.at_s)]
        found = outlook(known, laws.up_window_s, now_s, now_s + laws.lead_s, laws.certain_z) if known else mean
        ahead = min(max(sooner, found), mean * laws.step_ratio)
        reason = _rates("rate_up", planned, mean, laws.up_window_s)
        return replace(reason, text=reason.text + towards(ahead, mean, laws.lead_s), rate_per_s=ahead)
    if 0 <= now_s - (planned.at_s if planned.since_s is None else planned.since_s) < laws.down_window_s:
        return None  # what was planned stays for as long as a fall must
    lower, window_s = _lower(planned, rates, now_s, laws), laws.down_window_s
    if lower is None:
        return None
    after = mean_below(rates, now_s - window_s / 2, lower * (1 - laws.down_tolerance_ratio), laws.certain_z)
    if after is not None:  # what came before is over
        lower, window_s = max(after, sum(short) / len(short)), window_s / 2
    asked = asked_per_s is not None and lower >= asked_per_s * (1 - laws.ask_again_ratio)
    return None if asked else _rates("rate_down", planned, lower, window_s)


def _lower(planned: Planned, rates: Sequence[tuple[float, float]], now_s: float, laws: Laws) -> float | None:
    """What comes where that is surely less than what was planned for; None where it is not."""
    long = [rate for at_s, rate in rates if at_s > now_s - laws.down_window_s]
    short = [rate for at_s, rate in rates if at_s > now_s - laws.up_window_s]
    if not short or len(long) < 2 * LEAST_SAMPLES or rates[0][0] > now_s - laws.down_window_s:
        return None  # not heard for as long as lowering asks
    lately = sum(short) / len(short)
    less = max(mean_between(long, laws.certain_z)[1], lately) < planned.rate_per_s * (1 - laws.down_tolerance_ratio)
    return max(sum(long) / len(long), lately) if less else None


def _rates(cause: Cause, planned: Planned, rate: float, window_s: float) -> Reason:
    return Reason(cause, f"{rate:.3g} requests/s over {window_s:.0f} s, planned for {planned.rate_per_s:.3g}", rate)


def _sizes(planned: Planned, seen: Seen, now_s: float, laws: Laws) -> Reason | None:
    """Requests are surely longer or shorter than planned for: another load at the same rate."""
    if seen.mean_tokens is None:
        return None
    lately = [one for one in seen.samples if now_s - laws.trend_window_s / 2 < one.at_s <= now_s]
    rows = [(a, b) for one in lately if (a := one.input_tokens) is not None and (b := one.output_tokens) is not None]
    if len(rows) < 4 * LEAST_SAMPLES:
        return None
    sizes, drifted = [], []
    for i, word in enumerate(("prompts", "answers")):
        low, high = mean_between([row[i] for row in rows], laws.certain_z)
        usual = seen.mean_tokens[i] * planned.sizes[i]
        sizes.append((low + high) / 2 / seen.mean_tokens[i])
        if low > usual * (1 + laws.size_tolerance_ratio) or high < usual * (1 - laws.size_tolerance_ratio):
            drifted.append(f"{word} of {(low + high) / 2:.0f} tokens, planned for {usual:.0f}")
    return Reason("size_drift", " and ".join(drifted), sizes=(sizes[0], sizes[1])) if drifted else None


def _hurt(planned: Planned, seen: Seen, now_s: float, laws: Laws) -> Reason | None:
    """More comes than is planned for, and the objective is missed for it: nobody waits for a whole window."""
    since_s = _there_s(planned, seen, laws) + laws.sample_s
    last = [one for one in seen.samples if since_s < one.at_s <= now_s][-2 * LEAST_SAMPLES :]
    rates = [one.rate_per_s for one in last if one.rate_per_s is not None and one.slo_met is False]
    if len(rates) < 2 * LEAST_SAMPLES:
        return None
    if mean_between(rates, laws.certain_z)[0] <= planned.rate_per_s * (1 + laws.up_tolerance_ratio):
        return None
    mean = sum(rates) / len(rates)
    text = f"the objective is missed at {mean:.3g} requests/s, planned for {planned.rate_per_s:.3g}"
    return Reason("rate_up", text, mean * (1 + laws.queue_headroom_ratio))


def _slo(planned: Planned, seen: Seen, now_s: float, laws: Laws) -> Reason | None:
    """The objective was missed in most of a window that began when what was planned was there."""
    there_s = _there_s(planned, seen, laws)
    since_s = max(now_s - laws.slo_window_s, there_s)
    told = [one.slo_met for one in seen.samples if one.slo_met is not None and since_s < one.at_s <= now_s]
    if len(told) < LEAST_SAMPLES or now_s - there_s < laws.slo_window_s:
        return None
    missed, more = told.count(False) / len(told), _more(planned, seen, now_s, laws)
    if missed <= laws.slo_missed_ratio or more <= planned.rate_per_s:
        return None
    often = _ALWAYS if missed == 1 else f"the objective was missed in {missed:.0%} of"
    return Reason("slo_missed", f"{often} the last {laws.slo_window_s:.0f} s", more)


def _over(planned: Planned, seen: Seen, now_s: float, laws: Laws) -> Reason | None:
    """Replicas have been over what their plan gives them for a whole window: they are to have less to do."""
    if not seen.overruns or still_late(seen.samples, seen.short_s, now_s, laws):
        return None
    first, *others = sorted(seen.overruns)
    text = f"over what was planned: {first}" + (f" and {len(others)} more" if others else "")
    return Reason("overrun", text, _more(planned, seen, now_s, laws))


def _more(planned: Planned, seen: Seen, now_s: float, laws: Laws) -> float:
    """Headroom above what was planned for, or what comes where that is more; not for ever, nor where it is late."""
    since_s = max(now_s - laws.slo_window_s, planned.at_s)
    lately = [one.rate_per_s for one in seen.samples if one.rate_per_s is not None and since_s < one.at_s <= now_s]
    comes = sum(lately) / len(lately) if lately else planned.rate_per_s
    late = still_late(seen.samples, seen.short_s, now_s, laws)
    more = max(planned.rate_per_s, comes) * (1.0 if late else 1 + laws.slo_headroom_ratio)
    return min(more, max(planned.rate_per_s, comes * (1 + laws.most_headroom_ratio)))


def world(planned: Planned, seen: Seen) -> Reason | None:
    """What else there is to plan with, or on."""
    if seen.hardware != planned.hardware:
        return Reason("nodes_changed", "nodes came, went or were mended")
    if seen.prices != planned.prices:
        return Reason("prices_changed", "prices changed")
    if seen.quota != planned.quota:
        return Reason("quota_changed", "what quotas leave of GPUs in the namespace changed")
    if planned.faulty - seen.faulty:
        return Reason("nodes_changed", f"mended: {', '.join(sorted(planned.faulty - seen.faulty))}")
    return None
