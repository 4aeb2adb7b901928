"""The models that Muster knows by name, read from models.yaml on first use, and any other by its config.json."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

from planner.catalog.architectures import ARCHITECTURES, assemble
from planner.catalog.fields import Fields, shown
from planner.catalog.hf_config import FILE, from_config
from planner.errors import BadInput, UnknownName
from planner.model import Model
from planner.yaml_text import Document, read

ROWS = Path(__file__).with_name("models.yaml")

_KEYS = (
    "name",
    "family",
    "architecture",
    "config",
    "weightDtype",
    "parameters",
    "besideText",
    "active",
    "source",
    "aliases",
)
_DTYPES = ("fp32", "bf16", "fp16", "fp8", "int8", "mxfp4", "nvfp4")
_ROUNDED = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)([MBT])")
_SCALE = {"M": 1e6, "B": 1e9, "T": 1e12}


def model(name: str, base: Path | None = None) -> Model:
    """A model by its name or an alias in any case, else the one that a config.json (or a folder with one) describes.

    Paths are relative to `base`. Raises UnknownName, or BadInput for a file that cannot be used.
    """
    known = _names().get(name.lower())
    if known is not None:
        return known
    path = (base or Path()) / name
    if name.endswith(".json") or _is_file(path / FILE):
        return from_config(path)
    raise _unknown(name, "or the path of a config.json")


def catalogued(name: str, _: Path | None = None) -> Model:
    """A model by its name or an alias in any case, for names that others send: no file is read. Raises UnknownName."""
    known = _names().get(name.lower())
    if known is None:
        raise _unknown(name, "")
    return known


def _unknown(name: str, otherwise: str) -> UnknownName:
    aliases = {alias: row.name for row in models() for alias in row.aliases}
    return UnknownName("model", name, (row.name for row in models()), aliases, otherwise)


@lru_cache(maxsize=1024)
def checkpoint(name: str) -> str | None:
    """The Hugging Face id of the weights that a name means; None for what no row goes by.

    An id means itself, in the publisher's spelling, and so does what stands behind its slash: a row's other ids are of
    relatives, and a base model has no chat template. The row's own name means the id that its source names, where it
    can.
    """
    row = _names().get(name.lower())
    ids = [] if row is None else [alias for alias in row.aliases if "/" in alias]
    asked = [one for one in ids if name.lower() in (one.lower(), one.lower().rpartition("/")[2])]
    named = [one for one in ids if row is not None and re.search(rf"{re.escape(one)}(?![\w.-])", row.source)]
    if row is not None and name.lower() == row.name.lower():
        asked = []
    return next(iter([*asked, *named, *ids]), None)


def checkpoint_of(asked: str, planned: str) -> str | None:
    """The weights for a plan of the row `planned`: those that the owner asks for, unless of another row by now."""
    row = _names().get(asked.lower())
    return checkpoint(asked if row is not None and row.name == planned else planned)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or a NUL: no name of a file
        return False


@cache
def models() -> tuple[Model, ...]:
    """All rows, in the file's order."""
    return load(ROWS)


def load(file: Path) -> tuple[Model, ...]:
    """The rows of a file like models.yaml; raises BadInput with file and line."""
    document = read(file)[0]
    rows = document.root.plain()
    if not isinstance(rows, list):
        raise BadInput(f"{document.where(())}: got {shown(rows)}, allowed: a list of models")
    everything = Fields({}, document.where)
    made = tuple(_row(everything.below(index, row)) for index, row in enumerate(rows))
    _refuse_shared_names(made, document)
    return made


@cache
def _names() -> Mapping[str, Model]:
    return {name: row for row in models() for name in _called(row)}


def _called(row: Model) -> set[str]:
    """All names of a row in small letters; of a Hugging Face id also the part after the slash."""
    stated = {name.lower() for name in (row.name, *row.aliases)}
    return stated | {name.rpartition("/")[2] for name in stated}


def _refuse_shared_names(rows: tuple[Model, ...], document: Document) -> None:
    """Refuse a name that two rows claim."""
    owners: dict[str, str] = {}
    for index, row in enumerate(rows):
        for name in _called(row):
            if name in owners:
                place = document.where((index, "name"))
                raise BadInput(f"{place}: got the name {name!r}, which {owners[name]} has, allowed: each name once")
            owners[name] = row.name


def _row(top: Fields) -> Model:
    """One row as a model; its config is read as a config.json is."""
    top.only(_KEYS)
    architecture, dtype = top.text("architecture"), top.text("weightDtype")
    if architecture not in ARCHITECTURES:
        raise top.refuse("architecture", f"one of {', '.join(sorted(ARCHITECTURES))}")
    if dtype not in _DTYPES:
        raise top.refuse("weightDtype", f"one of {', '.join(_DTYPES)}")
    if top.has("active"):
        stated(top, "active")
    made = assemble(
        architecture,
        top.child("config"),
        name=top.text("name"),
        family=top.text("family"),
        weight_dtype=dtype,
        source=top.text("source"),
    )
    published = stated(top, "parameters") - top.count("besideText", 0)
    return replace(made, published_params=published, aliases=tuple(top.texts("aliases")))


def stated(fields: Fields, key: str) -> float:
    """A published count: a whole number, or one rounded, such as 70.6B."""
    value = fields.values.get(key)
    if type(value) is int and 0 < value < 10**15:
        return float(value)
    found = _ROUNDED.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise fields.refuse(key, "a whole number, or a rounded one such as 70.6B")
    return float(found[1]) * _SCALE[found[2]]
