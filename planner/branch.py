"""The cheapest whole replica counts that carry one workload, proved by branch and bound on the counts alone.

Minimise    c·y     over whole y, lower <= y <= upper, side rows, y carries the workload (`planner.transport`)

A node is a box of counts. Its bound is a Lagrangian one: for any capacity prices m,
    c·y >= F(m) + sum_g min over the box of (c[g] - m[g]) y[g],
so every cut found anywhere bounds every node without solving anything. Only when all known cuts are too weak is the
small linear program solved and new prices asked. Counts are tried by rounding up every relaxed point. Branching takes
the option whose two children the known cuts already bound best: strong branching for the price of a matrix product.

The linear program is right to a tolerance, and its counts are whole to one; several buckets may each be smaller than
that. So whole counts are believed only with a `Mixture` whose load they hold; where rounding has dropped a count that
was needed, the counts are refuted over themselves alone, and the search goes on around them.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.boxes import around, parted
from planner.transport import MOST_REPLICAS, Floats, Mixture, Transport

_TOLERANCE = 1e-7  # of a count (of 1 below 1): what the linear program may be off by
_ROUNDING = 5e-7  # of a count: counts may be overloaded by so much, which makes up for `_TOLERANCE`
_OVERLOAD = 9e-7  # of a count: no answer exceeds it, whatever the linear program left over
_EPSILON_USD = 1e-9
_EPSILON_RATIO = 1e-9  # a cost and a bound this close are equal
_WHOLE_STEPS = 1e-5  # a bound this little above a whole number of price steps may owe it to rounding
# Measured on instances of 60 to 400 buckets: 2 rounds of pricing, then branch, needs the least CPU time.
_ROUNDS_BEFORE_BRANCHING = 2
_MOST_ROUNDS = 400


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop: after `nodes`, when `stop()` says so, when the gap is small enough, or at a cost of `enough`."""

    nodes: int = 200_000
    gap_ratio: float = 0.0
    gap_usd: float = 0.0
    enough: float = -math.inf
    stop: Callable[[], bool] | None = None

    def stopped(self) -> bool:
        """True when `stop()` says so."""
        return self.stop is not None and self.stop()

    def reached(self, nodes: int) -> bool:
        """True when the search must end."""
        return nodes >= self.nodes or self.stopped()


@dataclass(frozen=True, slots=True)
class Counts:
    """`counts` None = nothing found, nothing exists if `bound` is inf; `seen`: all feasible counts met on the way.

    With counts goes how they carry the workload.
    """

    counts: Floats | None
    cost: float
    bound: float
    nodes: int
    how: Mixture | None = None
    seen: tuple[tuple[Floats, Mixture], ...] = ()


@dataclass(order=True, slots=True)
class _Node:
    bound: float
    order: int
    counts: Floats = field(compare=False)
    lower: Floats = field(compare=False)
    upper: Floats = field(compare=False)


def _slack(counts: Floats) -> Floats:
    """By how much counts may be off."""
    slack: Floats = _TOLERANCE * np.maximum(counts, 1.0)
    return slack


def price_step(costs: Floats) -> float:
    """The largest step of which all costs are whole multiples (0 when there is none of at least $0.0001)."""
    units = np.round(costs * 1e4)
    if np.any(np.abs(units - costs * 1e4) > 1e-6) or not units.any():
        return 0.0
    return float(np.gcd.reduce(units.astype(np.int64))) / 1e4


