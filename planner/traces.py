"""Request traces as they are published: when each request came, and how many tokens went in and out.

Read in blocks, plain or gzipped, with the format told by the first line:
  azure      CSV: TIMESTAMP,ContextTokens,GeneratedTokens (Splitwise, arXiv 2311.18677; DynamoLLM, arXiv 2408.00741)
  burstgpt   CSV: Timestamp (s), Request tokens, Response tokens and more (BurstGPT, arXiv 2401.17644)
  mooncake   JSON lines: timestamp (ms), input_length, output_length (Mooncake, arXiv 2407.00079)
"""

import csv
import gzip
import json
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.errors import BadInput
from planner.units import got

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Strings: TypeAlias = NDArray[np.str_]
Block: TypeAlias = tuple[Floats, Ints, Ints]  # arrival in s, input tokens, output tokens
TraceFormat = Literal["azure", "burstgpt", "mooncake"]

MAX_REQUESTS = 50_000_000
MAX_TOKENS = 100_000_000  # of one request; anything beyond is a column mix-up
BLOCK_BYTES = 4 * 2**20
_GZIP_MAGIC = b"\x1f\x8b"
_SHOWN_HEADER = 40  # characters
_WORDS = re.compile(r"[A-Za-z][A-Za-z0-9 _-]*(?:,[A-Za-z0-9 _-]+)+,?")


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in order of arrival, times relative to the first.

    `failed`: rows without input or output tokens, which carried no work and are left out of the arrays.
    """

    format: TraceFormat
    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    failed: int = 0

    def __len__(self) -> int:
        return len(self.arrival_s)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where time, input and output tokens stand in a row of `width` cells; a JSON line counts as a row of three."""

    format: TraceFormat
    names: tuple[str, str, str]
    positions: tuple[int, int, int] = (0, 1, 2)
    width: int = 3

    @property
    def has_header(self) -> bool:
        return self.format != "mooncake"

    @property
    def allowed(self) -> str:
        """What a row may hold, in words."""
        time, inputs, outputs = self.names
        cells = "JSON with" if self.format == "mooncake" else f"{self.width} cells, of which"
        when = "a date and time" if self.format == "azure" else "a number"
        return f"{cells} {time}: {when}, {inputs} and {outputs}: whole numbers from 0 to {MAX_TOKENS}"


def read_trace(path: Path, block_bytes: int = BLOCK_BYTES) -> Trace:
    """The whole trace, sorted by time; raises BadInput with file and line where a row cannot be used.

    It is read `block_bytes` at a time, which also bounds one line.
    """
    blocks: list[Block] = []
    layout: _Layout | None = None
    requests, line = 0, 1
    for lines in _line_blocks(path, block_bytes):
        if layout is None:
            layout = _detect(lines[0], path)
            if layout.has_header:
                lines, line = lines[1:], 2
        blocks.append(_parse(layout, lines, path, line))
        line += len(lines)
        requests += len(blocks[-1][0])
        if requests > MAX_REQUESTS:
            raise BadInput(f"{path}:{line}: got more than {MAX_REQUESTS} requests, allowed: at most that")
    if layout is None or requests == 0:
        raise BadInput(f"{path}: got no request, allowed: a trace with at least one row ({_KNOWN})")
    return _joined(layout.format, blocks, path)


