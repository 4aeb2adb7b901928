"""The fleet program under construction: its rows, and where each variable stands in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.options import Option
from planner.plan import Profile
from planner.rows import Rows
from planner.service import Bucket


@dataclass(slots=True)
class Program:
    """`n`: column of each option's count; `x`: profile index -> bucket -> column of its share.

    `relaxable`: row -> (unit in words, $/h per unit) for rows that a user could loosen. `changes`: columns that count
    starts and stops. `dues`: service -> rows that hold because it must be served.
    """

    rows: Rows
    options: tuple[Option, ...]
    n: tuple[int, ...]
    profiles: tuple[Profile, ...]
    x: Mapping[int, Mapping[Bucket, int]] = field(default_factory=dict)
    relaxable: dict[int, tuple[str, float]] = field(default_factory=dict)
    changes: list[int] = field(default_factory=list)
    dues: dict[str, list[int]] = field(default_factory=dict)

    def owed(self, service: str, row: int) -> None:
        """Note a row that only this service needs kept: without its dues, the service takes nothing."""
        self.dues.setdefault(service, []).append(row)
