"""Options that serving engines take, as published with a release, read from engines.yaml on first use."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from planner.catalog.fields import Fields
from planner.yaml_text import read

ROWS = Path(__file__).with_name("engines.yaml")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What one release takes on its command line: names without dashes."""

    version: str
    flags: frozenset[str]
    source: str


@cache
def _options() -> Mapping[str, EngineOptions]:
    """Raises BadInput with file and line."""
    document = read(ROWS)[0]
    top = Fields({}, document.where).below("engines", document.root.plain())
    rows = {name: Fields({}, document.where).below(name, row) for name, row in top.values.items()}
    return {
        name: EngineOptions(row.text("version"), frozenset(row.texts("flags")), row.text("source"))
        for name, row in rows.items()
    }


def engine_options(engine: str) -> EngineOptions:
    """The options of the release that Muster's flags were checked against."""
    return _options()[engine]