def _joined(format_: TraceFormat, blocks: Sequence[Block], path: Path) -> Trace:
    """Blocks as one trace: failed requests counted and left out, sorted by time, times from the first."""
    arrival_s, inputs, outputs = (np.concatenate(column) for column in zip(*blocks, strict=True))
    worked = (inputs > 0) & (outputs > 0)
    if not worked.any():
        raise BadInput(f"{path}: got {len(worked)} requests without tokens, allowed: at least one with tokens")
    arrival_s, inputs, outputs = arrival_s[worked], inputs[worked], outputs[worked]
    if np.any(np.diff(arrival_s) < 0):
        order = np.argsort(arrival_s, kind="stable")
        arrival_s, inputs, outputs = arrival_s[order], inputs[order], outputs[order]
    return Trace(format_, arrival_s - arrival_s[0], inputs, outputs, int(len(worked) - worked.sum()))


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    """The file, unpacked when its first bytes say gzip, whatever its name.

    Only regular files (or links to them): to open a pipe or a device may wait for ever, or set something off.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if packed else path.open("rb")


def _line_blocks(path: Path, block_bytes: int) -> Iterator[list[str]]:
    """Lines of the file, one block after the other."""
    line = 1
    try:
        with _open(path) as stream:
            rest = b""
            while block := stream.read(block_bytes):
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if not newline and len(rest) > block_bytes:
                    raise BadInput(f"{path}:{line}: got a line above {block_bytes} bytes, allowed: rows of text")
                if newline:
                    lines = _text(whole, path, line).split("\n")
                    yield lines
                    line += len(lines)
            if rest:
                yield [_text(rest, path, line)]
    except (OSError, EOFError, zlib.error, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{path}: cannot be read ({reason}), allowed: a readable trace, plain or gzipped") from error


def _text(data: bytes, path: Path, line: int) -> str:
    """Bytes that start at line `line` as text; raises BadInput with the line that is none."""
    try:
        return data.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise BadInput(f"{path}:{line}: got bytes that are no text, allowed: {_KNOWN}") from error


def _detect(first: str, path: Path) -> _Layout:
    """The layout that the first line announces."""
    header = [name.strip(' "\r') for name in first.split(",")]
    for layout in _CSV_LAYOUTS:
        if set(layout.names) <= set(header):
            time_at, input_at, output_at = (header.index(name) for name in layout.names)
            return replace(layout, positions=(time_at, input_at, output_at), width=len(header))
    if first.lstrip().startswith("{") and all(f'"{name}"' in first for name in _MOONCAKE.names):
        return _MOONCAKE
    columns = first.strip()[:_SHOWN_HEADER]
    what = f"the columns {got(columns)}" if _WORDS.fullmatch(columns) else "a first line that is no known header"
    raise BadInput(f"{path}:1: got {what}, allowed: {_KNOWN}")


def _parse(layout: _Layout, lines: Sequence[str], path: Path, line: int) -> Block:
    """The arrays of some lines, of which the first is number `line`; raises BadInput for the first bad one."""
    try:
        return _block(layout, lines)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        if len(lines) == 1:
            raise BadInput(f"{path}:{line}: got {_misfit(layout, lines[0])}, allowed: {layout.allowed}") from error
    half = len(lines) // 2
    _parse(layout, lines[:half], path, line)
    return _parse(layout, lines[half:], path, line + half)


def _misfit(layout: _Layout, line: str) -> str:
    """What is wrong with a row, without its words: they may be no business of whoever wrote the spec."""
    if layout is _MOONCAKE:
        return "something else"
    try:
        cells = len(next(csv.reader([line])))
    except csv.Error:
        return "a row that is no CSV"
    return f"a row of {cells} cells" if cells != layout.width else "a row whose cells do not fit"


def _block(layout: _Layout, lines: Sequence[str]) -> Block:
    """The arrays of some lines, blank ones left out; raises whatever a bad cell makes Python and numpy raise."""
    lines = [line for line in lines if line and not line.isspace()]
    if not lines:
        return np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
    cells = _json_cells if layout is _MOONCAKE else _csv_cells
    arrival_s, inputs, outputs = cells(layout, lines)
    tokens = np.stack([inputs, outputs])
    if not (np.isfinite(arrival_s).all() and ((tokens >= 0) & (tokens <= MAX_TOKENS)).all() and not (tokens % 1).any()):
        raise ValueError("a time or a number of tokens out of range")
    return arrival_s, inputs.astype(np.int64), outputs.astype(np.int64)


def _csv_cells(layout: _Layout, lines: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    """Columns by numpy's reader, which is several times faster than rows in Python and refuses ragged ones."""
    dated = layout.format == "azure"
    kinds = ["U1"] * layout.width
    for position, kind in zip(layout.positions, ("U40" if dated else "f8", "f8", "f8"), strict=True):
        kinds[position] = kind
    dtype = np.dtype([(str(position), kind) for position, kind in enumerate(kinds)])
    table = np.loadtxt(lines, dtype=dtype, delimiter=",", comments=None, quotechar='"', ndmin=1)
    times, inputs, outputs = (table[str(position)] for position in layout.positions)
    return _dates(times) if dated else times, inputs, outputs


def _json_cells(layout: _Layout, lines: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    """Most lines look as published and need no JSON parser, which would build their long lists of block hashes."""
    rows: list[tuple[float, float, float]] = []
    for line in lines:
        found = _MOONCAKE_LINE.fullmatch(line)
        values = found.groups() if found else _json_figures(line, layout.names)
        time_ms, input_tokens, output_tokens = map(float, values)
        rows.append((time_ms, input_tokens, output_tokens))
    times_ms, inputs, outputs = np.array(rows).T
    return times_ms / 1000, inputs, outputs


def _json_figures(line: str, names: Sequence[str]) -> list[float]:
    """The named numbers of a JSON object; a word, even "12" or true, is none."""
    value = json.loads(line)
    figures = [value[name] for name in names]
    if not all(type(figure) in (int, float) for figure in figures):
        raise TypeError("a figure that is no number")
    return figures


def _dates(texts: Strings) -> Floats:
    """Dates and times as seconds since 1970; without an offset they are taken as UTC."""
    moments = map(datetime.fromisoformat, texts.tolist())
    seconds = [(moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() for moment in moments]
    return np.array(seconds)


_MOONCAKE = _Layout("mooncake", ("timestamp", "input_length", "output_length"))
_MOONCAKE_LINE = re.compile(
    r'\{"timestamp": *([0-9.]+), *"input_length": *([0-9]+), *"output_length": *([0-9]+)'
    r'(?:, *"hash_ids": *\[[0-9, ]*\])?\}\r?'
)
_CSV_LAYOUTS = (
    _Layout("azure", ("TIMESTAMP", "ContextTokens", "GeneratedTokens")),
    _Layout("burstgpt", ("Timestamp", "Request tokens", "Response tokens")),
)
_KNOWN = (
    "CSV with TIMESTAMP,ContextTokens,GeneratedTokens (Azure) or Timestamp,Request tokens,Response tokens (BurstGPT), "
    "or JSON lines with timestamp, input_length, output_length (Mooncake)"
)
