"""The fields of a GPUService with what they mean, from its schema: a palette beside the editor. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from controller.crds.generate import schema
from controller.crds.kinds import KINDS

_DEEP = 3


@dataclass(frozen=True, slots=True)
class Field:
    """A field by its path in the spec, `[]` for each entry of a list; `snippet` is a line of YAML that begins it."""

    path: str
    words: str
    snippet: str


@cache
def fields() -> tuple[Field, ...]:
    """All of them, in the schema's order."""
    kind = next(one for one in KINDS if one.name == "GPUService")
    return tuple(_below(schema(kind)["properties"]["spec"], "", 0))


def matching(word: str, most: int = 12) -> list[Field]:
    """Fields whose path or meaning has a word; those that begin with it first."""
    low = word.strip().lower()
    found = [one for one in fields() if low in one.path.lower() or low in one.words.lower()]
    return sorted(
        found, key=lambda one: (not one.path.rpartition(".")[2].lower().startswith(low), one.path.count("."))
    )[:most]


def _below(node: Mapping[str, Any], path: str, depth: int) -> Iterator[Field]:
    for name, shape in node.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield Field(here, shape.get("description", ""), f"{name}: {_example(shape)}".rstrip())
        inner = shape.get("items", shape)
        if depth < _DEEP and inner.get("properties"):
            yield from _below(inner, here + ("[]" if "items" in shape else ""), depth + 1)


def _example(shape: Mapping[str, Any]) -> str:
    if "default" in shape and not isinstance(shape["default"], dict | list):
        return str(shape["default"]).lower() if isinstance(shape["default"], bool) else str(shape["default"])
    if shape.get("enum"):
        return str(shape["enum"][0])
    return {"integer": "1", "number": "1", "boolean": "true", "string": '""', "array": "[]"}.get(
        str(shape.get("type")), ""
    )
