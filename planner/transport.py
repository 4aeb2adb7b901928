"""Which replica counts can carry a workload: the transport polytope seen from the counts alone.

Data        w[g, s]   replicas of option g that bucket s keeps busy when g carries all of it; inf = g cannot serve s
Question    for which counts y is there a split x >= 0, sum_g x[g, s] = 1, sum_s w[g, s] x[g, s] <= y[g] ?
Answer      y carries the workload iff for all prices m >= 0:   m·y >= F(m) = sum_s min_g m[g] w[g, s]
            (linear-programming duality: m[g] prices the capacity of option g; each bucket goes where it is cheapest)

So thousands of shares become a handful of counts. Every price vector ever tried is a valid inequality (a *cut*) for
every later problem over the same workload, whatever its costs and bounds; every cheapest split for some prices is a
*split* whose convex combinations are shares. `Transport` keeps both, and a small linear program over counts and splits.
Side rows `rows @ y <= limits` (a budget, a fleet size) are carried along: their multipliers enter the cuts.
The linear program counts in blocks of replicas and of dollars, so that fleets of any size look alike to the solver.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.highs import INFINITY, LinearModel, Outcome, Resolved, columns_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_REPLICAS = 1e10  # of one option; whoever needs more is taken as never served
_NEVER = 1e30  # stands for an infinite load, so that argmin has no nan to meet
_BLOCKS = 1e5  # a fleet is at most about this many blocks
_LEAST_PRICE = 1e-12  # a capacity that costs nothing still may not carry what it cannot serve
_TOLERANCE = 1e-9
_DUST = 1e-12  # weights below it are noise of the linear program


@dataclass(frozen=True, slots=True)
class SideRows:
    """Linear limits on counts: matrix @ y <= limits; matrix is (rows, options)."""

    matrix: Floats
    limits: Floats

    @staticmethod
    def none(options: int) -> "SideRows":
        """No limits."""
        return SideRows(np.zeros((0, options)), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Relaxed:
    """The cheapest fractional counts within bounds, over the splits known so far.

    `unserved` is the part of the workload that found no capacity. `prices` (m and the side rows' multipliers) and
    `worth` (what carrying the whole workload is worth) are the duals.
    """

    value: float
    counts: Floats
    weights: Floats
    unserved: float
    prices: Floats
    worth: float


@dataclass(frozen=True, slots=True)
class Mixture:
    """A way to carry the whole workload: splits, their weights (sum 1), and the replicas they keep busy by option."""

    weights: Floats
    splits: tuple[Ints, ...]
    load: Floats

    def shares(self) -> Floats:
        """x[g, s]; each bucket's shares sum to 1."""
        x = np.zeros((len(self.load), len(self.splits[0])))
        each = np.arange(x.shape[1])
        for weight, split in zip(self.weights, self.splits, strict=True):
            x[split, each] += weight
        shares: Floats = x / x.sum(axis=0)
        return shares


class Transport:
    """Cuts and splits of one workload, grown as they are needed. `load` is w above, shape (options, buckets)."""

    def __init__(self, load: Floats, costs: Floats, side: SideRows | None = None) -> None:
        self.options, self.buckets = load.shape
        self.side = side or SideRows.none(self.options)
        self._load = np.where(np.isfinite(load), load, _NEVER)
        self._each = np.arange(self.buckets)
        self.splits: list[Ints] = []  # for each split, which option carries bucket s
        self.split_loads: list[Floats] = []
        self.prices: list[Floats] = []  # of each cut: m, then the multipliers of the side rows
        self._cut_prices = np.empty((64, self.options))
        self._cut_least = np.empty(64)
        self.cuts = 0
        self.costs = costs
        self._usd = _power_of_two(float(costs.max(initial=0.0)))
        self._block = max(1.0, _power_of_two(float(self.greedy_load(costs).sum()) / _BLOCKS))
        self._index: type[np.uint8] | type[np.uint32] = np.uint8 if self.options <= 256 else np.uint32
        self._lp = Resolved(self._model(costs))
        whole = np.flatnonzero(np.isfinite(load).all(axis=1))
        for option in whole:  # one option alone is always worth knowing
            self.keep(np.full(self.buckets, option))

    def _model(self, costs: Floats) -> LinearModel:
        """Columns: counts, the unserved part, splits. Rows: capacity by option, the whole workload, side rows."""
        options, extra = self.options, len(self.side.limits)
        # Leaving work undone must never pay: far dearer than the cheapest unlimited fleet.
        fleet = float(self._scaled(costs) @ np.ceil(self.greedy_load(costs))) / self._block
        penalty = 1e4 * (fleet + float(self._scaled(costs).max(initial=0.0)) + 1.0)
        side_row, side_col = np.nonzero(self.side.matrix)
        matrix = columns_of(
            np.concatenate([np.arange(options + 1), options + 1 + side_row]).astype(np.int32),
            np.concatenate([np.arange(options + 1), side_col]).astype(np.int32),
            np.concatenate([np.ones(options + 1), self.side.matrix[side_row, side_col]]),
            options + 1,
        )
        return LinearModel(
            cost=np.append(self._scaled(costs), penalty),
            lower=np.zeros(options + 1),
            upper=np.full(options + 1, INFINITY),
            row_lower=np.concatenate([np.zeros(options), [1.0], np.full(extra, -INFINITY)]),
            row_upper=np.concatenate([np.full(options, INFINITY), [1.0], self.side.limits / self._block]),
            matrix=matrix,
        )

    def _scaled(self, costs: Floats) -> Floats:
        """Costs as the linear program has them: of a block of replicas, in blocks of dollars."""
        return costs / self._usd

    def greedy_load(self, prices: Floats) -> Floats:
        """Load by option when every bucket goes where it is cheapest."""
        split = np.argmin(np.maximum(prices, _LEAST_PRICE)[:, None] * self._load, axis=0)
        return self.load_of(split)

    def load_of(self, split: Ints) -> Floats:
        """Replicas kept busy, by option, under a split."""
        busy: Floats = np.bincount(split, self._load[split, self._each], self.options).astype(np.float64)
        return busy

    def charge(self, costs: Floats) -> None:
        """Change the costs; cuts and splits stay valid."""
        self.costs = costs
        self._lp.charge(self._scaled(costs))

    def keep(self, split: Ints) -> bool:
        """Offer a split to the linear program; False when it uses an option for what it cannot serve."""
        load = self.load_of(split)
        if load.max(initial=0.0) >= _NEVER / 1e3:
            return False
        self._lp.add(np.concatenate([-load / self._block, [1.0], np.zeros(len(self.side.limits))]))
        self.splits.append(split.astype(self._index))  # there may be many splits of many buckets
        self.split_loads.append(load)
        return True

    def price(self, prices: Floats) -> tuple[float, Ints]:
        """F(m) and the split that attains it; remembers the cut. `prices` may carry side multipliers behind m."""
        capacity = np.maximum(prices[: self.options], _LEAST_PRICE)
        multipliers = prices[self.options :]
        split = np.argmin(capacity[:, None] * self._load, axis=0)
        least = float(capacity[split] @ self._load[split, self._each])
        self.prices.append(np.concatenate([capacity, multipliers]))
        self._remember(capacity - multipliers @ self.side.matrix, least - float(multipliers @ self.side.limits))
        return least, split

    def _remember(self, net: Floats, least: float) -> None:
        if self.cuts == len(self._cut_least):
            self._cut_prices = np.concatenate([self._cut_prices, np.empty_like(self._cut_prices)])
            self._cut_least = np.concatenate([self._cut_least, np.empty_like(self._cut_least)])
        self._cut_prices[self.cuts], self._cut_least[self.cuts] = net, least
        self.cuts += 1

    def cut_bounds(self, lower: Floats, upper: Floats, since: int = 0) -> tuple[Floats, Floats]:
        """What each cut from number `since` on proves of the cost of a box, and its net price of each option."""
        net = self.costs - self._cut_prices[since : self.cuts]
        return self._cut_least[since : self.cuts] + np.where(net > 0, net * lower, net * upper).sum(axis=1), net

    def relax(self, lower: Floats, upper: Floats) -> Relaxed | None:
        """The linear program over the splits known so far; None when bounds and side rows forbid all counts."""
        found = self._lp.solve(lower / self._block, upper / self._block)
        if found.outcome is not Outcome.OPTIMAL:
            return None
        options = self.options
        prices = np.concatenate(
            [np.maximum(found.row_dual[:options], 0.0), np.maximum(-found.row_dual[options + 1 :], 0.0)]
        )
        total = self._usd * self._block
        return Relaxed(
            value=found.objective * total,
            counts=found.x[:options] * self._block,
            weights=found.x[options + 1 :],
            unserved=float(found.x[options]),
            prices=prices * self._usd,
            worth=float(found.row_dual[options]) * total,
        )

    def learn(self, now: Relaxed, centre: Floats) -> bool:
        """Ask for a split that would make the relaxed counts cheaper; False when there is none: `now` is then exact."""
        small = 1e-9 * max(1.0, abs(now.worth))
        # Prices halfway to the best known ones zigzag less (in-out separation).
        for prices in (0.5 * now.prices + 0.5 * centre, now.prices):
            _, split = self.price(prices)
            improves = float(now.prices[: self.options] @ self.load_of(split)) < now.worth - small
            if improves and self.keep(split):
                return True
        return False

    def mixture(self, weights: Floats) -> Mixture:
        """The known splits so weighted, less what is noise."""
        used = np.flatnonzero(weights > _DUST)
        parts: Floats = weights[used] / weights[used].sum()
        load = parts @ np.array([self.split_loads[i] for i in used])
        return Mixture(parts, tuple(self.splits[i] for i in used), load)

    def shares(self, weights: Floats) -> Floats:
        """x[g, s] of a convex combination of splits; each bucket's shares sum to 1."""
        return self.mixture(weights).shares()

    def carries(self, counts: Floats, rounds: int = 400) -> Relaxed | None:
        """The split of the workload over exactly these counts, or None when they cannot carry it."""
        for _ in range(rounds):
            now = self.relax(counts, counts)
            if now is None:
                return None
            if now.unserved <= _TOLERANCE:
                return now
            least, split = self.price(now.prices)
            afforded = float(now.prices[: self.options] @ counts)
            if least > afforded * (1 + _TOLERANCE) + _TOLERANCE:
                return None  # a cut: at these prices the workload is worth more than the counts can carry
            if not self.keep(split):
                return None
        return None

    def over(self, counts: Floats) -> Mixture | None:
        """A way over exactly these counts, or None; unlike in `carries` an option of count 0 is out, not nearly out.

        To the solver's tolerance 1e-7 replicas are none, but to a bucket that keeps less than that busy they are many.
        """
        use = np.flatnonzero(counts > 0)
        if not (self._load[use] < _NEVER).any(axis=0).all():
            return None
        part = Transport(self._load[use], self.costs[use])
        place = np.full(self.options, -1)
        place[use] = np.arange(len(use))
        for split in self.splits:
            if (place[split] >= 0).all():
                part.keep(place[split])
        found = part.carries(counts[use])
        if found is None:
            return None
        how, load = part.mixture(found.weights), np.zeros(self.options)
        load[use] = how.load
        return Mixture(how.weights, tuple(use[split] for split in how.splits), load)


def _power_of_two(value: float) -> float:
    """The power of two just above a value, 1 for 0: dividing by it rounds nothing."""
    return math.ldexp(1.0, math.frexp(value)[1]) if value > 0 else 1.0