class _Search:
    """State of one branch and bound."""

    def __init__(self, transport: Transport, costs: Floats, upper: Floats, cutoff: float, limits: Limits) -> None:
        self.transport, self.costs, self.upper, self.cutoff, self.limits = transport, costs, upper, cutoff, limits
        self.step = price_step(costs)
        self.best: Floats | None = None
        self.how: Mixture | None = None
        self.cost = math.inf
        self.closed = math.inf  # the least bound of what was pruned
        self.nodes = 0
        self.seen: dict[bytes, tuple[Floats, Mixture]] = {}
        self.refuted: set[bytes] = set()

    def pruned(self, bound: float) -> bool:
        """True when a box of this bound holds nothing worth a look."""
        if bound > self.cutoff or self.cost <= self.limits.enough:
            return True
        if self.cost == math.inf:
            return False
        slack = max(_EPSILON_USD, self.limits.gap_usd, max(_EPSILON_RATIO, self.limits.gap_ratio) * self.cost)
        return self.rounded(bound) >= self.cost - slack

    def rounded(self, bound: float) -> float:
        """A bound, rounded up to the next cost there can be."""
        if not self.step or not math.isfinite(bound):
            return bound
        return max(bound, math.ceil(bound / self.step - _WHOLE_STEPS) * self.step)

    def offer(self, fractional: Floats, how: Mixture) -> None:
        """Round up: if the relaxed counts carry the workload, so do the next whole ones."""
        counts = np.ceil(fractional - _slack(fractional))
        if (how.load > counts * (1 + _ROUNDING)).any():  # rounding dropped a little that was needed
            if float(self.costs @ counts) < self.cost - _EPSILON_USD:
                self.holds(counts)
            counts = np.maximum(counts, np.ceil(how.load))
        if self._allowed(counts):
            self._take(counts, how)

    def holds(self, counts: Floats) -> bool:
        """Whether whole counts keep the limits and carry the workload, by themselves; if so, they are taken."""
        key = counts.tobytes()
        if key in self.seen:
            return True
        if key in self.refuted or not self._allowed(counts):
            return False
        how = self.transport.over(counts * (1 + _ROUNDING))
        if how is None or (how.load > counts * (1 + _OVERLOAD)).any():
            self.refuted.add(key)
            return False
        self._take(counts, how)
        return True

    def _allowed(self, counts: Floats) -> bool:
        side = self.transport.side
        return bool((counts <= self.upper).all() and (side.matrix @ counts <= side.limits + _EPSILON_USD).all())

    def _take(self, counts: Floats, how: Mixture) -> None:
        self.seen.setdefault(counts.tobytes(), (counts, how))
        cost = float(self.costs @ counts)
        if cost < self.cost - _EPSILON_USD:
            self.cost, self.best, self.how = cost, counts, how

    def bound(self, lower: Floats, upper: Floats) -> tuple[float, Floats | None]:
        """A lower bound of the box, and its relaxed counts, or None when the box is done with."""
        proved, counts = self._bound(lower, upper)
        return self.rounded(proved), counts

    def _bound(self, lower: Floats, upper: Floats) -> tuple[float, Floats | None]:
        self.nodes += 1
        transport = self.transport
        bounds, _ = transport.cut_bounds(lower, upper)
        best = int(bounds.argmax())
        proved, centre = float(bounds[best]), transport.prices[best]
        if self.pruned(proved):
            return proved, None
        now = None
        for round_ in range(_MOST_ROUNDS):
            now = transport.relax(lower, upper)
            if now is None:
                return math.inf, None
            if now.unserved <= _EPSILON_USD:
                self.offer(now.counts, transport.mixture(now.weights))
            known = transport.cuts
            learnt = transport.learn(now, centre)
            bounds, _ = transport.cut_bounds(lower, upper, known)
            if bounds.max() > proved:
                proved, centre = float(bounds.max()), transport.prices[known + int(bounds.argmax())]
            if self.pruned(proved):
                return proved, None
            if not learnt:
                return (math.inf, None) if now.unserved > _TOLERANCE else (proved, now.counts)
            if self.limits.stopped():
                break
            off = np.abs(now.counts - np.round(now.counts)) / np.maximum(now.counts, 1.0)
            whole = bool(off.max() <= 10 * _TOLERANCE)  # then there is nothing to branch on
            if round_ >= _ROUNDS_BEFORE_BRANCHING and not whole and not self.pruned(now.value):
                break
        assert now is not None
        return proved, now.counts

    def branch_on(self, node: _Node, fraction: Floats) -> int:
        """The fractional option whose two children the known cuts bound best (product of gains)."""
        base, net = self.transport.cut_bounds(node.lower, node.upper)
        choice, best = int(np.argmax(fraction)), -1.0
        for option in np.flatnonzero(fraction):
            price, floor = net[:, option], math.floor(node.counts[option])
            low, high = node.lower[option], node.upper[option]
            rest = base - np.where(price > 0, price * low, price * high)
            down = float((rest + np.where(price > 0, price * low, price * floor)).max()) - node.bound
            up = float((rest + np.where(price > 0, price * (floor + 1), price * high)).max()) - node.bound
            share, cost = fraction[option], 1e-3 * self.costs[option]
            score = (max(down, 0.0) + cost * share) * (max(up, 0.0) + cost * (1 - share))
            if score > best:
                choice, best = int(option), score
        return choice


