"""Many services planned together over one inventory whose GPUs are short: the cheapest counts within shared caps.

Data        services s with options g: c[s, g] $/h and k[s, g] GPUs of one replica, w[s, g, b] replicas that bucket b
            keeps busy; cap[t] GPUs of type t
Variables   y[s, g] whole replicas, x[s, g, b] >= 0 shares
Minimise    sum c[s, g] y[s, g]
Subject to  every bucket of every service is carried, no replica carries more than it can (`planner.transport`)
            sum of k[s, g] y[s, g] over the options g of type t <= cap[t], for every capped type t
Only the caps join the services. Give every type a price q[t] >= 0 and each service plans alone at c + q k; the sum of
their least costs less q·cap bounds the whole from below, whatever the prices. Prices come first from the relaxed
problem, which takes milliseconds, then from a master over whole columns (`planner.joint_columns`); the services'
searches keep their trees while the prices move (`planner.joint_search`). The master's choice of one column for every
service is the plan.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from planner.branch import price_step
from planner.errors import BadInput, SolverFault
from planner.joint_columns import Column, Mixed, choose, mix
from planner.joint_problem import JointAnswer, JointLimits, Problem
from planner.joint_search import Search
from planner.plan import Infeasible
from planner.transport import Floats, Transport

__all__ = ["JointAnswer", "JointLimits", "Problem", "joint"]

_TOLERANCE = 1e-7
_FRACTIONAL_ROUNDS = 200
_FRACTIONAL_GAP = 1e-4  # the relaxed problem's prices are only where the search starts
_FIRST_NODES = 100
_COLUMNS = 150  # of one service in the master
_AROUND, _NEIGHBOURS_WIDTH = 4, 0.01  # neighbours of so many columns, within this part of a service's mean cost
_CENTRED = 0.7  # prices stay so close to the best ones yet: a step that is too long zigzags
_STILL = 4  # rounds without any change after which nothing more is expected
_CLOSED_PART = 0.2  # a service whose own gap is this part of its share of the allowed gap is left alone
_OPTIMAL = 1e-9


def joint(problems: Sequence[Problem], caps: Mapping[str, int], limits: JointLimits | None = None) -> JointAnswer:
    """The cheapest plan of all services within the caps (a type without one is unlimited), with its bound and gap."""
    _check(problems, caps)
    for problem in problems:
        stranded = np.flatnonzero(~np.isfinite(problem.load).any(axis=0))
        if len(stranded):
            why = f"no option of {problem.name} serves bucket {', '.join(map(str, stranded[:5]))}"
            return _nowhere(Infeasible(why, (problem.name,), "add a GPU type that serves it, or loosen the SLO"))
    busy = [problem for problem in problems if problem.load.shape[1]]
    run = _Run(busy, caps, limits or JointLimits())
    rounds = run.solve() if busy else 0
    if run.infeasible is not None:
        return _nowhere(run.infeasible, rounds)
    if busy and run.plan is None:
        return JointAnswer("unknown", None, run.bound, None, {}, {}, rounds)
    return _answer(problems, caps, run, rounds)


def _check(problems: Sequence[Problem], caps: Mapping[str, int]) -> None:
    names = [problem.name for problem in problems]
    if len(set(names)) < len(names):
        raise BadInput(f"services: got {', '.join(names)}, allowed: every name once")
    for gpu, cap in caps.items():
        if not cap >= 0:
            raise BadInput(f"cap of {gpu}: got {cap}, allowed: 0 or more")
    for problem in problems:
        options, figures = len(problem.gpu), np.concatenate([problem.usd_per_hour, problem.gpus_per_replica])
        if problem.load.shape[:1] != (options,) or len(figures) != 2 * options:
            raise BadInput(
                f"{problem.name}: got tables of unequal length, allowed: one row for each of {options} options"
            )
        if (
            np.isnan(problem.load).any()
            or (problem.load < 0).any()
            or not (np.isfinite(figures) & (figures >= 0)).all()
        ):
            raise BadInput(
                f"{problem.name}: got a load, price or GPU count that is negative or no number, allowed: 0 or more"
            )


class _Run:
    """State of one joint search: prices, bound, columns, plan."""

    def __init__(self, problems: Sequence[Problem], caps: Mapping[str, int], limits: JointLimits) -> None:
        self.problems, self.limits = problems, limits
        self.types = tuple(caps)
        self.caps = np.array([float(cap) for cap in caps.values()])
        self.uses = [
            np.array(
                [[k * (gpu == t) for gpu, k in zip(p.gpu, p.gpus_per_replica, strict=True)] for t in caps]
            ).reshape(len(caps), len(p.gpu))
            for p in problems
        ]
        self.bound, self.cost = -math.inf, math.inf
        self.plan: tuple[Column, ...] | None = None
        self.infeasible: Infeasible | None = None

    def _priced(self, service: int, prices: Floats) -> Floats:
        costs: Floats = self.problems[service].usd_per_hour + prices @ self.uses[service]
        return costs

    def _upper(self, service: int) -> Floats:
        """No option is wanted beyond its caps, nor beyond what would carry all it can carry."""
        uses, load = self.uses[service], self.problems[service].load
        most = np.ceil(np.where(np.isfinite(load), load, 0.0).sum(axis=1))
        for used, cap in zip(uses, self.caps, strict=True):
            most = np.where(used > 0, np.minimum(most, np.floor(cap / np.where(used > 0, used, 1.0))), most)
        return np.asarray(most)

    def _column(self, service: int, counts: Floats) -> Column:
        cost = float(self.problems[service].usd_per_hour @ counts)
        return Column(service, cost, self.uses[service] @ counts, counts)

    def solve(self) -> int:
        """Search until the limits say stop; returns the rounds it took."""
        prices, penalty = self._relaxed_prices()
        if self.infeasible is not None:
            return 0
        searches = [Search(p.load, self._priced(s, prices), self._upper(s)) for s, p in enumerate(self.problems)]
        centre, still, last = prices, 0, (0.0, 0.0)
        for round_ in range(self.limits.rounds):
            dual = self._dual(searches, prices, self.limits.nodes if round_ else max(_FIRST_NODES, self.limits.nodes))
            if self.infeasible is not None:
                return round_ + 1
            if dual > self.bound:
                self.bound, centre = dual, prices
            columns = self._columns(searches)
            mixed = mix(columns, len(searches), self.caps, penalty)
            penalty = np.where(mixed.over > _TOLERANCE, 2 * penalty, penalty)
            still = still + 1 if last == (self.bound, mixed.usd_per_hour) else 0
            last = self.bound, mixed.usd_per_hour
            ending = still >= _STILL or round_ + 1 == self.limits.rounds or self._stopped()
            if ending or mixed.usd_per_hour - self.bound <= 0.8 * self.limits.gap_ratio * mixed.usd_per_hour:
                self._choose(searches, columns)
            if ending or (self.plan and self.cost - self.bound <= max(_OPTIMAL, self.limits.gap_ratio) * self.cost):
                return round_ + 1
            prices = _CENTRED * centre + (1 - _CENTRED) * mixed.prices
            for s, search in enumerate(searches):
                search.charge(self._priced(s, prices))
        return self.limits.rounds

    def _stopped(self) -> bool:
        return self.limits.stop is not None and self.limits.stop()

    def _dual(self, searches: list[Search], prices: Floats, nodes: int) -> float:
        """The bound that these prices prove, after so many more nodes in every search that is not closed."""
        each = _CLOSED_PART * self.limits.gap_ratio * self.scale
        total = -float(prices @ self.caps)
        for search, problem in zip(searches, self.problems, strict=True):
            least = search.tighten(nodes, each)
            if math.isinf(least):
                self.infeasible = Infeasible(
                    f"the caps leave no whole counts that carry {problem.name}",
                    tuple(f"{t}<={cap:.0f}" for t, cap in zip(self.types, self.caps, strict=True) if t in problem.gpu),
                    f"raise the caps of the GPUs that {problem.name} can use",
                )
            total += least
        return total

    def _columns(self, searches: list[Search]) -> list[Column]:
        """The cheapest columns of every service under the prices of now."""
        return [self._column(s, counts) for s, search in enumerate(searches) for counts in search.cheapest(_COLUMNS)]

    def _choose(self, searches: list[Search], columns: list[Column]) -> None:
        """One column for every service; neighbours that no cut refutes are tried too, and verified when chosen."""
        width = _NEIGHBOURS_WIDTH * self.scale
        tried = columns + [
            self._column(s, counts) for s, search in enumerate(searches) for counts in search.neighbours(_AROUND, width)
        ]
        gap = 0.1 * self.limits.gap_ratio
        for _ in range(8):
            found = choose(tried, len(searches), self.caps, 500, gap)
            if found is None or self._offer(searches, found):
                return
            tried = [c for c in tried if not searches[c.service].refutes(c.counts)]
        known = choose(self._columns(searches), len(searches), self.caps, 500, gap)
        if known is not None:
            self._offer(searches, known)

    def _offer(self, searches: list[Search], found: Mixed) -> bool:
        """Take a plan when it is cheaper than the one in hand; False when one of its columns carries too little."""
        verified = [searches[c.service].verify(c.counts) for c in found.picked]
        if all(verified) and found.usd_per_hour < self.cost:
            self.cost, self.plan = found.usd_per_hour, found.picked
        return all(verified)

    def _relaxed_prices(self) -> tuple[Floats, Floats]:
        """Prices of the caps when counts may be fractional, and the box for the prices to come."""
        typical = max(float(p.usd_per_hour.max()) for p in self.problems)
        penalty = np.full(len(self.caps), 10 * typical + 1e-6)
        for _ in range(4):
            bound, prices, mixed = self._relaxed([p.usd_per_hour for p in self.problems], penalty)
            if mixed.over.max(initial=0.0) <= 1e-6:
                break
            nothing = [np.zeros(len(p.gpu)) for p in self.problems]
            short, conflict, least = self._relaxed(nothing, np.ones(len(self.caps)))
            if short > 1e-6 * (1 + float(self.caps.max())):
                self.infeasible = self._conflict(conflict, least.over)
                break
            penalty = 100 * penalty
        self.scale = max(bound, 0.0) / len(self.problems)
        return prices, np.maximum(3 * prices, 0.5 * typical)

    def _relaxed(self, costs: list[Floats], penalty: Floats) -> tuple[float, Floats, Mixed]:
        """The problem with fractional counts, by columns that are splits of a service's workload."""
        transports = [Transport(p.load, p.usd_per_hour) for p in self.problems]
        columns: list[Column] = []
        prices = centre = np.zeros(len(self.caps))
        best = -math.inf
        for _ in range(_FRACTIONAL_ROUNDS):
            total = -float(prices @ self.caps)
            for s, transport in enumerate(transports):
                least, split = transport.price(costs[s] + prices @ self.uses[s])
                total += least
                load = transport.load_of(split)
                columns.append(Column(s, float(costs[s] @ load), self.uses[s] @ load, load))
            if total > best:
                best, centre = total, prices
            mixed = mix(columns, len(transports), self.caps, penalty)
            if mixed.usd_per_hour - best <= _FRACTIONAL_GAP * mixed.usd_per_hour:
                break
            prices = 0.5 * centre + 0.5 * mixed.prices
        return best, centre, mixed

    def _conflict(self, prices: Floats, over: Floats) -> Infeasible:
        named = [i for i in range(len(self.types)) if prices[i] > 1e-6]
        caps = tuple(f"{self.types[i]}<={self.caps[i]:.0f}" for i in named)
        more = [f"{self.types[i]} to {math.ceil(self.caps[i] + over[i])}" for i in named if over[i] > 1e-6]
        return Infeasible(
            f"the caps {', '.join(caps)} cannot hold together: the services need more of these GPUs",
            caps,
            f"raise the cap of {', '.join(more)} or more" if more else "raise these caps",
        )


