"""The fleet program under construction: its rows, and where each variable stands in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.hardware import Stock
from planner.options import Option, Site
from planner.plan import ChangeKind, Profile
from planner.rows import Rows
from planner.service import Bucket

Place = tuple[int, Site]  # profile index, site


@dataclass(frozen=True, slots=True)
class Loosening:
    """A knob of the user's: turning it by one unit adds `terms` (row, coefficient) to the program.

    `now` is what it stands at; it moves in the direction of `sign`, by whole units if `whole`, at most `most` units.
    `usd_per_unit` only ranks ways out of an infeasible problem. `takes`: what a unit adds to rows that it makes no
    looser. `idle`: units that it must move before any of this begins.
    """

    kind: ChangeKind
    target: str
    now: float
    sign: int
    usd_per_unit: float
    terms: tuple[tuple[int, float], ...]
    whole: bool = True
    most: float = 1e9
    takes: tuple[tuple[int, float], ...] = ()
    idle: float = 0.0


@dataclass(slots=True)
class Program:
    """`n`: column of each option's count; `x`: (profile index, site) -> bucket -> column of its share.

    `ample`: what each count would not exceed with all the hardware in the world.
    `capacity`: rows busy <= replicas, one for each way of losing some. `held`: option -> column of what one node holds.
    `covered`: (service, node group) -> column of committed GPUs that a budget counts on. `beyond`: node group -> column
    of GPUs beyond its commitment. `changes`: option -> replicas now, column of starts, column of stops.
    `dues`: service -> rows that hold because it must be served. `stock`: node group -> what it is the free part of.
    """

    rows: Rows
    options: tuple[Option, ...]
    n: tuple[int, ...]
    profiles: tuple[Profile, ...]
    ample: tuple[float, ...] = ()
    x: Mapping[Place, Mapping[Bucket, int]] = field(default_factory=dict)
    capacity: list[int] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)
    covered: dict[tuple[str, str], int] = field(default_factory=dict)
    loosenings: list[Loosening] = field(default_factory=list)
    beyond: dict[str, int] = field(default_factory=dict)
    changes: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    dues: dict[str, list[int]] = field(default_factory=dict)
    stock: Mapping[str, Stock] = field(default_factory=dict)

    def owed(self, service: str, row: int) -> None:
        """Note a row that only this service needs kept: without its dues, the service takes nothing."""
        self.dues.setdefault(service, []).append(row)

    @property
    def services(self) -> tuple[str, ...]:
        """Names of the services, in order."""
        return tuple(dict.fromkeys(option.service for option in self.options))

    def places(self, service: str) -> dict[tuple[Place, str], list[int]]:
        """(profile index and site, pool) -> positions of its options."""
        index_of = {id(p): i for i, p in enumerate(self.profiles)}
        out: dict[tuple[Place, str], list[int]] = {}
        for position, option in enumerate(self.options):
            if option.service == service:
                place = (index_of[id(option.profile)], option.site)
                out.setdefault((place, option.pool.pool), []).append(position)
        return out

    def of(self, service: str) -> list[int]:
        """Positions of a service's options."""
        return [i for i, o in enumerate(self.options) if o.service == service]

    def counts(self, positions: Sequence[int]) -> list[int]:
        """Columns of the counts at these positions."""
        return [self.n[i] for i in positions]