def _children(search: _Search, node: _Node) -> list[_Node]:
    slack = _slack(node.counts)
    fraction = node.counts - np.floor(node.counts + slack)
    fraction[fraction < slack] = 0.0
    if fraction.any():
        option = search.branch_on(node, fraction)
        floor = float(math.floor(node.counts[option]))
        boxes = parted(node.lower, node.upper, option, floor, floor + 1)
    elif search.holds(np.floor(node.counts + slack)):  # only rounding noise keeps the bound below its cost
        search.closed = min(search.closed, node.bound)
        return []
    else:
        boxes = around(node.lower, node.upper, np.floor(node.counts + slack), node.counts)
    children = []
    for lower, upper in boxes:
        bound, counts = search.bound(lower, upper)
        bound = max(bound, node.bound)
        if counts is None or search.pruned(bound):
            search.closed = min(search.closed, bound)
        else:
            children.append(_Node(bound, search.nodes, counts, lower, upper))
    return sorted(children)


def cheapest(
    transport: Transport,
    costs: Floats,
    *,
    upper: Floats | None = None,
    lower: Floats | None = None,
    cutoff: float = math.inf,
    limits: Limits | None = None,
    known: Sequence[tuple[Floats, Mixture]] = (),
) -> Counts:
    """The cheapest whole counts in a box that carry the workload. `known`: feasible counts to start from.

    What costs more than `cutoff` is not looked at: counts that are found may cost more, but are then not the cheapest.
    """
    limits = limits or Limits()
    transport.charge(costs)
    most = np.full(transport.options, MOST_REPLICAS) if upper is None else np.minimum(upper, MOST_REPLICAS)
    low = np.zeros(transport.options) if lower is None else lower
    search = _Search(transport, costs, most, cutoff, limits)
    _, split = transport.price(np.concatenate([costs, np.zeros(len(transport.side.limits))]))
    transport.keep(split)
    for counts, how in known:
        search.offer(np.maximum(counts, low), how)
    for load, split in zip(transport.split_loads, transport.splits, strict=True):  # exact: one replica for the least
        counts = np.where(load > 0, np.maximum(load, 1.0), 0.0)
        search.offer(np.maximum(counts, low), Mixture(np.ones(1), (split,), load))
    if (worth := min(search.cost, cutoff)) < math.inf:  # nothing dearer than what is in hand is worth a look
        affordable = np.full_like(most, MOST_REPLICAS)
        np.divide(worth, costs, out=affordable, where=costs > 0)
        most = np.maximum(np.minimum(most, np.floor(affordable + _TOLERANCE)), low)
    bound, relaxed = search.bound(low, most)
    stack: list[_Node] = []
    heap: list[_Node] = []
    if relaxed is None:
        search.closed = bound
    else:
        stack.append(_Node(bound, 0, relaxed, low, most))
    while (stack or heap) and not limits.reached(search.nodes):  # dive first, else the best bound
        node = stack.pop() if stack else heapq.heappop(heap)
        if search.pruned(node.bound):
            search.closed = min(search.closed, node.bound)
            continue
        children = _children(search, node)
        stack.extend(children[:1])
        for child in children[1:]:
            heapq.heappush(heap, child)
    proved = min([search.closed, search.cost, *(node.bound for node in stack + heap)])
    exhausted = not stack and not heap and limits.gap_usd == limits.gap_ratio == 0.0
    if exhausted and limits.enough < search.cost <= cutoff and search.best is not None:
        proved = search.cost  # what was pruned could at most round up to it
    return Counts(search.best, search.cost, proved, search.nodes, search.how, tuple(search.seen.values()))
