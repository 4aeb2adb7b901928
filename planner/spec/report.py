"""What is wrong with a document, one line each: `chat.yaml:14: spec.slos[0].ttft: got X, allowed: Y`."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TypeAlias, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from planner.spec.fields import PATTERNS, PROBLEMS, Problem, Shape
from planner.units import got

ShapeType: TypeAlias = type[Shape]
MAX_PROBLEMS = 1000  # of one document: enough for people, and quick on a hostile file

_KINDS = {  # the type of an error that pydantic found -> what is allowed there
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
}
_BOUNDS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "literal_error": "{expected}",
}


def problems_of(error: ValidationError, shape: ShapeType) -> list[Problem]:
    """Every problem that validation against `shape` found: its path in the document, and what to say."""
    details = error.errors(include_url=False)
    found = [problem for detail in details[:MAX_PROBLEMS] for problem in _said(detail, shape)]
    more = len(details) - MAX_PROBLEMS
    return found + ([((), f"got {more} more problems, allowed: none")] if more > 0 else [])


def _said(detail: ErrorDetails, shape: ShapeType) -> Iterator[Problem]:
    path, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    if kind == PROBLEMS:
        yield from ((path + below, text) for below, text in context[PROBLEMS])
    elif kind == "missing":
        yield path, f"got nothing, allowed: {_described(shape, path)}"
    elif kind == "extra_forbidden":
        yield path, f"got the key {got(path[-1])}, {_keys(shape, path)}"
    elif kind == "model_type":
        yield path, f"got {_brief(detail['input'])}, allowed: a mapping with {_names(_below(shape, path))}"
    elif kind == "string_pattern_mismatch":
        yield path, f"got {_brief(detail['input'])}, allowed: {PATTERNS[context['pattern']]}"
    elif kind in _BOUNDS:
        yield path, f"got {_brief(detail['input'])}, allowed: {_BOUNDS[kind].format(**context)}{_near(detail)}"
    else:  # a type of error that is not listed says itself what it allows
        yield path, f"got {_brief(detail['input'])}, allowed: {_KINDS.get(kind, detail['msg'])}"


def _brief(value: object) -> str:
    """A value in few words: what it holds only where it is a scalar."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "nothing" if value is None else got(value)


def _near(detail: ErrorDetails) -> str:
    """A hint for a word that is close to an allowed one."""
    if detail["type"] != "literal_error" or not isinstance(detail["input"], str):
        return ""
    words = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
    near = get_close_matches(detail["input"][:100], words, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _keys(shape: ShapeType, path: tuple[str | int, ...]) -> str:
    """What keys are allowed beside the last of a path, and which of them was meant."""
    names = _fields(_below(shape, path[:-1]))
    near = get_close_matches(str(path[-1])[:100], names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"allowed: {', '.join(names)}{hint}"


def _described(shape: ShapeType, path: tuple[str | int, ...]) -> str:
    """What a field that is missing would say."""
    parent = _below(shape, path[:-1])
    words = _fields(parent)[str(path[-1])]
    return f"{path[-1]}, which is required: {words.removesuffix('.')}"


def _names(shape: ShapeType) -> str:
    return ", ".join(_fields(shape))


def _fields(shape: ShapeType) -> dict[str, str]:
    """Key as written -> its description."""
    return {info.alias or name: info.description or "" for name, info in shape.model_fields.items()}


def _below(shape: ShapeType, path: tuple[str | int, ...]) -> ShapeType:
    """The shape at a path that validation walked."""
    for step in path:
        if isinstance(step, str):
            field = next((info for info in shape.model_fields.values() if info.alias == step), None)
            if field is not None:  # else the key of a mapping, whose values are of the shape already found
                shape = next(_shapes(field.annotation), shape)
    return shape


def _shapes(annotation: object) -> Iterator[ShapeType]:
    """The shapes in the annotation of a field: one at most, within `| None`, `list` and `Annotated`."""
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        yield annotation
    for part in get_args(annotation):
        yield from _shapes(part)
