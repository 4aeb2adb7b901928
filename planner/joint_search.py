"""One service's cheapest whole counts under prices that change: a branch and bound whose tree is kept.

Minimise    p·y     over whole y, 0 <= y <= upper, y carries the workload (`planner.transport`); p changes between calls

A leaf is a box of counts. The leaves cover all counts whatever the prices, so a new call starts where the last one
ended: each leaf remembers the capacity prices that bounded it best (scaled with p they bound it again) and the splits
that its linear program used. The linear program is renewed with these alone when it has grown: its time goes with
its splits.
"""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from planner.transport import Floats, Ints, Relaxed, Transport

_TOLERANCE = 1e-7  # of a count (of 1 below 1): what the linear program may be off by
_EXACT = 1e-9
_MOST_ROUNDS = 400
_ROUNDS_BEFORE_BRANCHING = 1
_SPLITS = 120  # measured: a linear program of 900 splits takes 7 times as long as one of 65
_KEPT_SPLITS = 60


@dataclass(order=True, slots=True)
class _Leaf:
    bound: float
    order: int
    lower: Floats = field(compare=False)
    upper: Floats = field(compare=False)
    prices: Floats = field(compare=False)
    counts: Floats | None = field(compare=False, default=None)  # relaxed, under the prices of now
    splits: tuple[Ints, ...] = field(compare=False, default=())


def _key(counts: Floats) -> bytes:
    return counts.astype(np.int32).tobytes()


