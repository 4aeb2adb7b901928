"""The cheapest sound plan of a tiny fleet problem by trying all counts: a second opinion on the fleet program.

It shares no code with the program or its check. Continuous shares are settled by a simplex method of a few lines, the
loss of a node by trying every seating of replicas in nodes.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from planner.hardware import NodeGroup
from planner.plan import Plan, PoolProfile, Profile
from planner.service import Bucket, ServiceSpec
from tests.planner.fleet_problems import Key, Problem, within_quotas

Counts = tuple[int, ...]  # replicas, one for each offer
Site = tuple[str, bool] | None  # zone, spot
Place = tuple[int, Site, str]  # id of a recipe, site, pool
Floats = npt.NDArray[np.float64]

_ALMOST = 1e-7


class Offer(NamedTuple):
    """One pool of one recipe in one node group."""

    service: ServiceSpec
    profile: Profile
    pool: PoolProfile
    group: NodeGroup

    @property
    def key(self) -> Key:
        return (self.service.name, str(self.profile.recipe), self.pool.pool, self.group.name)

    @property
    def gpus(self) -> int:
        return self.pool.gpus_per_replica


class Oracle:
    """Answers about one problem; `offers` gives the order of all counts."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.groups = problem.inventory.node_groups
        self.offers = [o for s in problem.services for o in _offers(s, problem)]
        self.mine = {s.name: [i for i, o in enumerate(self.offers) if o.service is s] for s in problem.services}
        self.tracked = [o.service.constraints.survive_nodes == 1 for o in self.offers]
        self.carries = {s.name: _carrier(s, [self.offers[i] for i in self.mine[s.name]]) for s in problem.services}

    def cheapest(self) -> tuple[float, Counts] | None:
        """$/h with the price of change, and the counts, of the cheapest sound plan; None where there is none."""
        choices = [self._choices(s) for s in self.problem.services]
        gpus = np.array([[o.gpus * (o.group is g) for g in self.groups] for o in self.offers])
        picked = np.indices([len(c) for c in choices]).reshape(len(choices), -1)
        counts = np.hstack([c[pick] for c, pick in zip(choices, picked, strict=True)])
        fits = (counts @ gpus <= [g.gpus for g in self.groups]).all(axis=1)
        plans = sorted((self.cost(c), c) for c in map(tuple, counts[fits].tolist()))
        return next(((cost, c) for cost, c in plans if self.sound(c)), None)

    def _choices(self, service: ServiceSpec) -> npt.NDArray[np.int64]:
        """Counts of a service's offers that would do if it had the inventory for itself and no node were lost."""
        mine = self.mine[service.name]
        by_group = [[i for i in mine if self.offers[i].group is g] for g in self.groups]
        fillings = [
            _fillings([self.offers[i].gpus for i in here], g.gpus)
            for here, g in zip(by_group, self.groups, strict=True)
        ]
        out = []
        for parts in itertools.product(*map(list, fillings)):
            by_offer = dict(zip(itertools.chain(*by_group), itertools.chain(*parts), strict=True))
            counts = tuple(by_offer[i] for i in mine)
            if self._demands(service, counts) and self.carries[service.name](counts, (0,) * len(mine)):
                out.append(counts)
        return np.array(out, dtype=np.int64).reshape(len(out), len(mine))

    def sound(self, counts: Counts) -> bool:
        """Whether the counts keep every constraint, with some shares, seating and sharing of commitments."""
        return (
            self._power(counts)
            and within_quotas(self.problem, [(o.service, n * o.gpus) for o, n in zip(self.offers, counts, strict=True)])
            and all(self._demands(s, tuple(counts[i] for i in self.mine[s.name])) for s in self.problem.services)
            and self._budgets(counts)
            and self._carried(counts)
        )

    def counts_of(self, plan: Plan) -> Counts:
        """The counts of a plan; every allocation must be an offer."""
        found = {(a.service, str(a.recipe), a.pool, a.node_group): a.replicas for a in plan.allocations}
        counts = tuple(found.pop(o.key, 0) for o in self.offers)
        assert not found, f"no such offers: {found}"
        return counts

    def running(self, counts: Counts) -> float:
        """$/h of the fleet: commitments whole, GPUs beyond them at list price, and priced energy."""
        usd = 0.0
        for group in self.groups:
            used = sum(n * o.gpus for n, o in zip(counts, self.offers, strict=True) if o.group is group)
            paid = group.commitment
            usd += group.usd_per_gpu_hour * max(0, used - (paid.gpus if paid else 0))
            usd += paid.gpus * paid.usd_per_gpu_hour if paid else 0.0
        return usd + sum(n * self._energy(o) for n, o in zip(counts, self.offers, strict=True))

    def change(self, counts: Counts) -> float:
        """$/h of what is started and stopped."""
        objective, now = self.problem.objective, self.problem.current
        usd = 0.0
        for n, o in zip(counts, self.offers, strict=True) if now else ():
            started = n - now.get(o.key, 0)
            usd += o.gpus * (objective.start_usd * max(0, started) + objective.stop_usd * max(0, -started))
        return usd * 3600.0 / objective.horizon_s

    def cost(self, counts: Counts) -> float:
        """What is minimised."""
        return self.running(counts) + self.change(counts)

    def _energy(self, o: Offer) -> float:
        objective = self.problem.objective
        kwh = o.pool.power_w / 1000 if o.group.owned or objective.energy_everywhere else 0.0
        return kwh * objective.usd_per_joule * 3.6e6

    def _power(self, counts: Counts) -> bool:
        """Replicas draw what they do, the GPUs that they leave what they draw at rest."""
        for d in self.problem.inventory.power_domains:
            watts = sum(
                g.gpus * (g.gpu.idle_w or 0) for g in self.problem.inventory.node_groups if g.power_domain == d.name
            )
            for n, o in zip(counts, self.offers, strict=True):
                if o.group.power_domain == d.name:
                    watts += n * (o.pool.power_w - o.pool.gpus_per_replica * (o.group.gpu.idle_w or 0))
            if watts > d.budget_w + _ALMOST:
                return False
        return True

    def _demands(self, service: ServiceSpec, counts: Counts) -> bool:
        """Least and most replicas and least zones; only recipes that serve every busy size count towards a least."""
        demands, most = service.constraints, service.constraints.max_replicas
        offers = [self.offers[i] for i in self.mine[service.name]]
        busy = [b for b, rate in service.workload.rates_per_s.items() if rate > 0]
        full = [o for o in offers if _serves(o.profile, busy)] or offers
        held = [(o, n) for o, n in zip(offers, counts, strict=True) if n and o in full]
        if sum(n for _, n in held) < demands.min_replicas or (most is not None and sum(counts) > most):
            return False
        zones = {
            o.group.zone
            for o, _ in held
            if {p.pool for p in o.profile.pools}
            <= {other.pool.pool for other, _ in held if other.profile is o.profile and other.group.zone == o.group.zone}
        }
        return demands.min_zones <= 1 or len(zones) >= demands.min_zones

    def _budgets(self, counts: Counts) -> bool:
        """Committed GPUs are billed at the commitment's price, to whom it helps; variable 0 is the part of need met."""
        limited = [s for s in self.problem.services if s.constraints.usd_per_hour is not None]
        saved = {g.name: g.usd_per_gpu_hour - g.commitment.usd_per_gpu_hour for g in self.groups if g.commitment}
        committed = {g.name: g.commitment.gpus for g in self.groups if g.commitment and saved[g.name] > 0}
        pairs = [(s.name, name) for s in limited for name in committed]  # variables: committed GPUs that s counts on
        rows = [([1.0, *(0.0 for _ in pairs)], 1.0)]
        for s in limited:
            mine = [(counts[i], self.offers[i]) for i in self.mine[s.name]]
            listed = sum(n * (o.gpus * o.group.usd_per_gpu_hour + self._energy(o)) for n, o in mine)
            missing = max(0.0, listed - (s.constraints.usd_per_hour or 0.0))
            rows.append(([missing, *(-saved[g] * (name == s.name) for name, g in pairs)], 0.0))
            for group in committed:
                gpus = sum(n * o.gpus for n, o in mine if o.group.name == group)
                rows.append(([0.0, *(float(pair == (s.name, group)) for pair in pairs)], float(gpus)))
        for group, gpus in committed.items():
            rows.append(([0.0, *(float(g == group) for _, g in pairs)], float(gpus)))
        return largest(*_arrays(rows)) >= 1 - _ALMOST

    def _carried(self, counts: Counts) -> bool:
        """Whether some seating of all replicas in nodes leaves every service whole when any one node is lost."""
        seated = []
        for g in self.groups:
            here = [i for i, o in enumerate(self.offers) if o.group is g]
            sizes, n = tuple(self.offers[i].gpus for i in here), tuple(counts[i] for i in here)
            held = seatings(g.gpus_per_node, g.nodes, sizes, n, tuple(self.tracked[i] for i in here))
            seated.append([dict(zip(here, h, strict=True)) for h in held])
        choices = ({i: n for held in choice for i, n in held.items()} for choice in itertools.product(*seated))
        return any(
            all(
                self.carries[name](tuple(counts[i] for i in mine), tuple(held[i] for i in mine))
                for name, mine in self.mine.items()
            )
            for held in choices
        )


