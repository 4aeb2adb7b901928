"""Custom resources checked as an API server does: defaults filled in, structural schema, rules between fields."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft4Validator

from controller.crds.generate import schema
from controller.crds.kinds import KINDS
from controller.crds.rules import broken
from planner.yaml_text import show_path

Object = Mapping[str, Any]
_SHAPES = {kind.name: kind for kind in KINDS}
_MOST_SHOWN = 200


def is_ours(kind: str) -> bool:
    """Whether a kind is one of Muster's."""
    return kind in _SHAPES


@cache
def _schema(kind: str) -> dict[str, Any]:
    made: dict[str, Any] = _as_here(schema(_SHAPES[kind]))
    return made


def _as_here(node: Any) -> Any:
    """Patterns as Python writes them: Go puts a character's number in braces."""
    if isinstance(node, list):
        return [_as_here(one) for one in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: _as_here(value) for key, value in node.items()}
    if isinstance(pattern := node.get("pattern"), str):
        made["pattern"] = re.sub(r"\\x\{([0-9a-fA-F]{4})\}", r"\\u\1", pattern)
    return made


@cache
def _checker(kind: str) -> Draft4Validator:
    return Draft4Validator(_schema(kind))


def filled(obj: Object) -> dict[str, Any]:
    """An object with the defaults of its kind, and without what the kind does not know."""
    shape = {"properties": {"spec": _schema(str(obj["kind"]))["properties"]["spec"]}}
    return {**obj, **_filled({"spec": obj.get("spec")}, shape)}


def _filled(value: Any, node: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping) and (known := node.get("properties")) is not None:
        made = {key: _filled(value[key], known[key]) for key in value if key in known and value[key] is not None}
        return {key: shape["default"] for key, shape in known.items() if "default" in shape and key not in made} | made
    if isinstance(value, Mapping) and isinstance(shape := node.get("additionalProperties"), Mapping):
        return {key: _filled(one, shape) for key, one in value.items()}
    if isinstance(value, list) and (shape := node.get("items")) is not None:
        return [_filled(one, shape) for one in value]
    return value


def bare(obj: Object) -> dict[str, Any]:
    """An object without what the defaults of its kind say anyway."""
    shape = {"properties": {"spec": _schema(str(obj["kind"]))["properties"]["spec"]}}
    return {**obj, **_bare({"spec": obj.get("spec")}, shape)}


def _bare(value: Any, node: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping) and (known := node.get("properties")) is not None:
        return {
            key: _bare(one, known.get(key, {}))
            for key, one in value.items()
            if not ("default" in known.get(key, {}) and known[key]["default"] == one)
        }
    if isinstance(value, list) and (shape := node.get("items")) is not None:
        return [_bare(one, shape) for one in value]
    return value


def problems(obj: Object, old: Object | None) -> list[str]:
    """Why an object is refused: what, got, allowed, where; empty for a good one."""
    kind = str(obj["kind"])
    found = [
        f"{show_path(tuple(error.absolute_path)) or 'object'}: {error.message[:_MOST_SHOWN]}"
        for error in sorted(_checker(kind).iter_errors(obj), key=lambda one: str(one.absolute_path))
    ]
    if found:
        return found
    return [f"{one.path}: {one.message}" for one in broken(kind, obj, old)]
