"""Allocation instances in the input format of Mélange (arXiv 2404.14527): measured throughputs in, GPU counts out.

    {"gpu_info": {"L4": {"cost": 0.7, "tputs": [[req/s at the SLO by input size (row), output size (column)]]}, ...},
     "workload_distribution": [[share of requests, same shape, sums to 1]],
     "total_request_rate": 8.0, "slice_factor": 4}

`gpu_info` may also be a list of objects with a "name". A throughput of 0 says that the GPU cannot meet the SLO for that
size. Other keys, `slice_factor` among them, are not used: shares are continuous here.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.errors import BadInput
from planner.transport import MOST_REPLICAS, Floats

_SUM_TOLERANCE = 1e-6
_MOST_CELLS = 1_000_000
_LARGEST = 1e15


@dataclass(frozen=True, slots=True)
class Instance:
    """GPU names, $/h each, throughput (GPUs, rows, columns) in requests/s, rates (rows, columns) in requests/s."""

    gpus: tuple[str, ...]
    usd_per_hour: Floats
    throughput: Floats
    rates: Floats

    def load(self) -> Floats:
        """Replicas kept busy by each cell's whole rate, (GPUs, cells with traffic); inf where the GPU cannot serve it.

        A GPU so slow that it would take more than MOST_REPLICAS of it counts as one that cannot.
        """
        cells = self.rates.ravel()
        busy = cells > 0
        flat = self.throughput.reshape(len(self.gpus), -1)[:, busy]
        out = np.full(flat.shape, np.inf)
        np.divide(cells[busy], flat, out=out, where=flat > cells[busy] / MOST_REPLICAS)
        return out


class _Repeated(Exception):
    """A key that stands twice in one JSON object; the last would silently win."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in pairs:
        if key in out:
            raise _Repeated(key[:60])
        out[key] = value
    return out


def parse_instance(text: str, where: str) -> Instance:
    """Read an instance; `where` is the file's name for messages. Raises BadInput: what, got, allowed, where."""
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except _Repeated as error:
        raise BadInput(f"{where}: got the key {error.args[0]!r} twice in one object, allowed: each key once") from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise BadInput(f"{where}: not JSON that can be read: {error}") from None
    top = _mapping(data, where, "the instance", ("gpu_info", "workload_distribution", "total_request_rate"))
    shares = _matrix(top["workload_distribution"], f"{where}: workload_distribution")
    total = float(shares.sum())
    if abs(total - 1) > _SUM_TOLERANCE:
        raise BadInput(f"{where}: workload_distribution: got shares that sum to {total:.9g}, allowed: a sum of 1")
    rate = _number(top["total_request_rate"], f"{where}: total_request_rate")
    costs, throughput = {}, []
    for name, gpu in _gpus(top["gpu_info"], f"{where}: gpu_info"):
        at = f"{where}: gpu_info.{_printed(name)}"
        if name in costs:
            raise BadInput(f"{at}: got the name twice, allowed: once")
        fields = _mapping(gpu, at, "a GPU", ("cost", "tputs"))
        costs[name] = _number(fields["cost"], f"{at}.cost")
        table = _matrix(fields["tputs"], f"{at}.tputs")
        if table.shape != shares.shape:
            got, allowed = "x".join(map(str, table.shape)), "x".join(map(str, shares.shape))
            raise BadInput(f"{at}.tputs: got a {got} table, allowed: {allowed} as in workload_distribution")
        throughput.append(table)
    return Instance(tuple(costs), np.array(list(costs.values())), np.array(throughput), shares * rate)


def _gpus(value: object, where: str) -> list[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        return [(str(name), gpu) for name, gpu in value.items()]
    if isinstance(value, list) and value:
        named: list[tuple[str, object]] = []
        for i, gpu in enumerate(value):
            if not isinstance(gpu, Mapping) or not isinstance(gpu.get("name"), str):
                raise BadInput(f"{where}[{i}]: got {_shown(gpu)}, allowed: an object with a name, a cost and tputs")
            named.append((gpu["name"], gpu))
        return named
    raise BadInput(f"{where}: got {_shown(value)}, allowed: an object (or a list) of at least one GPU")


def _printed(name: str) -> str:
    """A name within a message of one line."""
    return name if name.isprintable() else repr(name)


def _mapping(value: object, where: str, what: str, needed: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise BadInput(f"{where}: got {_shown(value)}, allowed: {what} as an object with {', '.join(needed)}")
    missing = [key for key in needed if key not in value]
    if missing:
        has = ", ".join(map(_printed, map(str, value))) or "nothing"
        raise BadInput(f"{where}: {', '.join(missing)} missing, got {has}; allowed: an object with {', '.join(needed)}")
    return value


def _number(value: object, where: str) -> float:
    bad = isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST
    if bad:  # NaN fails the comparison too
        raise BadInput(f"{where}: got {_shown(value)}, allowed: a number from 0 to {_LARGEST:.0e}")
    return float(value)  # type: ignore[arg-type]  # narrowed by `bad`


def _matrix(value: object, where: str) -> Floats:
    """A rectangular table of numbers >= 0. The quick path first: tables are big and nearly always right."""
    if not isinstance(value, list) or not value or not all(isinstance(row, list) and row for row in value):
        raise BadInput(f"{where}: got {_shown(value)}, allowed: a table (a list of rows of numbers)")
    widths = {len(row) for row in value}
    if len(widths) > 1:
        ragged = next(i for i, row in enumerate(value) if len(row) != len(value[0]))
        raise BadInput(
            f"{where}[{ragged}]: got {len(value[ragged])} columns, allowed: {len(value[0])} as in the first row"
        )
    if len(value) * len(value[0]) > _MOST_CELLS:
        raise BadInput(f"{where}: got {len(value) * len(value[0])} cells, allowed: up to {_MOST_CELLS}")
    if all(type(cell) is float or type(cell) is int for row in value for cell in row):
        cells = [min(cell, _LARGEST * 10) for row in value for cell in row]  # a huge int does not fit a float
        table = np.array(cells, dtype=np.float64).reshape(len(value), -1)
        if np.all((table >= 0) & (table <= _LARGEST)):
            return table
    for i, row in enumerate(value):
        for j, cell in enumerate(row):
            _number(cell, f"{where}[{i}][{j}]")
    raise AssertionError("unreachable: one of the cells is not a number in range")


def _shown(value: object) -> str:
    """A value as a message shows it: short."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
