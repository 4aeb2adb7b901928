"""Re-planning window by window when starting and stopping a replica costs money: which fleet to run next.

Data        c[g] $/h; l[g, s] replicas of type g that bucket s keeps busy per request/s of the whole mix; rates so far
State       y[g] whole replicas by type; a fleet y carries up to r(y) = min over prices m >= 0 of m·y / F(m) requests/s
            (`planner.transport`: every price vector is a cut; all sizes grow with the rate, so one table serves all)
Minimise    sum over windows of c·y_t * window + start * (replicas started) + stop * (replicas stopped)
Subject to  r(y_t) >= rate of window t

With known rates this is a shortest path over fleets (`foresight`). A move costs the same whatever the type, and moves
of several types add up, so the cheapest way from every fleet to every fleet takes two sweeps along each axis of a
table.

Later rates are not known. `Replanner` takes them from the days before, scaled to the present level: some rates for each
of the next windows, each as likely as the others, drawn anew in every window. The same sweeps solve this stochastic
program: V_k(y) = mean over the rates r of window k of min over fleets z that carry r of move(y, z) + c·z + V_k+1(z).
The fleet chosen is the cheapest for the coming window and what may follow. A price says what a move is worth, not how
many there will be; `MovePrice.paced` steers it towards a number of moves a day.

The rate of the coming window is taken as known when it begins, and the fleet chosen always carries it. Who plans on an
estimate must put the headroom into it.

`Objective.start_usd` and `stop_usd` of `planner.program` are the same two prices. There one fleet is chosen and assumed
to last `horizon_s`; here the windows ahead are explicit, and how long a fleet lasts is an outcome.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.branch import cheapest
from planner.errors import BadInput, SolverFault
from planner.transport import Floats, Transport

Counts = NDArray[np.int64]

_MOST_CELLS = 20_000_000  # fleets times futures: 160 MB
_SAMPLED_RATES = 32  # the cheapest fleets of so many rates say which types matter, and up to which count
_TOLERANCE = 1e-9
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class MovePrice:
    """$ for each replica started and for each one stopped."""

    start_usd: float
    stop_usd: float

    def __post_init__(self) -> None:
        for name, usd in (("start_usd", self.start_usd), ("stop_usd", self.stop_usd)):
            if not 0 <= usd < np.inf:
                raise BadInput(f"{name}: got {usd}, allowed: 0 or more dollars per replica")

    def paced(self, made: int, moves_per_day: float, elapsed_ratio: float) -> "MovePrice":
        """This price, steered towards so many starts and stops a day: `made` so far, `elapsed_ratio` of the day gone.

        It doubles for every eighth of the day's moves made too early, and halves for every eighth left unused.
        """
        if not 0 < moves_per_day < np.inf:
            raise BadInput(f"moves_per_day: got {moves_per_day}, allowed: a number above 0")
        ahead = made / moves_per_day - elapsed_ratio
        factor = 2.0 ** min(max(8.0 * ahead, -10.0), 10.0)
        return MovePrice(self.start_usd * factor, self.stop_usd * factor)


@dataclass(frozen=True, slots=True)
class Mix:
    """A request mix and its GPU types: `load` is l above, (types, buckets), inf where a type cannot serve a bucket."""

    load: Floats
    usd_per_hour: Floats

    def transport(self, rate: float = 1.0) -> Transport:
        """The transport problem at a rate in requests/s."""
        return Transport(self.load * rate, self.usd_per_hour)

    def cheapest(self, rate: float) -> Counts:
        """The cheapest fleet for one rate, change being free."""
        if rate <= 0:
            return np.zeros(len(self.usd_per_hour), np.int64)
        found = cheapest(self.transport(rate), self.usd_per_hour)
        if found.counts is None:
            raise BadInput(f"no fleet carries {rate:g} requests/s: some size is served by no GPU type")
        return np.round(found.counts).astype(np.int64)

    def carries(self, counts: Counts, rate: float) -> bool:
        """Whether the counts carry a rate; exact, by linear programming."""
        return rate <= 0 or self.transport(rate).carries(counts.astype(np.float64)) is not None


@dataclass(frozen=True, slots=True)
class Fleets:
    """All fleets of 0 to `most[g]` replicas of each type, as tables with one axis per type.

    `rate` is the most that the known cuts let each fleet carry: exact where enough cuts are known, never too low.
    `cut` has one row per price vector m, as m / F(m).
    """

    most: tuple[int, ...]
    usd_per_hour: Floats
    rate: Floats
    cut: Floats

    @staticmethod
    def of(mix: Mix, highest_rate: float, current: Counts | None = None) -> "Fleets":
        """The fleets worth a look: of each type one more than any cheapest fleet has, and what runs now."""
        cuts, wanted = cuts_of(mix, highest_rate)
        most = np.where(wanted > 0, wanted + 1, 0)
        return Fleets.up_to(mix, most if current is None else np.maximum(most, current), cuts)

    @staticmethod
    def up_to(mix: Mix, most: Counts, cuts: Floats) -> "Fleets":
        """The tables up to given counts."""
        shape = tuple(int(n) + 1 for n in most)
        if np.prod(np.array(shape, float)) > _MOST_CELLS:
            raise BadInput(
                f"fleets of up to {most.tolist()} replicas by type: got {np.prod(np.array(shape, float)):.0f} fleets, "
                f"allowed: {_MOST_CELLS}; offer fewer GPU types, or count in larger replicas"
            )
        rate = np.full(shape, np.inf)
        for cut in cuts:
            np.minimum(rate, _table(cut, shape), out=rate)
        return Fleets(tuple(n - 1 for n in shape), _table(mix.usd_per_hour, shape), rate, cuts)

    def distance_usd(self, current: Counts, price: MovePrice) -> Floats:
        """What it costs to turn the current fleet into each fleet."""
        out = np.zeros(self.rate.shape)
        for axis, now in enumerate(current):
            change = np.arange(self.most[axis] + 1) - int(now)
            usd = np.where(change > 0, change * price.start_usd, -change * price.stop_usd)
            out += usd.reshape([-1 if a == axis else 1 for a in range(out.ndim)])
        return out


def _table(per_replica: Floats, shape: tuple[int, ...]) -> Floats:
    """sum_g per_replica[g] y[g] for every fleet y."""
    out = np.zeros(shape)
    for axis, each in enumerate(per_replica):
        out += (each * np.arange(shape[axis])).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return out


def cuts_of(mix: Mix, highest_rate: float) -> tuple[Floats, Counts]:
    """The cuts m / F(m) that prove the cheapest fleets up to the highest rate, and the most replicas wanted by type."""
    cuts: list[Floats] = []
    wanted = np.zeros(len(mix.usd_per_hour), np.int64)
    for rate in np.linspace(highest_rate / _SAMPLED_RATES, highest_rate, _SAMPLED_RATES):
        transport = mix.transport(float(rate))
        found = cheapest(transport, mix.usd_per_hour)
        if found.counts is None:
            raise BadInput(f"no fleet carries {rate:g} requests/s: some size is served by no GPU type")
        wanted = np.maximum(wanted, np.round(found.counts).astype(np.int64))
        cuts.extend(_cut(mix, prices) for prices in transport.prices)
    return np.unique(np.round(np.array(cuts), 12), axis=0), wanted


def _cut(mix: Mix, prices: Floats) -> Floats:
    """m / F(m) per request/s of the mix: a fleet y carries at most (m / F(m))·y."""
    load = np.where(np.isfinite(mix.load), mix.load, 1e30)
    return np.asarray(prices / (prices[:, None] * load).min(axis=0).sum())


def after_moves(value: Floats, price: MovePrice, first_axis: int = 0) -> Floats:
    """min over fleets z of value[z] + the price of turning y into z, for every fleet y; in place.

    Moves of different types add up, so each axis is swept by itself, up and down.
    """
    for axis in range(first_axis, value.ndim):
        along = np.moveaxis(value, axis, 0)
        for i in range(1, len(along)):
            np.minimum(along[i], along[i - 1] + price.stop_usd, out=along[i])
        for i in range(len(along) - 2, -1, -1):
            np.minimum(along[i], along[i + 1] + price.start_usd, out=along[i])
    return value


@dataclass(frozen=True, slots=True)
class DayPlan:
    """The cheapest fleets for known rates, (windows, types), and their cost with the price of change."""

    counts: Counts
    usd: float


def foresight(fleets: Fleets, rates: Floats, current: Counts, price: MovePrice, window_s: float) -> DayPlan:
    """The optimum over the fleets of the table when all rates are known; the fleet left at the end is worth nothing."""
    window_usd = fleets.usd_per_hour * (window_s / _SECONDS_PER_HOUR)
    value = np.zeros(fleets.rate.shape)
    onwards: list[Floats] = []
    for rate in rates[::-1]:
        onwards.append(np.where(_enough(fleets, rate), window_usd + value, np.inf))
        value = after_moves(onwards[-1].copy(), price)
    total, counts = float(value[tuple(current)]), []
    for onward in reversed(onwards):
        current = _least(onward + fleets.distance_usd(current, price))
        counts.append(current)
    if not np.isfinite(total):
        raise BadInput(f"rates up to {rates.max():g} requests/s: got fleets that carry {fleets.rate.max():g} at most")
    return DayPlan(np.array(counts), total)


def _enough(fleets: Fleets, rate: float) -> NDArray[np.bool_]:
    return np.asarray(fleets.rate >= rate * (1 - _TOLERANCE))


def _least(value: Floats) -> Counts:
    return np.array(np.unravel_index(int(value.argmin()), value.shape), np.int64)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where later rates come from, `windows` ahead: the `days` before, at the same time, moved by `shifts` windows."""

    windows_per_day: int = 144
    windows: int = 24
    days: int = 3
    shifts: tuple[int, ...] = (-2, -1, 0, 1, 2)

    def futures(self, rates: Floats) -> Floats:
        """(futures, windows) of rates that may follow the last of `rates`, which is the rate of the coming window.

        A row is the course that an earlier day took, scaled by the present rate over that day's rate then: the mean of
        three windows, which keeps that day's own noise out of the scale. None is above what was ever seen. With no
        earlier day, or no traffic then, the rate stays as it is.
        """
        now = len(rates) - 1
        level = float(next((r for r in rates[::-1] if r > 0), 0.0))  # a window without traffic says nothing of the next
        out = []
        for then in (now - day * self.windows_per_day + s for day in range(1, self.days + 1) for s in self.shifts):
            if then < 0 or then + self.windows > now:
                continue
            usual = float(rates[max(0, then - 1) : then + 2].mean())
            if usual > 0:
                out.append(rates[then + 1 : then + 1 + self.windows] * (level / usual))
        if not out:
            return np.full((1, self.windows), level)
        return np.asarray(np.minimum(np.array(out), rates.max()))


