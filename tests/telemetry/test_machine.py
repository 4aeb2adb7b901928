"""The state machine of detectors, transition by transition."""

import math

from hypothesis import given
from hypothesis import strategies as st

from telemetry.fault import Look, Rule, State
from telemetry.machine import acted, looked, recovered

HIT, CLEAN = Look(True, 3.0, "three errors"), Look(False)
TWO_OF_THREE = Rule(hits=2, looks=3, clear_s=60.0, probation_s=600.0, grace_s=300.0)
UP_S = 1e4  # long after boot


def after(rule: Rule, *looks: Look, state: State | None = None, start_s: float = UP_S, every_s: float = 10.0) -> State:
    now = State() if state is None else state
    for turn, look in enumerate(looks):
        now = looked(now, look, rule, start_s + turn * every_s, 0.0)
    return now


def test_a_first_hit_is_suspect_and_a_second_of_three_confirms() -> None:
    assert after(TWO_OF_THREE, HIT).phase == "suspect"
    assert after(TWO_OF_THREE, HIT, CLEAN, HIT).phase == "confirmed"
    assert after(TWO_OF_THREE, HIT, CLEAN, HIT).words == "three errors"


def test_single_hits_far_apart_never_confirm() -> None:
    assert after(TWO_OF_THREE, *([HIT, CLEAN, CLEAN] * 50)).phase != "confirmed"


def test_nothing_hits_within_the_grace_after_boot() -> None:
    state = State()
    for turn in range(30):
        state = looked(state, HIT, TWO_OF_THREE, turn * 10.0, 0.0)
    assert state.phase == "healthy"
    assert looked(state, HIT, TWO_OF_THREE, 300.0, 0.0).phase == "suspect"


def test_a_confirmed_fault_goes_through_probation() -> None:
    sick = after(TWO_OF_THREE, HIT, HIT)
    clean = after(TWO_OF_THREE, *[CLEAN] * 6, state=sick, start_s=UP_S + 20)
    assert clean.phase == "probation"  # the last look came 60 s after the last hit
    assert after(TWO_OF_THREE, HIT, state=clean, start_s=UP_S + 100).phase == "confirmed"
    assert after(TWO_OF_THREE, *[CLEAN] * 61, state=clean, start_s=UP_S + 100).phase == "healthy"


def test_what_only_a_reset_ends_stays_until_one_is_seen() -> None:
    latched = Rule(clear_s=math.inf)
    sick = acted(after(latched, HIT), UP_S)
    assert sick.phase == "acted"
    assert after(latched, *[CLEAN] * 1000, state=sick).phase == "acted"
    assert recovered(sick, UP_S + 1e4).phase == "probation"


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(0, 5))
def test_no_fault_is_confirmed_with_fewer_hits_than_its_rule_asks(hits: list[bool], needed: int, more: int) -> None:
    rule = Rule(hits=needed, looks=needed + more, clear_s=1e9)
    state = after(rule, *(Look(hit) for hit in hits))
    windows = (hits[max(0, end - rule.looks) : end] for end in range(len(hits) + 1))
    assert (state.phase == "confirmed") == any(sum(window) >= needed for window in windows)