class Search:
    """The tree of one service and all whole counts met that carry it (`columns`)."""

    def __init__(self, load: Floats, prices: Floats, upper: Floats) -> None:
        self.load, self.upper = load, upper
        self.columns: dict[bytes, Floats] = {}
        self.best = math.inf  # the cheapest column's price
        self.nodes = 0
        self._refuted: set[bytes] = set()
        self._against: list[Floats] = []  # prices of the cuts that refuted counts
        self._leaves = [_Leaf(-math.inf, 0, np.zeros(len(upper)), upper, prices)]
        self._born = 0
        self.prices = prices
        self._renew(self._leaves)

    def _renew(self, leaves: Iterable[_Leaf]) -> None:
        """A fresh linear program under the prices of now, with the cuts and splits that the leaves remember."""
        transport = Transport(self.load, self.prices)
        self._transport = transport
        priced: set[int] = set()
        kept: set[bytes] = set()
        for leaf in leaves:
            if id(leaf.prices) not in priced:
                priced.add(id(leaf.prices))
                transport.price(leaf.prices)
            for split in leaf.splits:
                if len(kept) < _KEPT_SPLITS and split.tobytes() not in kept:
                    kept.add(split.tobytes())
                    transport.keep(split)
        for prices in self._against:
            transport.price(prices)
        if not kept:
            transport.keep(transport.price(self.prices)[1])

    def charge(self, prices: Floats) -> None:
        """Change the prices; every leaf is bounded anew by the cuts at hand."""
        scale = np.ones_like(prices)
        np.divide(prices, self.prices, out=scale, where=self.prices > 0)
        scaled: dict[int, Floats] = {}
        for leaf in self._leaves:
            leaf.prices = scaled.setdefault(id(leaf.prices), leaf.prices * scale)
        self.prices = prices
        self._renew(self._leaves)
        for leaf in self._leaves:
            leaf.bound, leaf.counts = -math.inf, None
            self._bound(leaf)
        self.best = min((float(prices @ counts) for counts in self.columns.values()), default=math.inf)

    def tighten(self, nodes: int, gap_usd: float) -> float:
        """Raise the lower bound on p·y by visiting up to `nodes` boxes, or until it is this close to the best column.

        Returns the bound; inf when no counts within the limits carry the workload.
        """
        heap, last = self._leaves, self.nodes + nodes
        heapq.heapify(heap)
        while heap and self.nodes < last and heap[0].bound < self.best - gap_usd:
            leaf = heapq.heappop(heap)
            if len(self._transport.splits) > _SPLITS:
                self._renew([leaf, *sorted(heap)])
            for child in [leaf] if leaf.counts is None else self._children(leaf):
                if self._visit(child, gap_usd):
                    heapq.heappush(heap, child)
        return min([self.best, *(leaf.bound for leaf in heap[:1])])

    def _bound(self, leaf: _Leaf, since: int = 0) -> None:
        bounds, _ = self._transport.cut_bounds(leaf.lower, leaf.upper, since)
        tightest = int(bounds.argmax())
        if bounds[tightest] > leaf.bound:
            leaf.bound, leaf.prices = float(bounds[tightest]), self._transport.prices[since + tightest]

    def _visit(self, leaf: _Leaf, gap_usd: float) -> bool:
        """Bound a box by its linear program; False when nothing in it carries the workload."""
        self.nodes += 1
        transport = self._transport
        self._bound(leaf)
        for round_ in range(_MOST_ROUNDS):
            if leaf.bound >= self.best - gap_usd:
                break
            now = transport.relax(leaf.lower, leaf.upper)
            if now is None:
                return False
            served = now.unserved <= _EXACT
            if served:
                self._offer(now.counts)
            known = transport.cuts
            learnt = self._learn(now, leaf.prices)
            self._bound(leaf, known)
            leaf.counts = now.counts
            leaf.splits = tuple(transport.splits[i] for i in np.flatnonzero(now.weights > _EXACT))
            if not learnt:
                return now.unserved <= _TOLERANCE
            if round_ >= _ROUNDS_BEFORE_BRANCHING and served and self._fraction(now.counts).any():
                break
        return True

    def _offer(self, relaxed: Floats) -> None:
        """Round up: if the relaxed counts carry the workload, so do the next whole ones."""
        counts = np.ceil(relaxed - _TOLERANCE * np.maximum(relaxed, 1.0))
        if (counts <= self.upper).all():
            self.add(counts)

    def add(self, counts: Floats) -> None:
        """Remember counts that are known to carry the workload."""
        self.columns.setdefault(_key(counts), counts)
        self.best = min(self.best, float(self.prices @ counts))

    def _learn(self, now: Relaxed, centre: Floats) -> bool:
        """Ask for a split that makes the relaxed counts cheaper; False when there is none: `now` is exact."""
        small = _EXACT * max(1.0, abs(now.worth))
        for prices in (0.5 * now.prices + 0.5 * centre, now.prices):  # halfway to the best known ones zigzags less
            _, split = self._transport.price(prices)
            improves = float(now.prices @ self._transport.load_of(split)) < now.worth - small
            if improves and self._transport.keep(split):
                return True
        return False

    @staticmethod
    def _fraction(counts: Floats) -> Floats:
        slack = _TOLERANCE * np.maximum(counts, 1.0)
        fraction: Floats = counts - np.floor(counts + slack)
        fraction[fraction < slack] = 0.0
        return fraction

    def _children(self, leaf: _Leaf) -> list[_Leaf]:
        assert leaf.counts is not None
        fraction = self._fraction(leaf.counts)
        if fraction.any():
            option = self._branch_on(leaf, leaf.counts, fraction)
        elif self.verify(np.round(leaf.counts)):  # the cheapest of its box: only rounding noise keeps its bound lower
            leaf.bound = float(self.prices @ np.round(leaf.counts))
            return [leaf]
        else:
            option = int((leaf.upper - leaf.lower).argmax())
            if leaf.lower[option] == leaf.upper[option]:
                return []
        floor = min(math.floor(leaf.counts[option]), leaf.upper[option] - 1.0)
        children = []
        for low, high in ((leaf.lower[option], float(floor)), (floor + 1.0, leaf.upper[option])):
            if low <= high:
                self._born += 1
                lower, upper = leaf.lower.copy(), leaf.upper.copy()
                lower[option], upper[option] = low, high
                children.append(_Leaf(leaf.bound, self._born, lower, upper, leaf.prices, None, leaf.splits))
        return children

    def _branch_on(self, leaf: _Leaf, counts: Floats, fraction: Floats) -> int:
        """The fractional option whose two children the known cuts bound best (product of gains)."""
        base, net = self._transport.cut_bounds(leaf.lower, leaf.upper)
        choice, best = int(np.argmax(fraction)), -1.0
        for option in np.flatnonzero(fraction):
            price, floor, share = net[:, option], math.floor(counts[option]), fraction[option]
            low, high, cost = leaf.lower[option], leaf.upper[option], 1e-3 * self.prices[option]
            rest = base - np.where(price > 0, price * low, price * high)
            down = float((rest + np.where(price > 0, price * low, price * floor)).max()) - leaf.bound
            up = float((rest + np.where(price > 0, price * (floor + 1), price * high)).max()) - leaf.bound
            score = (max(down, 0.0) + cost * share) * (max(up, 0.0) + cost * (1 - share))
            if score > best:
                choice, best = int(option), score
        return choice

    def refutes(self, counts: Floats) -> bool:
        """Whether a known cut says that these counts do not carry the workload."""
        if _key(counts) in self._refuted:
            return True
        bounds, _ = self._transport.cut_bounds(counts, counts)
        cost = float(self.prices @ counts)
        return bool(bounds.max() > cost * (1 + _EXACT) + _EXACT)

    def verify(self, counts: Floats) -> bool:
        """Whether these counts carry the workload, exactly; what is learnt is remembered."""
        if _key(counts) in self.columns:
            return True
        if self.refutes(counts):
            return False
        if len(self._transport.splits) > 2 * _SPLITS:
            self._renew(sorted(self._leaves))
        if self._transport.carries(counts) is not None:
            self.add(counts)
            return True
        self._refuted.add(_key(counts))
        bounds, _ = self._transport.cut_bounds(counts, counts)
        self._against.append(self._transport.prices[int(bounds.argmax())])
        return False

    def cheapest(self, many: int) -> list[Floats]:
        """The columns of the least price, in order."""
        return sorted(self.columns.values(), key=lambda counts: (float(self.prices @ counts), _key(counts)))[:many]

    def neighbours(self, around: int, width_usd: float) -> list[Floats]:
        """Counts one replica fewer or swapped from the cheapest columns, priced near the best, that no cut refutes."""
        options = len(self.upper)
        eye = np.eye(options)
        moves = np.concatenate([-eye, *(eye - np.roll(eye, k, axis=0) for k in range(1, options))])
        dearer = moves @ self.prices
        found: dict[bytes, Floats] = {}
        for centre in self.cheapest(around):
            near = centre + moves[float(self.prices @ centre) + dearer < self.best + width_usd]
            for counts in near[((near >= 0) & (near <= self.upper)).all(axis=1)]:
                if _key(counts) not in self.columns and _key(counts) not in found and not self.refutes(counts):
                    found[_key(counts)] = counts
        return list(found.values())
