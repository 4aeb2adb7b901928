"""The laws of re-planning: noise moves nothing, a step is followed at once, silence is not zero."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from controller.laws import Laws
from controller.rollback import worse, worth_it
from controller.trigger import Planned, Sample, Seen, Verdict, judge

TICK_S, DAY_S = 15.0, 86_400.0


def planned(rate: float = 100.0, at_s: float = 0.0, faulty: frozenset[str] = frozenset()) -> Planned:
    return Planned(rate, at_s, 1, "h", "p", faulty)


def seen(*samples: Sample, **other: object) -> Seen:
    return Seen(**{"generation": 1, "hardware": "h", "prices": "p", "samples": samples, **other})  # type: ignore[arg-type]


def steady(rate: float, until_s: float, since_s: float = 0.0) -> list[Sample]:
    count = int((until_s - since_s) / TICK_S)
    return [Sample(since_s + i * TICK_S, rate) for i in range(count + 1)]


def cause(verdict: Verdict) -> str | None:
    return verdict.reason.cause if verdict.reason else None


def day(rate_at: Callable[[float], float], plan: Planned, each: float = 10.0) -> list[tuple[float, str]]:
    """Every move of a day: replicas carry so many requests/s `each`, and plans that are worth it are taken at once."""
    window: list[Sample] = []
    made: list[tuple[float, str]] = []
    asked: float | None = None
    replicas = math.ceil(plan.rate_per_s / each)
    for tick in range(int(DAY_S / TICK_S)):
        now_s = tick * TICK_S
        window = [*window[-130:], Sample(now_s, rate_at(now_s))]
        found = judge(plan, seen(*window, asked_per_s=asked), now_s).reason
        if found is None:
            continue
        rate = found.rate_per_s or plan.rate_per_s
        after = math.ceil(rate / each)
        if not worth_it(found.cause, replicas, after):
            asked = rate
            continue
        if after != replicas:
            made.append((now_s, found.cause))
        plan, replicas, asked = planned(rate, now_s), after, None
    return made


def test_a_quota_that_changed_is_planned_with_after_the_usual_pause_and_one_as_it_was_is_not() -> None:
    under = replace(planned(), quota="q1.8")
    assert judge(under, seen(quota="q1.8"), 10_000.0).reason is None
    assert cause(judge(under, seen(quota="q2.8"), 10_000.0)) == "quota_changed"
    assert cause(judge(planned(), seen(quota="q1.8"), 10_000.0)) == "quota_changed"
    soon = judge(under, seen(quota="q1.4"), 10.0)
    assert soon.reason is None
    assert "left alone" in soon.held


def test_a_service_without_a_plan_and_one_with_a_new_spec_are_planned() -> None:
    assert cause(judge(None, seen(), 0.0)) == "first_plan"
    assert cause(judge(planned(), seen(generation=2), 0.0)) == "spec_changed"


def test_a_new_fault_is_a_reason_once_and_its_end_another() -> None:
    gpu = frozenset({"node-1/GPU-3"})
    assert cause(judge(planned(), seen(faulty=gpu), 1.0)) == "fault"
    assert judge(planned(faulty=gpu), seen(faulty=gpu), 1.0).reason is None
    assert cause(judge(planned(faulty=gpu), seen(), 10_000.0)) == "nodes_changed"


def test_the_rate_that_was_planned_for_is_no_reason() -> None:
    samples = steady(100.0, 3600.0)
    assert judge(planned(), seen(*samples), 3600.0).reason is None


def test_a_threefold_step_is_followed_in_the_tick_in_which_it_is_seen() -> None:
    samples = [*steady(100.0, 3600.0), Sample(3615.0, 300.0)]
    verdict = judge(planned(), seen(*samples), 3615.0)
    assert cause(verdict) == "rate_step"
    assert verdict.reason is not None
    assert verdict.reason.rate_per_s == pytest.approx(300.0 * 2 * 1.2)  # a window of 60 s has 15 s of it: it is more


def test_a_step_is_followed_even_just_after_a_plan() -> None:
    samples = [*steady(100.0, 3600.0), Sample(3615.0, 300.0)]
    assert cause(judge(planned(at_s=3500.0), seen(*samples), 3615.0)) == "rate_step"


def test_a_rise_of_a_fifth_that_stays_is_drift() -> None:
    samples = [*steady(100.0, 3600.0), *steady(120.0, 3915.0, 3615.0)]
    assert cause(judge(planned(), seen(*samples), 3915.0)) == "rate_up"
    assert judge(planned(), seen(*samples[:-16]), 3675.0).reason is None  # one minute of it is not enough


def test_a_fall_must_hold_for_the_long_window() -> None:
    samples = [*steady(100.0, 3600.0), *steady(50.0, 5400.0, 3615.0)]
    assert judge(planned(), seen(*samples[:-60]), 4500.0).reason is None
    verdict = judge(planned(), seen(*samples), 5415.0)
    assert cause(verdict) == "rate_down"


def test_drift_waits_for_the_cool_down_and_says_so() -> None:
    samples = [*steady(100.0, 3600.0), *steady(120.0, 3915.0, 3615.0)]
    verdict = judge(planned(at_s=3600.0), seen(*samples), 3915.0)
    assert verdict.reason is None
    assert "left alone for another 285 s" in verdict.held


def test_silence_is_held_and_told_never_read_as_no_load() -> None:
    samples = steady(100.0, 3600.0)
    verdict = judge(planned(), seen(*samples), 10_000.0)
    assert (verdict.reason, verdict.stale, verdict.held) == (None, True, "no rate heard for 6400 s")
    gaps = [Sample(one.at_s) for one in steady(0.0, 10_000.0, 3615.0)]
    assert judge(planned(), seen(*samples, *gaps), 10_000.0).stale


def test_samples_from_the_future_of_a_clock_set_back_are_not_used() -> None:
    samples = [*steady(100.0, 3600.0), Sample(7200.0, 900.0)]
    assert judge(planned(), seen(*samples), 3605.0).reason is None


def test_a_plan_that_seems_to_come_from_the_future_does_not_stop_the_laws_for_ever() -> None:
    samples = [*steady(100.0, 3600.0), *steady(150.0, 3915.0, 3615.0)]
    assert cause(judge(planned(at_s=7500.0), seen(*samples), 3915.0)) == "rate_up"


@pytest.mark.parametrize("spread", ["uniform", "normal"])
def test_thirty_percent_of_noise_moves_nothing_on_a_steady_day(spread: str) -> None:
    draw = random.Random(7)

    def rate(_: float) -> float:
        noise = draw.uniform(-0.3, 0.3) if spread == "uniform" else draw.gauss(0.0, 0.3)
        return max(100.0 * (1 + noise), 0.0)

    assert day(rate, planned()) == []


def test_a_noisy_diurnal_day_moves_at_most_once_a_cool_down() -> None:
    draw = random.Random(11)
    made = day(lambda at: max((100 + 60 * math.sin(at * math.tau / DAY_S)) * (1 + draw.gauss(0, 0.3)), 0.0), planned())
    gaps = [later - before for (before, _), (later, _) in pairwise(made)]
    assert 2 <= len(made) <= 24
    assert min(gaps) >= Laws().cool_down_s


def wandering(seed: int) -> Callable[[float], float]:
    draw, level = random.Random(seed), 0.0

    def rate(_: float) -> float:
        nonlocal level
        level = 0.9 * level + draw.gauss(0.0, 0.05)
        return 100.0 * math.exp(level)

    return rate


def test_noise_that_is_alike_from_sample_to_sample_moves_little() -> None:
    days = [day(wandering(seed), planned(115.0), each=50.0) for seed in range(4)]
    assert sum(map(len, days)) <= 4 * 12  # of 144 windows each
    for (before_s, _), (then_s, why) in pairwise(day(wandering(3), planned(115.0))):
        assert then_s - before_s >= (Laws().down_window_s if why == "rate_down" else Laws().cool_down_s)


def test_what_the_longer_window_says_is_planned_for_and_not_the_moment_that_looked_like_more() -> None:
    draw = random.Random(5)
    made = []
    for _ in range(20):
        rates = [Sample(at_s, 113 * (1 + draw.gauss(0.0, 0.1))) for at_s in range(0, 3601, 15)]
        made += [
            found.rate_per_s
            for now_s in range(1800, 3601, 15)
            if (found := judge(planned(), seen(*rates), float(now_s)).reason) is not None
        ]
    assert len(made) > 20
    assert sum(rate for rate in made if rate) / len(made) == pytest.approx(113, abs=1)


def test_a_fault_is_planned_for_at_what_comes_now_where_that_is_surely_less() -> None:
    gpu = frozenset({"node-1/GPU-3"})
    for rate, want in ((100.0, None), (95.0, None), (60.0, 60.0), (140.0, None)):
        verdict = judge(planned(at_s=3500.0), seen(*steady(rate, 3600.0), faulty=gpu), 3600.0)
        assert verdict.reason is not None
        assert (verdict.reason.cause, verdict.reason.rate_per_s) == ("fault", want)


def test_a_miss_counts_from_when_what_was_planned_is_there_but_a_plan_that_is_held_is_not_waited_for() -> None:
    samples = [Sample(at_s, 100.0, slo_met=False) for at_s in range(0, 3601, 15)]
    assert cause(judge(planned(at_s=3200.0), seen(*samples), 3600.0)) == "slo_missed"
    assert judge(planned(at_s=3200.0), seen(*samples, short_s=3400.0), 3600.0).reason is None
    more = [*samples, *(Sample(at_s, 108.0, slo_met=False) for at_s in range(3601, 3901, 15))]
    found = judge(planned(at_s=2000.0), seen(*more, short_s=3890.0), 3900.0).reason
    assert found is not None
    assert found.rate_per_s == pytest.approx(108.0, rel=0.02)  # what comes, with nothing on top


def test_a_backlog_of_when_replicas_were_missing_is_no_reason_for_headroom() -> None:
    missed = [Sample(at_s, 100.0, slo_met=False) for at_s in range(0, 3601, 15)]
    plan, laws = planned(at_s=600.0), Laws()
    assert cause(judge(plan, seen(*missed), 3600.0)) == "slo_missed"
    for short_s in (3600.0, 3400.0, 3300.0 - laws.lead_s + 1):  # missing now, and until lately with nothing met since
        assert judge(plan, seen(*missed, short_s=short_s), 3600.0).reason is None
        over = seen(*missed, short_s=short_s, overruns=frozenset({"GPU 1 of a-0 serves later than its objective"}))
        assert judge(plan, over, 3600.0).reason is None
    assert cause(judge(plan, seen(*missed, short_s=3300.0 - laws.lead_s), 3600.0)) == "slo_missed"
    met_once = [replace(one, slo_met=one.at_s == 3000.0) for one in missed]
    assert cause(judge(plan, seen(*met_once, short_s=2990.0), 3600.0)) == "slo_missed"


def test_less_is_asked_for_once_and_again_when_still_less_comes() -> None:
    samples = steady(80.0, 5400.0)
    assert cause(judge(planned(), seen(*samples), 5400.0)) == "rate_down"
    assert judge(planned(), seen(*samples, asked_per_s=80.0), 5400.0).reason is None
    assert cause(judge(planned(), seen(*steady(76.0, 5400.0), asked_per_s=80.0), 5400.0)) == "rate_down"
    assert judge(planned(at_s=4000.0), seen(*samples), 5400.0).reason is None  # a plan stays for as long as a fall must
    assert not worth_it("rate_down", 10.0, 9.8)
    assert worth_it("rate_down", 10.0, 9.0)
    assert worth_it("rate_up", 10.0, 10.0)


def test_what_came_before_a_sharp_fall_is_not_planned_for() -> None:
    draw = random.Random(9)
    surge = [Sample(i * TICK_S, 300 * (1 + draw.gauss(0.0, 0.05))) for i in range(200)]
    after = [Sample((200 + i) * TICK_S, 100 * (1 + draw.gauss(0.0, 0.05))) for i in range(100)]
    found = judge(planned(300.0), seen(*surge, *after), 299 * TICK_S).reason
    assert found is not None
    assert found.cause == "rate_down"
    assert found.rate_per_s == pytest.approx(100, rel=0.03)
    assert "over 900 s, planned for 300" in found.text
    gpu = frozenset({"node-1/GPU-3"})
    fault = judge(planned(300.0, at_s=3500.0), seen(*surge, *after, faulty=gpu), 299 * TICK_S).reason
    assert fault is not None
    assert fault.rate_per_s == pytest.approx(133, rel=0.03)  # nobody asked whether the fall is for good


@pytest.mark.parametrize("jump", [1.2, 1.25, 1.3, 1.35])
def test_a_rise_at_one_moment_is_planned_for_as_a_whole(jump: float) -> None:
    for seed in range(8):
        draw, plan = random.Random(seed), planned()
        samples: list[Sample] = []
        for tick in range(360):
            rate = 100 * (jump if tick >= 240 else 1.0)
            samples.append(Sample(tick * TICK_S, rate * (1 + draw.gauss(0.0, 0.04))))
            found = judge(plan, seen(*samples), tick * TICK_S).reason
            if found is not None:
                assert found.cause == "rate_up"
                plan = planned(found.rate_per_s or 0.0, tick * TICK_S)
        assert 0.95 <= plan.rate_per_s / (100 * jump) < 1.15


def test_less_is_asked_for_while_a_plan_is_renewed_as_it_was_but_not_soon_after_a_move() -> None:
    samples = steady(80.0, 5400.0)
    renewed = replace(planned(at_s=4700.0), since_s=3000.0)
    assert cause(judge(renewed, seen(*samples), 5400.0)) == "rate_down"
    assert judge(replace(renewed, since_s=None), seen(*samples), 5400.0).reason is None


def test_a_missed_objective_counts_from_the_plan_and_when_most_of_a_window_misses() -> None:
    missed = [Sample(3600.0 + i * TICK_S, 100.0, i % 4 == 0) for i in range(20)]
    samples = [*steady(100.0, 3585.0), *missed]
    assert cause(judge(planned(), seen(*samples), 3890.0)) == "slo_missed"
    assert judge(planned(at_s=3700.0), seen(*samples), 3890.0).reason is None


def test_what_is_missed_though_twice_as_much_is_planned_for_is_not_mended_by_more() -> None:
    missed = [Sample(at_s, 100.0, slo_met=False) for at_s in range(0, 3601, 15)]
    plan, made = planned(at_s=0.0), []
    for _ in range(20):
        if (found := judge(replace(plan, since_s=3500.0), seen(*missed), 3600.0).reason) is None:
            break
        made.append(found.cause)
        plan = planned(found.rate_per_s or 0.0)
    assert set(made) == {"slo_missed"}
    assert plan.rate_per_s == pytest.approx(200.0)


def test_new_nodes_new_prices_and_overruns_that_last_are_reasons() -> None:
    samples = steady(100.0, 3600.0)
    assert cause(judge(planned(), seen(*samples, hardware="h2"), 3600.0)) == "nodes_changed"
    assert cause(judge(planned(), seen(*samples, prices="p2"), 3600.0)) == "prices_changed"
    over = seen(*samples, overruns=frozenset({"GPU 1 of a-0 serves later than its objective"}))
    verdict = judge(planned(), over, 3600.0)
    assert cause(verdict) == "overrun"
    assert verdict.reason is not None
    assert verdict.reason.rate_per_s == pytest.approx(110.0)
    held = judge(planned(at_s=3590.0), over, 3600.0)
    assert (held.reason, "left alone" in held.held) == (None, True)


def told(*met: tuple[float, bool], rate_per_s: float = 10.0) -> Seen:
    return Seen(1, "", "", tuple(Sample(at_s, rate_per_s, ok) for at_s, ok in met))


BEFORE = [(1000.0 - 15 * i, True) for i in range(20, 0, -1)]
SINCE = [(1000.0 + 15 * i, False) for i in range(1, 21)]


def test_a_plan_that_makes_the_objective_worse_is_gone_back_from() -> None:
    plan = Planned(10.0, 1000.0, 1, "", "")
    assert "0% of the samples before this plan and in 100% since" in worse(plan, told(*BEFORE, *SINCE), 1301.0)


@pytest.mark.parametrize(
    ("seen", "now_s"),
    [
        (told(*BEFORE, *SINCE), 1200.0),  # too soon to say
        (told(*SINCE), 1301.0),  # nobody heard how it was before
        (told(*[(at_s, False) for at_s, _ in BEFORE], *SINCE), 1301.0),  # it was as bad before
        (told(*BEFORE, *[(at_s, True) for at_s, _ in SINCE]), 1301.0),  # it is well
        (told(*BEFORE, *SINCE, rate_per_s=20.0), 1301.0),  # more comes than was planned for
        (told(), 1301.0),  # silence
    ],
)
def test_nothing_is_gone_back_from_without_a_reason(seen: Seen, now_s: float) -> None:
    assert worse(Planned(10.0, 1000.0, 1, "", ""), seen, now_s) == ""


def test_a_power_budget_that_changes_is_planned_for_at_once() -> None:
    before = replace(planned(), at_s=0.0, power="a")
    verdict = judge(before, replace(seen(*steady(100.0, 60.0)), power="b"), 60.0)
    assert cause(verdict) == "power_changed"


def test_longer_answers_are_planned_for_once_they_are_sure() -> None:
    longer = [replace(one, input_tokens=512.0, output_tokens=200.0) for one in steady(100.0, 3600.0)]
    verdict = judge(planned(), replace(seen(*longer), mean_tokens=(512.0, 128.0)), 3600.0)
    assert cause(verdict) == "size_drift"
    assert verdict.reason is not None
    assert verdict.reason.sizes == pytest.approx((1.0, 200 / 128))
    known = replace(planned(), sizes=(1.0, 200 / 128))
    assert judge(known, replace(seen(*longer), mean_tokens=(512.0, 128.0)), 3600.0).reason is None


def test_a_rise_is_looked_ahead_and_noise_is_not() -> None:
    rising = [Sample(at_s, 100 + at_s / 36) for at_s in range(0, 3601, 15)]
    verdict = judge(planned(), seen(*rising), 3600.0)
    assert cause(verdict) == "rate_up"
    assert verdict.reason is not None
    assert verdict.reason.rate_per_s == pytest.approx(196 + 600 / 36, rel=0.02)


def test_a_plan_that_more_requests_came_after_is_not_gone_back_from() -> None:
    before = [Sample(at_s, 100.0, True) for at_s in range(0, 600, 15)]
    since = [Sample(at_s, 300.0, False) for at_s in range(615, 1215, 15)]
    made = replace(planned(), at_s=600.0, rate_per_s=290.0)
    assert worse(made, seen(*before, *since), 1200.0) == ""


def test_an_objective_that_is_missed_for_more_requests_than_planned_waits_for_nothing() -> None:
    made = replace(planned(), at_s=1000.0)
    lately = [Sample(at_s, 115.0, False) for at_s in range(1075, 1195, 15)]
    assert cause(judge(made, seen(*lately), 1190.0)) == "rate_up"