@dataclass(slots=True)
class Replanner:
    """Chooses the next fleet of one service; the tables of fleets are kept between calls and grow with the rates."""

    mix: Mix
    window_s: float
    outlook: Outlook = field(default_factory=Outlook)
    _fleets: Fleets | None = None

    def next_counts(self, rates: Floats, current: Counts, price: MovePrice) -> Counts:
        """The fleet for the coming window. `rates`: every window so far, the coming one last; `current`: what runs.

        The price may differ from call to call (`MovePrice.paced`); it is taken to stay for the windows ahead.
        """
        if len(rates) == 0 or not (np.isfinite(rates).all() and (rates >= 0).all()):
            raise BadInput("rates: got none, or one that is no rate; allowed: at least one, each 0 or more requests/s")
        fleets = self._covering(float(rates.max()), current)
        onward = self._onward(fleets, self.outlook.futures(rates), price)
        total = np.where(_enough(fleets, float(rates[-1])), onward + fleets.distance_usd(current, price), np.inf)
        while True:
            chosen = _least(total)
            if not np.isfinite(total[tuple(chosen)]):
                raise SolverFault("no fleet of the table carries the rate of the coming window")
            if self.mix.carries(chosen, float(rates[-1])):
                return chosen
            total[tuple(chosen)] = np.inf  # the known cuts were too kind to it

    def _covering(self, highest_rate: float, current: Counts) -> Fleets:
        """Tables that reach the rate and hold the current fleet."""
        fleets = self._fleets
        if fleets is None or fleets.rate.max() < highest_rate or (current > np.array(fleets.most)).any():
            fleets = self._fleets = Fleets.of(self.mix, 1.1 * highest_rate, current)  # seldom again
        return fleets

    def _onward(self, fleets: Fleets, futures: Floats, price: MovePrice) -> Floats:
        """Of each fleet, what the coming window costs and what the windows after it are expected to."""
        if len(futures) * fleets.rate.size > _MOST_CELLS:
            raise BadInput(f"{fleets.rate.size} fleets x {len(futures)} futures: allowed: {_MOST_CELLS} in all")
        window_usd = fleets.usd_per_hour * (self.window_s / _SECONDS_PER_HOUR)
        every = (slice(None),) + (None,) * fleets.rate.ndim
        value = np.zeros(fleets.rate.shape)
        for rates in futures.T[::-1]:
            ahead = np.where(fleets.rate >= rates[every] * (1 - _TOLERANCE), window_usd + value, np.inf)
            value = after_moves(ahead, price, first_axis=1).mean(axis=0)
        return np.asarray(window_usd + value)
