"""JSON Schema of a shape -> structural schema of a CRD: no references, no alternatives, a bound on every size."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from planner.spec.fields import Shape
from planner.spec.schema import Terse

Schema: TypeAlias = dict[str, Any]
MOST_CHARACTERS, MOST_ITEMS, MOST_PROPERTIES = 253, 256, 64  # where a shape names no bound; CEL's cost needs one
MOST_SHARES = 20_000  # request sizes times SLO classes of one service
_ROW = "Share of one request size that the replicas carry."
_SHARE_KEYS = {
    "sloClass": "SLO class.",
    "inputTokens": "Tokens of the prompt, at most.",
    "outputTokens": "Tokens of the answer, at most.",
    "share": "Share of these requests that the replicas carry.",
}
_KEPT = (
    "type", "format", "description", "enum", "default", "pattern", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "required",
)  # fmt: skip


def structural(shape: type[Shape]) -> Schema:
    """The schema of a shape as an API server takes it."""
    generated = shape.model_json_schema(by_alias=True, schema_generator=Terse)
    return _made(generated, generated.get("$defs", {}))


def _made(node: Mapping[str, Any], named: Mapping[str, Any]) -> Schema:
    node = _flat(node, named)
    made = {key: node[key] for key in _KEPT if key in node}
    for bound, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in node:
            made |= {inclusive: node[bound], bound: True}
    if "const" in node:
        made["enum"] = [node["const"]]
    if made.get("type") == "integer":
        made["format"] = "int64"
    if made.get("type") == "string":
        made.setdefault("maxLength", MOST_CHARACTERS)
        if "pattern" in made:  # Go writes a character by its number another way
            made["pattern"] = re.sub(r"\\u([0-9a-fA-F]{4})", r"\\x{\1}", made["pattern"])
    if made.get("type") == "array":
        made = {key: made[key] for key in made if "prefixItems" not in node or key == "default"} | _list(node, named)
    if made.get("type") == "object":
        made |= _object(node, named)
    return made


def _flat(node: Mapping[str, Any], named: Mapping[str, Any]) -> Mapping[str, Any]:
    """A node without reference and alternatives: `X or null` is X, and a percentile is text in a cluster."""
    while "$ref" in node or "anyOf" in node:
        rest = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        if "$ref" in node:
            node = {**named[node["$ref"].rsplit("/", 1)[-1]], **rest}
            continue
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(options) == 1:
            node = {**options[0], **rest}
            continue
        patterns = [option["pattern"] for option in options if "pattern" in option]
        words = [option["const"] for option in options if "const" in option]
        joined = "|".join([f"(?:{pattern})" for pattern in patterns] + [f"^{re.escape(word)}$" for word in words])
        node = {**rest, "type": "string", "pattern": joined}
        if isinstance(rest.get("default"), float):
            node["default"] = "peak" if rest["default"] == 1 and words else f"p{rest['default'] * 100:g}"
    return node


def _list(node: Mapping[str, Any], named: Mapping[str, Any]) -> Schema:
    if "prefixItems" not in node:
        items = _made(node["items"], named)
        made = {"items": items, "maxItems": node.get("maxItems", MOST_ITEMS)}
        keys = [key for key in ("name", "type") if key in items.get("required", ())]
        if keys and items["properties"][keys[0]].get("pattern"):  # the server keeps names apart, with CEL or without
            made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys[:1]}
            if keys[0] == "type":  # who says a condition says all of it, and a server need not keep who said which part
                made["items"] = {**items, "x-kubernetes-map-type": "atomic"}
        if items.get("description") == _ROW:
            made["maxItems"] = MOST_SHARES
        return made
    cells = [_made(cell, named) for cell in node["prefixItems"]]  # a row of unlike cells has no structural schema
    keyed = {key: {"description": _SHARE_KEYS[key], **cell} for key, cell in zip(_SHARE_KEYS, cells, strict=True)}
    return {"type": "object", "description": _ROW, "properties": keyed, "required": list(_SHARE_KEYS)}


def _object(node: Mapping[str, Any], named: Mapping[str, Any]) -> Schema:
    if "properties" in node:
        return {"properties": {key: _made(value, named) for key, value in node["properties"].items()}}
    values = node.get("additionalProperties", True)
    if values is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    bounds = {"minProperties": node["minProperties"]} if "minProperties" in node else {}
    most = node.get("maxProperties", MOST_PROPERTIES)
    made = _made(values, named)
    if made.get("type") == "string" and not made.get("minLength") and "pattern" not in made:
        made["nullable"] = True  # servers before 1.21 take an empty text in a map for null
    return {"additionalProperties": made, **bounds, "maxProperties": most}
