"""Reports as people read them in a terminal: paragraphs and tables fitted to its width, and figures in words.

Lines break between words only: a word that is wider than its place sticks out. Rich colours the lines, no more.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

_WIDTH_IN_A_PIPE = 100
_NARROWEST = 40
_BETWEEN = 2
# Spaces at which no line breaks: within `500 ms`, around `<=`, before the figure of a key.
_TOGETHER = re.compile(r"(?<=\d) (?=(?:ms|s|W|kW|GB)\b)| (?=<= )|(?<= <=) |(?<=:) (?=\d)")
_KEPT = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph; an empty one is a blank line. If indented, lines after the first are by two more."""

    text: str
    style: str = ""
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below headings. Columns named in `wrapped` may take several lines; rows may have paragraphs between them."""

    headings: tuple[str, ...]
    right: tuple[str, ...] = ()
    wrapped: tuple[str, ...] = ()
    rows: list[tuple[str, ...] | Words] = field(default_factory=list)


Report: TypeAlias = Sequence[Words | Table]
Line: TypeAlias = tuple[str, str]  # text and style


def dollars(value: float | None) -> str:
    """`$12.34`, or a dash."""
    return "-" if value is None else f"${value:,.2f}"


def seconds(value: float | None) -> str:
    """`480 ms`, `2.10 s` or `47.2 s`, or a dash."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1e3:.0f} ms"
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} s"


def watts(value: float | None) -> str:
    """`3.20 kW` or `70 W`, or a dash."""
    if value is None:
        return "-"
    return f"{value / 1e3:,.2f} kW" if value >= 1000 else f"{value:.0f} W"


def percent(ratio: float) -> str:
    """`59%`; with one decimal below one percent, so that little is not shown as nothing."""
    return f"{ratio:.1%}" if 0 < ratio < 0.01 else f"{ratio:.0%}"


def terminal_width() -> int:
    """Columns to fill: those of COLUMNS or of the terminal, 100 in a pipe."""
    return max(shutil.get_terminal_size((_WIDTH_IN_A_PIPE, 24)).columns, _NARROWEST)


def lines(report: Report, width: int) -> list[Line]:
    """The report's lines, none wider than `width` unless a single word is."""
    out: list[Line] = []
    for block in report:
        out += _paragraph(block, width) if isinstance(block, Words) else _tabular(block, width)
    return out


def printed(report: Report) -> None:
    """Print a report to standard output, coloured if that is a terminal."""
    out = Console(highlight=False, markup=False, emoji=False)
    for text, style in lines(report, terminal_width()):
        out.print(Text(text, style=style), soft_wrap=True)


def _paragraph(words: Words, width: int) -> list[Line]:
    first = " " * words.indent
    rest = first + "  " if words.indent else ""
    return [(line, words.style) for line in _wrapped(words.text, width, first, rest)]


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    broken = wrap(
        _TOGETHER.sub(_KEPT, text),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_KEPT, " ") for line in broken] or [""]


def _tabular(table: Table, width: int) -> list[Line]:
    cells = [row for row in table.rows if isinstance(row, tuple)]
    wide = _widths(table, [table.headings, *cells], width)
    out: list[Line] = [(line, "bold") for line in _row(table, table.headings, wide)]
    for row in table.rows:
        out += _paragraph(row, width) if isinstance(row, Words) else [(line, "") for line in _row(table, row, wide)]
    return out


def _widths(table: Table, cells: Sequence[tuple[str, ...]], width: int) -> list[int]:
    """Width of each column: what it holds, less, where lines may break, what the table is too wide; widest first."""
    columns = list(zip(*cells, strict=True))
    wide = [max(map(len, column)) for column in columns]
    least = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    shrinks = [i for i, heading in enumerate(table.headings) if heading in table.wrapped]
    room = width - _BETWEEN * (len(wide) - 1)
    while sum(wide) > room and (can := [i for i in shrinks if wide[i] > least[i]]):
        wide[max(can, key=lambda i: wide[i])] -= 1
    return [max(len(line) for cell in column for line in _wrapped(cell, wide[i])) for i, column in enumerate(columns)]


def _row(table: Table, cells: tuple[str, ...], wide: Sequence[int]) -> list[str]:
    broken = [_wrapped(cell, width) for cell, width in zip(cells, wide, strict=True)]
    right = [heading in table.right for heading in table.headings]
    out = []
    for number in range(max(map(len, broken))):
        parts = [cell[number] if number < len(cell) else "" for cell in broken]
        placed = [
            part.rjust(width) if to_right else part.ljust(width)
            for part, width, to_right in zip(parts, wide, right, strict=True)
        ]
        out.append((" " * _BETWEEN).join(placed).rstrip())
    return out
