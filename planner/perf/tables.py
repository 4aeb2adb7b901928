"""Columns of numbers and words, read from CSV or Parquet and written as CSV: how rows reach the predictors.

A column is an array: floats where every value given is a number (missing: NaN), else strings (missing: ""). What a
predictor cannot use is refused in its row; only a file that is no table at all is an error.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import BadInput

Columns = Mapping[str, NDArray[Any]]
MAX_ROWS = 2_000_000
MAX_BYTES = 512 * 2**20


class Table(dict[str, NDArray[Any]]):
    """Columns by name that say in words, with their file, that one is not there."""

    def __init__(self, columns: Columns, path: Path) -> None:
        super().__init__(columns)
        self.path = path

    def __missing__(self, name: str) -> NDArray[Any]:
        shown = ", ".join(list(self)[:12])
        raise BadInput(f"{self.path}: got no column {name!r}, which is needed; there are {shown}")


def read(path: Path) -> Table:
    """The columns of a CSV or Parquet file. Raises BadInput where it is neither, is empty, or is beyond the limits."""
    if not path.is_file():
        raise BadInput(f"{path}: got no regular file; give a CSV or Parquet file")
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path}: got {path.stat().st_size:,} bytes, allowed are {MAX_BYTES:,}")
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    columns = _parquet(path) if parquet else _csv(path)
    rows = len(next(iter(columns.values()), ()))
    if not rows:
        raise BadInput(f"{path}: got no rows; give a header line and at least one row")
    if rows > MAX_ROWS:
        raise BadInput(f"{path}: got {rows:,} rows, allowed are {MAX_ROWS:,}")
    return Table(columns, path)


def _csv(path: Path) -> dict[str, NDArray[Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: got bytes that are no UTF-8 text (byte {error.start}); give CSV or Parquet") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: got what is no CSV ({error})") from None
    if not lines:
        return {}
    header = [name.strip() for name in lines[0]]
    _refuse_twice(header, f"{path}, line 1")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise BadInput(f"{path}, row {number}: got {len(line)} fields, the header has {len(header)}")
    return {name: _column([line[i].strip() for line in lines[1:]]) for i, name in enumerate(header)}


def _refuse_twice(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{where}: got column {twice[0][:80]!r} twice; each name may stand once")


def _column(values: Sequence[str]) -> NDArray[Any]:
    numbers = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if value:
            try:
                numbers[i] = float(value)
            except ValueError:
                return np.array(values, dtype=object)
    return numbers


def _parquet(path: Path) -> dict[str, NDArray[Any]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise BadInput(f"{path}: Parquet needs pyarrow; install muster-gpu[data], or give a CSV") from None
    try:
        held = parquet.ParquetFile(path)
        if held.metadata.num_rows > MAX_ROWS:
            raise BadInput(f"{path}: got {held.metadata.num_rows:,} rows, allowed are {MAX_ROWS:,}")
        table = held.read()
    except arrow.ArrowException as error:
        raise BadInput(f"{path}: got a Parquet file that cannot be read ({str(error).splitlines()[0]})") from None
    _refuse_twice(table.column_names, str(path))
    found: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        column = table[name]
        kind = column.type
        if arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_boolean(kind):
            found[name] = column.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False).astype(float)
            continue
        try:
            values = column.to_pylist()
        except (ValueError, OverflowError, arrow.ArrowException):  # days beyond the calendar, text that is no UTF-8
            raise BadInput(
                f"{path}: got column {name[:80]!r} of {str(kind)[:80]} with values that cannot be read"
            ) from None
        if all(value is None or isinstance(value, (int, float)) for value in values):
            found[name] = np.array([math.nan if value is None else float(value) for value in values])
        else:
            found[name] = np.array(["" if value is None else str(value) for value in values], dtype=object)
    return found


def write(path: Path, columns: Columns) -> None:
    """The columns as CSV; NaN becomes an empty field. Raises BadInput where the file cannot be written."""
    shown = [_shown(values) for values in columns.values()]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*shown, strict=True))
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror})") from None


def _shown(values: NDArray[Any]) -> list[str]:
    if values.dtype == object or values.dtype.kind in "US":
        return [str(value) for value in values]
    if values.dtype.kind == "b":
        return ["True" if value else "False" for value in values]
    return ["" if math.isnan(value) else f"{value:.10g}" for value in values.tolist()]


def words(columns: Columns, name: str, default: str = "") -> list[str]:
    """A column as words, `default` where it is missing or empty."""
    rows = len(next(iter(columns.values())))
    if name not in columns:
        return [default] * rows
    values = columns[name]
    if values.dtype == object or values.dtype.kind in "US":
        return [str(value) or default for value in values]
    return [default if math.isnan(value) else f"{value:g}" for value in values.tolist()]


def numbers(columns: Columns, name: str, default: float = math.nan) -> NDArray[np.float64]:
    """A column as numbers: `default` where it is missing or empty, infinite where it holds a word."""
    rows = len(next(iter(columns.values())))
    if name not in columns:
        return np.full(rows, default)
    values = columns[name]
    if values.dtype == object or values.dtype.kind in "US":
        return np.array([_number(str(value), default) for value in values])
    return np.where(np.isnan(values.astype(float)), default, values.astype(float))


def _number(value: str, default: float) -> float:
    if not value:
        return default
    try:
        return float(value)
    except ValueError:
        return math.inf