def _serves(profile: Profile, buckets: Iterable[Bucket]) -> bool:
    return all(b in pool.load for b in buckets for pool in profile.pools)


def _offers(service: ServiceSpec, problem: Problem) -> list[Offer]:
    """Every pool of every recipe in every group of its GPU type whose nodes have room for each of its pools."""
    return [
        Offer(service, p, pool, g)
        for p in problem.profiles
        for g in problem.inventory.node_groups
        if p.service == service.name and p.recipe.gpu == g.gpu.name
        if all(pool.gpus_per_replica <= g.gpus_per_node for pool in p.pools)
        for pool in p.pools
    ]


def _fillings(sizes: Sequence[int], gpus: int) -> Iterable[Counts]:
    """All counts of replicas of these sizes that take at most so many GPUs."""
    if not sizes:
        yield ()
        return
    for n in range(gpus // sizes[0] + 1):
        for rest in _fillings(sizes[1:], gpus - n * sizes[0]):
            yield (n, *rest)


@lru_cache(maxsize=100_000)
def seatings(room: int, nodes: int, sizes: Counts, counts: Counts, tracked: tuple[bool, ...]) -> tuple[Counts, ...]:
    """The least that the fullest node may hold of each tracked kind of replica, for every seating worth a look."""
    if nodes == 0:
        return () if any(counts) else ((0,) * len(counts),)
    found: set[Counts] = set()
    for here in _fillings(sizes, room):
        if all(h <= n for h, n in zip(here, counts, strict=True)):
            rest = seatings(room, nodes - 1, sizes, tuple(n - h for h, n in zip(here, counts, strict=True)), tracked)
            most = (tuple(map(max, here, other)) for other in rest)
            found.update(tuple(n * t for n, t in zip(m, tracked, strict=True)) for m in most)
    return tuple(m for m in sorted(found) if not any(o != m and all(map(int.__le__, o, m)) for o in found))


def _carrier(service: ServiceSpec, offers: Sequence[Offer]) -> Callable[[Counts, Counts], bool]:
    """Whether so many replicas carry every request without what a loss takes; `held`: in the fullest node."""
    spare = service.constraints.survive_replicas
    places = [(id(o.profile), _site(o), o.pool.pool) for o in offers]
    at = {place: [i for i, other in enumerate(places) if other == place] for place in places}
    matrix, limits = _routing(service, offers, [(places[here[0]], offers[here[0]].pool) for here in at.values()])

    @cache
    def enough(capacity: Counts) -> bool:
        return largest(matrix, np.append(limits[: -len(at)], capacity)) >= 1 - _ALMOST

    def carries(counts: Counts, held: Counts) -> bool:
        have = (sum(counts[i] for i in here) - max(spare, *(held[i] for i in here)) for here in at.values())
        return enough(tuple(max(0, n) for n in have))

    return carries


def _site(o: Offer) -> Site:
    """Where the service's requests are routed to, if it tells places apart."""
    demands = o.service.constraints
    apart = demands.max_spot_share < 1 or demands.max_zone_share < 1
    return (o.group.zone, o.group.spot) if apart else None


def _routing(
    service: ServiceSpec, offers: Sequence[Offer], pools: Sequence[tuple[Place, PoolProfile]]
) -> tuple[Floats, Floats]:
    """matrix @ (part carried of every bucket, shares) <= limits; the last rows, one a pool, await their capacity."""
    rates = {b: rate for b, rate in service.workload.rates_per_s.items() if rate > 0}
    shares = list({(id(o.profile), _site(o), b): None for o in offers for b in rates if _serves(o.profile, [b])})
    demands, total = service.constraints, sum(rates.values())
    rows = [([1.0, *(0.0 for _ in shares)], 1.0)]
    rows += [([1.0, *(-float(b == bucket) for _, _, b in shares)], 0.0) for bucket in rates]
    for zone in sorted({o.group.zone for o in offers}):
        inside = [rates[b] if site is not None and site[0] == zone else 0.0 for _, site, b in shares]
        rows.append(([0.0, *inside], demands.max_zone_share * total))
    spot = [rates[b] if site is not None and site[1] else 0.0 for _, site, b in shares]
    rows.append(([0.0, *spot], demands.max_spot_share * total))
    for (profile, site, _), pool in pools:
        busy = [rates[b] * pool.load[b] if (p, s) == (profile, site) else 0.0 for p, s, b in shares]
        rows.append(([0.0, *busy], 0.0))
    return _arrays(rows)


def _arrays(rows: Sequence[tuple[list[float], float]]) -> tuple[Floats, Floats]:
    return np.array([values for values, _ in rows]), np.array([limit for _, limit in rows])


def largest(matrix: Floats, limits: Floats) -> float:
    """The largest that variable 0 can be with matrix @ x <= limits and x >= 0, for limits >= 0.

    The simplex method on a tableau; the first that gains enters and ties leave by number, so that it ends (Bland 1977).
    """
    count, columns = matrix.shape
    table = np.hstack([matrix, np.eye(count), limits[:, None]])
    gain = np.zeros(columns + count + 1)
    gain[0] = 1.0
    basis = np.arange(columns, columns + count)
    while (gain[:-1] > 1e-9).any():
        enters = int(np.argmax(gain[:-1] > 1e-9))
        up = table[:, enters] > 1e-9
        assert up.any(), "unbounded"
        ratio = np.where(up, table[:, -1], np.inf) / np.where(up, table[:, enters], 1.0)
        ties = np.flatnonzero(ratio <= ratio.min() + 1e-12)
        leaves = int(ties[np.argmin(basis[ties])])
        table[leaves] /= table[leaves, enters]
        others = np.arange(count) != leaves
        table[others] -= np.outer(table[others, enters], table[leaves])
        gain = gain - gain[enters] * table[leaves]
        basis[leaves] = enters
    return float(-gain[-1])
