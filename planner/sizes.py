"""Request sizes and rates: a trace or a named distribution becomes size cells on a grid, arrivals become a series.

A cell holds the requests above the edges before it and up to its own (upper edges, in tokens). Nothing is dropped:
what lies above the last edge of a grid gets an edge of its own, the largest size there is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.errors import BadInput
from planner.traces import Trace
from planner.units import DURATION

DEFAULT_EDGES = tuple(2**power for power in range(4, 21))  # 16 tokens to a million, each twice the one before
LEFT_TO_LAST_CELL_RATIO = 0.001
_NOBODY_RATIO = 1e-9
_SMALLEST_CELL_RATIO = 1e-4
_NORMAL_SPREADS_ABOVE_ZERO = 2.326  # one request in a hundred would be below zero
_NO_SPREAD_RATIO = 1e-6
_LARGEST_GAMMA_SHAPE = 1e6
MAX_WINDOWS = 1_000_000

DistributionName = Literal["constant", "uniform", "normal", "lognormal", "gamma"]


class SizeCell(NamedTuple):
    """Requests of about one size: upper edges, the share of all requests, and the mean size of these."""

    input_tokens: int
    output_tokens: int
    share: float
    mean_input_tokens: float
    mean_output_tokens: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """Tokens of a request, drawn with a mean and a standard deviation (`spread`), both in tokens.

    Sizes above `largest` count as `largest`; None = the first edge that at most 0.1 % of requests exceed.
    """

    name: DistributionName
    mean: float
    spread: float = 0.0
    largest: int | None = None


class _Step(NamedTuple):
    """One edge of one axis: requests up to it and above the edge before, and their mean size."""

    edge: int
    share: float
    mean: float


def trace_cells(
    trace: Trace, input_edges: Sequence[int] = DEFAULT_EDGES, output_edges: Sequence[int] = DEFAULT_EDGES
) -> tuple[SizeCell, ...]:
    """Every request of a trace in its cell; cells without requests are left out, and the largest size ends the grid."""
    columns, column = _located(trace.input_tokens, input_edges)
    rows, row = _located(trace.output_tokens, output_edges)
    flat = column * len(rows) + row
    size = len(columns) * len(rows)
    counts = np.bincount(flat, minlength=size)
    inputs = np.bincount(flat, weights=trace.input_tokens, minlength=size)
    outputs = np.bincount(flat, weights=trace.output_tokens, minlength=size)
    return tuple(
        SizeCell(
            input_tokens=columns[cell // len(rows)],
            output_tokens=rows[cell % len(rows)],
            share=float(counts[cell] / len(trace)),
            mean_input_tokens=float(inputs[cell] / counts[cell]),
            mean_output_tokens=float(outputs[cell] / counts[cell]),
        )
        for cell in np.flatnonzero(counts).tolist()
    )


def _located(tokens: NDArray[np.int64], edges: Sequence[int]) -> tuple[list[int], NDArray[np.intp]]:
    """The edges that hold all sizes, and which of them each size belongs to."""
    largest = int(tokens.max())
    kept = [edge for edge in edges if edge < largest] + [largest]
    return kept, np.searchsorted(np.array(kept), tokens, side="left")


def distribution_cells(
    inputs: Distribution,
    outputs: Distribution,
    input_edges: Sequence[int] = DEFAULT_EDGES,
    output_edges: Sequence[int] = DEFAULT_EDGES,
) -> tuple[SizeCell, ...]:
    """Cells of two distributions that know nothing of each other; raises BadInput where one has no such sizes."""
    return tuple(
        SizeCell(column.edge, row.edge, column.share * row.share, column.mean, row.mean)
        for column in _steps(inputs, input_edges)
        for row in _steps(outputs, output_edges)
    )


def _steps(distribution: Distribution, edges: Sequence[int]) -> list[_Step]:
    """One axis of the grid, from exact integrals; a size below one token counts as one."""
    cumulated = _cumulative(distribution)
    kept = _held_edges(distribution, edges)
    steps: list[_Step] = []
    low_share = low_tokens = 0.0  # of the requests up to the edge before
    for edge in kept:
        share, tokens = cumulated(edge)
        if edge == kept[-1]:  # what is larger counts as large as this
            share, tokens = 1.0, tokens + edge * (1.0 - share)
        elif (
            share - low_share < _SMALLEST_CELL_RATIO
        ):  # too few to matter: they join the next larger, which can serve them
            continue
        smallest = steps[-1].edge if steps else 1
        mean = min(max((tokens - low_tokens) / (share - low_share), smallest), edge)
        steps.append(_Step(edge, share - low_share, mean))
        low_share, low_tokens = share, tokens
    return steps


def _held_edges(distribution: Distribution, edges: Sequence[int]) -> list[int]:
    """The edges up to the first that hardly a request exceeds; a grid that ends before is doubled until it does."""
    cumulated = _cumulative(distribution)
    largest, left = distribution.largest, LEFT_TO_LAST_CELL_RATIO
    grid = list(edges)
    if largest is not None:
        grid, left = [edge for edge in grid if edge < largest] + [largest], _NOBODY_RATIO
    else:
        while cumulated(grid[-1])[0] < 1 - left:
            grid.append(2 * grid[-1])
    last = next((at for at, edge in enumerate(grid) if cumulated(edge)[0] >= 1 - left), len(grid) - 1)
    return grid[: last + 1]


Cumulative = Callable[[float], tuple[float, float]]


def _cumulative(distribution: Distribution) -> Cumulative:
    """x -> (the share of requests up to x, and their part of the mean), exactly."""
    _check(distribution)
    mean, spread = distribution.mean, distribution.spread
    if spread <= _NO_SPREAD_RATIO * mean:
        return lambda x: (1.0, mean) if x >= mean else (0.0, 0.0)
    makers: dict[str, Callable[[float, float], Cumulative]] = {
        "uniform": _uniform,
        "normal": _normal,
        "lognormal": _lognormal,
        "gamma": _gamma,
    }
    return makers[distribution.name](mean, spread)


def _check(distribution: Distribution) -> None:
    """Raises BadInput for a distribution that has no such mean and spread, or a share of sizes below zero."""
    name, mean, spread, largest = distribution.name, distribution.mean, distribution.spread, distribution.largest
    if name == "constant" and spread != 0:
        raise BadInput(f"got spread {spread:g} of a constant, allowed: none, or one of the other distributions")
    most = {"uniform": math.sqrt(1 / 3), "normal": 1 / _NORMAL_SPREADS_ABOVE_ZERO}.get(name, math.inf)
    if spread > most * mean:
        raise BadInput(
            f"got spread {spread:g} at mean {mean:g}, allowed: at most {most * mean:.4g} for {name}, "
            "which would have sizes below zero (lognormal and gamma allow any spread)"
        )
    if largest is not None and largest < mean:
        raise BadInput(f"got max {largest} below the mean {mean:g}, allowed: at least the mean")


def _uniform(mean: float, spread: float) -> Cumulative:
    low, high = mean - math.sqrt(3) * spread, mean + math.sqrt(3) * spread

    def cumulated(x: float) -> tuple[float, float]:
        top = min(max(x, low), high)
        return (top - low) / (high - low), (top**2 - low**2) / (2 * (high - low))

    return cumulated


def _phi(z: float) -> float:
    """Share of a standard normal up to z."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _normal(mean: float, spread: float) -> Cumulative:
    def cumulated(x: float) -> tuple[float, float]:
        z = (x - mean) / spread
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return _phi(z), mean * _phi(z) - spread * density

    return cumulated


