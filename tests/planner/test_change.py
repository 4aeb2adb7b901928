"""Re-planning with a price of change: still when nothing changes, always enough, and no dearer than foresight says."""

import itertools

import numpy as np
import pytest

from planner.change import Counts, DayPlan, Fleets, Mix, MovePrice, Outlook, Replanner, after_moves, foresight
from planner.errors import BadInput
from planner.transport import Floats

WINDOW_S = 3600.0  # so that $/h is $ a window
HOURS = 24
A_DOLLAR = MovePrice(1.0, 1.0)


def mix(seed: int | None = None) -> Mix:
    """Small: 1 request/s of each half for $1/h. Big: 4 for $3/h; only it serves the second half. Or a random one."""
    if seed is None:
        return Mix(np.array([[0.5, np.inf], [0.125, 0.125]]), np.array([1.0, 3.0]))
    rng = np.random.default_rng(seed)
    load = rng.uniform(0.05, 0.5, (2, 3))
    load[0, 0] = np.inf
    return Mix(load, rng.uniform(1.0, 4.0, 2).round(2))


def one_type() -> Mix:
    """1 request/s for $1/h: the cheapest fleet of a rate is the rate, rounded up."""
    return Mix(np.array([[1.0]]), np.array([1.0]))


def run(of: Mix, before: Floats, rates: Floats, first: Counts, price: MovePrice = A_DOLLAR) -> Counts:
    """The fleets chosen window by window."""
    replanner = Replanner(of, WINDOW_S, Outlook(windows_per_day=HOURS, windows=12, days=2, shifts=(0,)))
    seen, now, out = before, first, []
    for rate in rates:
        seen = np.append(seen, rate)
        now = replanner.next_counts(seen, now, price)
        out.append(now)
    return np.array(out)


def usd_of(of: Mix, counts: Counts, first: Counts, price: MovePrice) -> float:
    """Cost of fleets one after the other, with their moves."""
    change = np.diff(np.vstack([first, counts]), axis=0)
    moved = price.start_usd * change.clip(min=0).sum() + price.stop_usd * (-change).clip(min=0).sum()
    return float((counts @ of.usd_per_hour).sum() + moved)


def by_trying_all(of: Mix, most: tuple[int, ...], rates: Floats, first: Counts, price: MovePrice) -> float:
    """The least cost over every sequence of fleets."""
    fleets = [np.array(y) for y in itertools.product(*(range(n + 1) for n in most))]
    able = [[y for y in fleets if of.carries(y, float(rate))] for rate in rates]
    return min(usd_of(of, np.array(days), first, price) for days in itertools.product(*able))


