"""Accuracy that a number format keeps, by family of models and size, read from quality.yaml on first use."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from planner.architecture import parameters
from planner.catalog.fields import Fields
from planner.model import Model
from planner.yaml_text import read

ROWS = Path(__file__).with_name("quality.yaml")

_KEYS = ("family", "model", "parameters", "kept", "whole", "benchmark", "source")
_BILLION = 1e9
_SAME_SIZE = 1.1  # a model of 8.03 billion parameters is one of 8


@dataclass(frozen=True, slots=True)
class Quality:
    """One measurement: `kept_ratio` of the 16-bit score (1 at most) by a model of a family."""

    family: str
    model: str
    parameters: float
    kept_ratio: float
    benchmark: str
    source: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a format is taken to keep of a model's accuracy; `evidence`: the measured model and what it was asked."""

    kept_ratio: float
    evidence: str
    source: str


@cache
def qualities() -> Mapping[str, tuple[Quality, ...]]:
    """Technique -> its measurements. Raises BadInput with file and line."""
    document = read(ROWS)[0]
    top = Fields({}, document.where).below("quality", document.root.plain())
    top = Fields(top.values, document.where)
    top.only(("sources", "formats"))
    sources, formats = top.child("sources"), top.child("formats")
    found: dict[str, tuple[Quality, ...]] = {}
    for name in formats.values:
        everything = Fields({}, document.where, ("formats", name))
        rows = (everything.below(index, row) for index, row in enumerate(formats.items(name)))
        found[name] = tuple(_row(row, sources) for row in rows)
    return found


def recovery(technique: str, model: Model) -> Recovery | None:
    """What a technique keeps of a model's accuracy; None for one that nobody measured, or that computes the same.

    Of the model's family, the largest measured model counts that is no larger, as small models lose most (the source
    `distill`), else the smallest; of a family that nobody measured, the worst of all families.
    """
    rows = qualities().get(technique, ())
    if not rows:
        return None
    mine = [row for row in rows if row.family == model.family]
    if not mine:
        worst = min(rows, key=lambda row: row.kept_ratio)
        return Recovery(worst.kept_ratio, f"{worst.model}, the worst measured; {model.family} was not", worst.source)
    sizes = {row.parameters for row in mine}
    size = max((s for s in sizes if s <= parameters(model) * _SAME_SIZE), default=min(sizes))
    worst = min((row for row in mine if row.parameters == size), key=lambda row: row.kept_ratio)
    return Recovery(worst.kept_ratio, f"{worst.model}, {worst.benchmark}", worst.source)


def _row(row: Fields, sources: Fields) -> Quality:
    row.only(_KEYS)
    return Quality(
        row.text("family"),
        row.text("model"),
        row.number("parameters") * _BILLION,
        min(row.number("kept") / row.number("whole"), 1.0),
        row.text("benchmark"),
        sources.text(row.text("source")),
    )
