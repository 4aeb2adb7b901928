"""The fields of a GPUService with what they mean, from its schema: what the editor completes. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from controller.crds.generate import schema
from controller.crds.kinds import KINDS

_DEEP = 4
_META = (("name", "Name of the service in its namespace."), ("namespace", "Namespace; default where none is given."),
         ("labels", "Labels of the object."))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """A field below a path. `apply`: what completion writes; `kind`: its type; `values`: all that it may be, if few."""

    name: str
    words: str
    apply: str
    kind: str
    values: tuple[str, ...]


@cache
def below() -> Mapping[str, tuple[Field, ...]]:
    """Fields by the path that they are below, `[]` for an entry of a list; the object's own below the empty path."""
    kind = next(one for one in KINDS if one.name == "GPUService")
    found: dict[str, tuple[Field, ...]] = {
        "": (
            Field("apiVersion", "Version of this format.", "apiVersion: ", "string", ("muster.dev/v1alpha1",)),
            Field("kind", "What this object is.", "kind: ", "string", ("GPUService",)),
            Field("metadata", "What the object is called.", "metadata:\n  ", "object", ()),
            Field("spec", "What is asked for.", "spec:\n  ", "object", ()),
        ),
        "metadata": tuple(Field(name, words, f"{name}: ", "string", ()) for name, words in _META),
    }
    found.update(_below(schema(kind)["properties"]["spec"], "spec", 0))
    return found


def plain() -> dict[str, list[dict[str, Any]]]:
    """The same for the browser."""
    return {path: [asdict(one) for one in rows] for path, rows in below().items()}


def _below(node: Mapping[str, Any], path: str, depth: int) -> Iterator[tuple[str, tuple[Field, ...]]]:
    rows = node.get("properties", {})
    if not rows or depth > _DEEP:
        return
    indent = "  " * (depth + 1)
    yield path, tuple(_field(name, shape, indent) for name, shape in rows.items())
    for name, shape in rows.items():
        yield from _below(shape.get("items", shape), f"{path}.{name}" + ("[]" if "items" in shape else ""), depth + 1)


def _field(name: str, shape: Mapping[str, Any], indent: str) -> Field:
    kind = str(shape.get("type") or "string or number")
    values = tuple(map(str, shape.get("enum") or ())) or (("true", "false") if kind == "boolean" else ())
    inner = shape.get("items", {}).get("properties")
    if inner:
        apply = f"{name}:\n{indent}  - "
    elif shape.get("properties"):
        apply = f"{name}:\n{indent}  "
    else:
        apply = f"{name}: "
    return Field(name, str(shape.get("description", "")), apply, "list" if "items" in shape else kind, values)
