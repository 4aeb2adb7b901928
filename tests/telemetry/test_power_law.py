"""The two-threshold law, step by step on a clock of its own."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from telemetry.power_law import PowerPolicy, PowerState, caps, decide

POLICY = PowerPolicy()


def run(powers: Sequence[float | None], state: PowerState | None = None, start_s: float = 0.0) -> PowerState:
    """One reading a second."""
    now = PowerState() if state is None else state
    for turn, power in enumerate(powers):
        now = decide(POLICY, now, power, start_s + turn)
    return now


def test_below_the_first_threshold_nobody_is_capped() -> None:
    assert caps(POLICY, run([0.79] * 100)) == {"low": 1.0, "high": 1.0}


def test_at_the_first_threshold_low_priority_is_capped_and_high_is_not() -> None:
    assert caps(POLICY, run([0.80])) == {"low": 1275 / 1410, "high": 1.0}


def test_at_the_second_low_goes_further_and_high_follows_only_if_that_is_not_enough() -> None:
    first = run([0.90])
    assert caps(POLICY, first) == {"low": 1110 / 1410, "high": 1.0}
    assert caps(POLICY, run([0.90] * 2, first, 1.0))["high"] == 1.0  # the cap has not shown yet
    assert caps(POLICY, run([0.90] * 3, first, 1.0))["high"] == 1305 / 1410
    assert caps(POLICY, run([0.85] * 100, first, 1.0))["high"] == 1.0


def test_at_the_budget_everything_is_braked_at_once() -> None:
    assert set(caps(POLICY, run([0.7, 1.0])).values()) == {288 / 1410}


def test_caps_are_released_one_step_a_hold_and_only_five_percent_below() -> None:
    capped = run([0.90] * 5)
    assert (capped.low, capped.high) == (2, 1)
    assert run([0.845] * 1000, capped, 5.0) == run([0.845], capped, 1004.0)  # 0.845 is not below 0.84
    high_free = run([0.83] * 61, capped, 5.0)
    assert (high_free.low, high_free.high) == (2, 0)
    low_one = run([0.83] * 61, high_free, 66.0)
    assert low_one.low == 1
    assert run([0.76] * 1000, low_one, 127.0).low == 1
    assert run([0.74] * 61, low_one, 127.0).low == 0


def test_a_short_dip_releases_nothing() -> None:
    capped = run([0.90] * 5)
    wavering = run(([0.70] * 30 + [0.86]) * 20, capped, 5.0)
    assert (wavering.low, wavering.high) == (2, 1)


def test_silence_is_taken_for_the_second_threshold() -> None:
    seen = run([0.5])
    assert run([None] * 3, seen, 1.0) == seen
    assert run([None] * 4, seen, 1.0).low == 2


@given(st.lists(st.one_of(st.none(), st.floats(0, 1.2)), max_size=200))
def test_high_priority_is_never_capped_before_low_is_at_its_hardest(powers: list[float | None]) -> None:
    state = PowerState()
    for turn, power in enumerate(powers):
        state = decide(POLICY, state, power, float(turn))
        given_caps = caps(POLICY, state)
        assert given_caps["high"] >= given_caps["low"]
        assert given_caps["high"] == 1.0 or state.low == 2
