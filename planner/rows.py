"""Rows and columns of a mixed-integer program, collected by name and handed over as arrays.

A row is named after the constraint that it states, so that an infeasible program can say which ones conflict.
"""

from dataclasses import dataclass, field

import numpy as np

from planner.highs import INFINITY, Floats, LinearModel, columns_of


@dataclass(slots=True)
class Rows:
    """A program under construction: minimise cost·x, named rows, bounds, integrality."""

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    _row: list[Floats] = field(default_factory=list)
    _col: list[Floats] = field(default_factory=list)
    _value: list[Floats] = field(default_factory=list)

    def column(self, cost: float = 0.0, *, lower: float = 0.0, upper: float = INFINITY, integer: bool = False) -> int:
        """A new variable; returns its index."""
        self.cost.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.cost) - 1

    def columns(self, count: int, *, upper: float = INFINITY) -> Floats:
        """`count` continuous variables that cost nothing; returns their indices."""
        first = len(self.cost)
        self.cost.extend([0.0] * count)
        self.lower.extend([0.0] * count)
        self.upper.extend([upper] * count)
        self.integer.extend([False] * count)
        return np.arange(first, first + count, dtype=np.float64)

    def row(
        self,
        name: str,
        cols: Floats | list[int],
        values: Floats | list[float],
        *,
        least: float = -INFINITY,
        most: float = INFINITY,
    ) -> int:
        """least <= values·x[cols] <= most; returns the row's index."""
        index = len(self.names)
        self.names.append(name)
        self.row_lower.append(least)
        self.row_upper.append(most)
        self.extend(index, cols, values)
        return index

    def extend(self, row: int, cols: Floats | list[int], values: Floats | list[float]) -> None:
        """Add terms to a row that is there already."""
        terms = np.asarray(cols, dtype=np.float64)
        self._row.append(np.full(len(terms), float(row)))
        self._col.append(terms)
        self._value.append(np.asarray(values, dtype=np.float64))

    def model(self) -> LinearModel:
        """The program as arrays; terms of the same row and column are summed."""
        rows = np.concatenate([*self._row, np.empty(0)]).astype(np.int64)
        cols = np.concatenate([*self._col, np.empty(0)]).astype(np.int64)
        values = np.concatenate([*self._value, np.empty(0)])
        keys, where = np.unique(cols * max(1, len(self.names)) + rows, return_inverse=True)
        summed: Floats = np.bincount(where, values, len(keys)).astype(np.float64)
        width = max(1, len(self.names))
        return LinearModel(
            cost=np.array(self.cost),
            lower=np.array(self.lower),
            upper=np.array(self.upper),
            row_lower=np.array(self.row_lower),
            row_upper=np.array(self.row_upper),
            matrix=columns_of(
                (keys % width).astype(np.int32), (keys // width).astype(np.int32), summed, len(self.cost)
            ),
            integer=np.array(self.integer, dtype=np.bool_),
        )