def _nowhere(why: Infeasible, rounds: int = 0) -> JointAnswer:
    return JointAnswer("infeasible", None, None, None, {}, {}, rounds, why)


def _answer(problems: Sequence[Problem], caps: Mapping[str, int], run: _Run, rounds: int) -> JointAnswer:
    """The plan with its shares; every service is verified once more, and the caps are counted."""
    chosen = {run.problems[c.service].name: c.counts for c in run.plan or ()}
    counts, weights, cost = {}, {}, 0.0
    for p in problems:
        counts[p.name] = chosen.get(p.name, np.zeros(len(p.gpu)))
        cost += float(p.usd_per_hour @ counts[p.name])
        transport = Transport(p.load, p.usd_per_hour)
        carried = transport.carries(counts[p.name]) if p.load.shape[1] else None
        if carried is None and p.load.shape[1]:
            raise SolverFault(f"the counts found do not carry {p.name}")
        weights[p.name] = transport.shares(carried.weights) if carried else np.zeros(p.load.shape)
    for t, cap in caps.items():
        used = sum(
            float(p.gpus_per_replica[g] * counts[p.name][g])
            for p in problems
            for g in range(len(p.gpu))
            if p.gpu[g] == t
        )
        if used > cap + _TOLERANCE:
            raise SolverFault(f"the plan uses {used:g} {t}, allowed: {cap}")
    step = price_step(np.concatenate([p.usd_per_hour for p in problems])) if problems else 0.0
    bound = run.bound if run.problems else 0.0
    if step and math.isfinite(bound):  # every plan's cost is a whole number of steps
        bound = max(bound, math.ceil(bound / step - 1e-5) * step)
    gap = max(0.0, (cost - bound) / cost) if cost > 0 else 0.0
    optimal = gap <= _OPTIMAL
    return JointAnswer(
        "optimal" if optimal else "feasible",
        cost,
        cost if optimal else bound,
        0.0 if optimal else gap,
        counts,
        weights,
        rounds,
    )
