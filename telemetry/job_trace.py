"""Reads traces of training jobs: CSV, plain or gzipped, one row an operation.

Columns: dp_rank, stage, step, optype, start_ts, duration (seconds), seq_id (order within the step), mb_id (micro-batch,
-1 for what belongs to none) and gmc (model chunk, counted through all stages); others are passed over.
"""

import csv
import gzip
import io
import math
import zlib
from pathlib import Path

from telemetry.errors import BadRecord
from telemetry.pipeline import Op

COLUMNS = ("dp_rank", "stage", "step", "optype", "start_ts", "duration", "seq_id", "mb_id", "gmc")
MOST_BYTES = 1 << 30


def read(path: Path) -> list[Op]:
    """The operations of a file. Raises BadRecord, which names file, line and column, and OSError."""
    reader = csv.DictReader(io.StringIO(_text(path)))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise BadRecord(f"{path}: column {missing[0]!r} is missing; needed are {', '.join(COLUMNS)}")
    found = []
    try:
        for row in reader:
            found.append(_op(row))
    except (ValueError, TypeError, csv.Error) as error:
        raise BadRecord(f"{path}:{reader.line_num}: {error}") from None
    if not found:
        raise BadRecord(f"{path}: no operation in it")
    return found


def _text(path: Path) -> str:
    if not path.is_file():
        raise BadRecord(f"{path}: got no regular file; give a CSV file, plain or gzipped")
    raw = path.read_bytes()
    try:
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(raw)) as file:
                raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise BadRecord(f"{path}: more than {MOST_BYTES:,} bytes; give a part of the trace")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadRecord(f"{path}: neither CSV text nor a gzipped one: {error}") from None


def _op(row: dict[str, str]) -> Op:
    def whole(name: str) -> int:
        try:
            return int(row[name])
        except ValueError:
            raise ValueError(f"{name} is {row[name]!r}, allowed is a whole number") from None

    def seconds(name: str) -> float:
        try:
            value = float(row[name])
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {row[name]!r}, allowed are seconds of at least 0")
        return value

    if None in row or any(row[name] is None for name in COLUMNS):
        raise ValueError(f"the row has not as many cells as the head ({len(row)})")
    return Op(
        whole("dp_rank"),
        whole("stage"),
        whole("step"),
        row["optype"],
        seconds("start_ts"),
        seconds("duration"),
        whole("seq_id"),
        whole("mb_id"),
        whole("gmc"),
    )