def _lognormal(mean: float, spread: float) -> Cumulative:
    sigma = math.sqrt(math.log1p((spread / mean) ** 2))
    mu = math.log(mean) - sigma**2 / 2

    def cumulated(x: float) -> tuple[float, float]:
        z = (math.log(x) - mu) / sigma
        return _phi(z), mean * _phi(z - sigma)

    return cumulated


def _gamma(mean: float, spread: float) -> Cumulative:
    shape = (mean / spread) ** 2
    if shape > _LARGEST_GAMMA_SHAPE:  # a normal to within its skewness, 0.002; the series below would take too long
        return _normal(mean, spread)
    scale = mean / shape
    return lambda x: (_lower_gamma(shape, x / scale), mean * _lower_gamma(shape + 1, x / scale))


def _lower_gamma(a: float, x: float) -> float:
    """Regularised lower incomplete gamma function P(a, x).

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 6.5.29 (series) and 6.5.31 (continued fraction).
    """
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while term > total * 1e-16:
            n += 1
            term *= x / n
            total += term
        return min(scale * total, 1.0)
    # Lentz's evaluation of the continued fraction for the upper part.
    b = x + 1 - a
    c, d = 1e300, 1 / b
    fraction, factor, i = d, 0.0, 0
    while abs(factor - 1) > 1e-15:
        i += 1
        numerator = -i * (i - a)
        b += 2
        d = 1 / (numerator * d + b)
        c = b + numerator / c
        factor = c * d
        fraction *= factor
    return max(1 - scale * fraction, 0.0)


def window_rates(trace: Trace, step_s: float) -> tuple[float, ...]:
    """Requests per second in windows of `step_s` from the first request on; raises BadInput for no time at all.

    The last window ends with the trace: it lasts between half a step and one and a half.
    """
    length_s = float(trace.arrival_s[-1])
    if length_s <= 0:
        raise BadInput(
            f"got {len(trace)} requests at one moment, allowed: a trace that lasts, or ratePerSecond instead"
        )
    windows = max(1, math.floor(length_s / step_s + 0.5))
    if windows > MAX_WINDOWS:
        raise BadInput(f"got a step of {DURATION.show(step_s)}, allowed: one that makes at most {MAX_WINDOWS} windows")
    edges_s = np.append(step_s * np.arange(windows), length_s)
    counts, _ = np.histogram(trace.arrival_s, bins=edges_s)
    return tuple((counts / np.diff(edges_s)).tolist())


def planned_rate(series_per_s: Sequence[float], ratio: float) -> float:
    """The smallest rate of a series that at least `ratio` of its windows do not exceed (1 = the peak)."""
    return float(np.quantile(np.array(series_per_s), ratio, method="inverted_cdf"))