def square_wave(days: int, low: float = 2.0, high: float = 6.0) -> Floats:
    """Twelve hours low, twelve hours high, every day."""
    return np.tile(np.repeat([low, high], HOURS // 2), days)


def test_a_constant_rate_moves_nothing_after_the_first_window() -> None:
    rates = np.full(10, 7.3)
    counts = run(mix(), np.empty(0), rates, np.array([0, 0]))
    assert (counts == counts[0]).all()
    assert counts[0].tolist() == mix().cheapest(7.3).tolist()


def test_a_fleet_that_costs_less_than_the_move_pays_back_is_kept() -> None:
    # 3 replicas run, 2 are enough: stopping one costs $1 and saves $0.01 an hour, $0.13 in the 13 hours looked at.
    cheap = Mix(np.array([[1.0]]), np.array([0.01]))
    assert run(cheap, np.empty(0), np.full(5, 2.0), np.array([3]))[:, 0].tolist() == [3] * 5


def test_a_square_wave_is_followed_when_half_a_day_pays_for_the_moves() -> None:
    # 4 replicas for 12 hours: $48 against $8 of moves.
    counts = run(one_type(), square_wave(2), square_wave(1), np.array([6]))
    assert counts[:, 0].tolist() == [2] * 12 + [6] * 12


def test_a_short_spike_starts_what_it_needs_and_nothing_else_moves() -> None:
    rates = np.full(8, 8.0)
    rates[3] = 9.0
    first = mix().cheapest(8.0)
    counts = run(mix(), np.full(2 * HOURS, 8.0), rates, first)
    change = np.diff(np.vstack([first, counts]), axis=0)
    assert (change[:3] == 0).all()
    assert (change[3] >= 0).all()
    assert change[3].sum() == 1
    assert np.abs(change).sum() <= 2  # and what was started is at most stopped again


def test_a_ramp_starts_one_by_one_and_stops_nothing() -> None:
    ramp = np.linspace(1.0, 12.0, 12)
    counts = run(one_type(), np.empty(0), ramp, np.array([1]))
    assert counts[:, 0].tolist() == list(range(1, 13))


def test_a_window_without_traffic_does_not_stop_a_fleet_that_is_needed_next() -> None:
    rates = np.array([5.0, 0.0, 5.0])
    counts = run(one_type(), np.full(2 * HOURS, 5.0), rates, np.array([5]))
    assert counts[:, 0].tolist() == [5, 5, 5]


@pytest.mark.parametrize("seed", range(4))
def test_every_fleet_carries_its_window_also_far_above_all_that_was_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = rng.uniform(0.0, 10.0, 30)
    rates[20] = 35.0
    of = mix(seed)
    counts = run(of, rng.uniform(0.0, 10.0, 2 * HOURS), rates, np.array([1, 1]))
    assert all(of.carries(y, float(r)) for y, r in zip(counts, rates, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_foresight_is_the_best_of_all_sequences_of_fleets(seed: int) -> None:
    of, rng = mix(seed), np.random.default_rng(seed)
    rates, first, price = rng.uniform(0.5, 4.0, 3), np.array([1, 0]), MovePrice(*rng.uniform(0.0, 2.0, 2))
    fleets = Fleets.of(of, float(rates.max()), first)
    plan: DayPlan = foresight(fleets, rates, first, price, WINDOW_S)
    assert plan.usd == pytest.approx(by_trying_all(of, fleets.most, rates, first, price))
    assert usd_of(of, plan.counts, first, price) == pytest.approx(plan.usd)
    assert all(of.carries(y, float(r)) for y, r in zip(plan.counts, rates, strict=True))


def test_foresight_costs_no_more_than_replanning() -> None:
    rng = np.random.default_rng(1)
    rates, before, first = rng.uniform(2.0, 8.0, 24), rng.uniform(2.0, 8.0, 48), np.array([1, 1])
    counts = run(mix(), before, rates, first)
    fleets = Fleets.up_to(mix(), np.array([12, 6]), Fleets.of(mix(), 12.0, first).cut)
    assert (counts <= np.array(fleets.most)).all()
    assert foresight(fleets, rates, first, A_DOLLAR, WINDOW_S).usd <= usd_of(mix(), counts, first, A_DOLLAR) + 1e-9


def test_the_sweeps_find_the_cheapest_move_between_all_pairs_of_fleets() -> None:
    value, price = np.random.default_rng(2).uniform(0.0, 10.0, (3, 4, 2)), MovePrice(0.7, 1.3)
    every = list(itertools.product(*map(range, value.shape)))

    def move(here: tuple[int, ...], there: tuple[int, ...]) -> float:
        change = np.array(there) - np.array(here)
        return float(0.7 * change.clip(min=0).sum() + 1.3 * (-change).clip(min=0).sum())

    direct = {here: min(value[there] + move(here, there) for there in every) for here in every}
    swept = after_moves(value.copy(), price)
    assert all(swept[here] == pytest.approx(direct[here]) for here in every)


def test_a_fleet_carries_what_its_table_says() -> None:
    # At 8/s the four small ones are full with the first half, and the big one with the second.
    fleets = Fleets.of(mix(), 8.0, np.array([4, 2]))
    assert fleets.rate[4, 1] == pytest.approx(8.0)
    assert fleets.rate[0, 1] == pytest.approx(4.0)
    assert not mix().carries(np.array([4, 0]), 1.0)  # the table may be too kind here; what is chosen is checked


def test_futures_are_the_days_before_scaled_to_the_present_level() -> None:
    day = np.array([1.0, 1.0, 1.0, 2.0, 3.0, 4.0])
    outlook = Outlook(windows_per_day=6, windows=3, days=1, shifts=(0,))
    assert outlook.futures(np.append(day, [0.5, 0.5])).tolist() == [[0.5, 1.0, 1.5]]


def test_no_future_exceeds_what_was_ever_seen() -> None:
    day = np.array([1.0, 1.0, 1.0, 2.0, 3.0, 4.0])
    outlook = Outlook(windows_per_day=6, windows=4, days=1, shifts=(0,))
    assert outlook.futures(np.append(day, [2.0, 2.0])).max() == 4.0


def test_with_no_day_before_the_rate_is_expected_to_stay() -> None:
    assert Outlook(windows=3).futures(np.array([4.0, 5.0])).tolist() == [[5.0, 5.0, 5.0]]


def test_a_paced_price_doubles_for_an_eighth_too_many_and_halves_for_an_eighth_too_few() -> None:
    assert A_DOLLAR.paced(made=40, moves_per_day=80, elapsed_ratio=0.5) == A_DOLLAR
    assert A_DOLLAR.paced(made=50, moves_per_day=80, elapsed_ratio=0.5) == MovePrice(2.0, 2.0)
    assert A_DOLLAR.paced(made=30, moves_per_day=80, elapsed_ratio=0.5) == MovePrice(0.5, 0.5)


@pytest.mark.parametrize("usd", [-1.0, np.nan, np.inf])
def test_a_price_that_is_none_is_refused(usd: float) -> None:
    with pytest.raises(BadInput, match=r"start_usd: got .*, allowed: 0 or more"):
        MovePrice(usd, 0.0)


@pytest.mark.parametrize("rates", [[], [1.0, -1.0], [np.nan]])
def test_rates_that_are_none_are_refused(rates: list[float]) -> None:
    with pytest.raises(BadInput, match=r"rates: got"):
        Replanner(one_type(), WINDOW_S).next_counts(np.array(rates), np.array([1]), A_DOLLAR)


def test_a_size_that_no_type_serves_is_refused() -> None:
    nowhere = Mix(np.array([[1.0, np.inf]]), np.array([1.0]))
    with pytest.raises(BadInput, match="no GPU type"):
        Replanner(nowhere, WINDOW_S).next_counts(np.array([1.0]), np.array([0]), A_DOLLAR)


def test_more_fleets_than_fit_a_table_are_refused() -> None:
    many = Mix(np.ones((9, 1)), np.ones(9))
    with pytest.raises(BadInput, match="offer fewer GPU types"):
        Fleets.up_to(many, np.full(9, 9), np.ones((1, 9)))
