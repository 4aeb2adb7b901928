"""Leases: takeover after the lease was seen unchanged for its whole length; a leader stops before that."""

from datetime import UTC, datetime

import pytest

from controller.kube import lease

WALL = datetime(2026, 1, 2, 3, 4, 5, 0, UTC)
TERMS = lease.Terms()
HELD = lease.taken({}, "a", TERMS, WALL)


def test_a_micro_time_has_six_digits_even_at_a_full_second() -> None:
    assert lease.micro_time(WALL) == "2026-01-02T03:04:05.000000Z"


def test_a_lease_is_taken_only_after_it_was_seen_unchanged_for_its_length() -> None:
    seen = lease.see(None, HELD, 100.0)
    assert lease.decide(seen, "b", False, 115.0, TERMS) == "wait"
    assert lease.decide(seen, "b", False, 115.1, TERMS) == "take"
    again = lease.see(seen, lease.renewed(HELD, WALL.replace(second=7)), 114.0)
    assert lease.decide(again, "b", False, 128.9, TERMS) == "wait"
    assert lease.see(seen, dict(HELD), 114.0).since_s == 100.0


def test_what_is_left_of_a_lease_counts_from_when_it_was_first_seen_so() -> None:
    seen = lease.see(lease.see(None, HELD, 100.0), dict(HELD), 109.0)
    assert lease.left_s(seen, 109.0, TERMS) == 6.0
    assert lease.left_s(lease.see(None, lease.released(HELD, WALL), 100.0), 100.0, TERMS) == 1.0


def test_a_leader_stops_five_seconds_before_another_may_take_over() -> None:
    assert lease.may_write(100.0, 109.9, TERMS)
    assert not lease.may_write(100.0, 110.0, TERMS)
    assert lease.decide(lease.see(None, HELD, 100.0), "b", False, 115.0, TERMS) == "wait"


def test_a_restarted_leader_does_not_renew_the_lease_of_its_earlier_life() -> None:
    seen = lease.see(None, HELD, 100.0)
    assert lease.decide(seen, "a", True, 101.0, TERMS) == "renew"
    assert lease.decide(seen, "a", False, 101.0, TERMS) == "wait"


def test_a_released_lease_is_taken_at_once_with_a_higher_epoch() -> None:
    free = lease.released(HELD, WALL)
    assert lease.decide(lease.see(None, free, 0.0), "b", False, 0.0, TERMS) == "take"
    assert (lease.epoch(free), lease.epoch(lease.taken(free, "b", TERMS, WALL))) == (1, 2)


def test_terms_that_leave_no_gap_between_two_leaders_are_refused() -> None:
    with pytest.raises(ValueError, match=r"renew_s=15\.0, lease_s=15"):
        lease.Terms(renew_s=15.0)
