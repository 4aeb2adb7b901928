"""What the OpenAPI says of routes: every status that may come, with its body, and bodies of requests with examples."""

from collections.abc import Mapping
from typing import Any

from controller.web.documents import JSON_TYPES, YAML_TYPES
from controller.web.examples import EXAMPLES, PROBLEM_EXAMPLE
from controller.web.problems import MEDIA_TYPE

_WORDS = {
    304: "Nothing changed since the version in If-None-Match.",
    401: "No token, or one that is not known here.",
    403: "The token may not do this.",
    404: "There is none by that name.",
    409: "It is in conflict with what there is.",
    412: "It was changed since the version in If-Match.",
    413: "The body is too large.",
    415: "The body is neither JSON nor YAML.",
    422: "The request was read and cannot be used; `errors` says where and why.",
    428: "If-Match is missing.",
    429: "Too many requests; Retry-After says when to come back.",
    503: "The cluster, or the planner's process, does not answer now, or not in time.",
}
_ALWAYS = (401, 403, 413, 422, 429, 503)
_HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to authenticate."}},
    429: {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds until the next request may come."}},
    503: {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds until it is worth another try."}},
}
ETAG = {"ETag": {"schema": {"type": "string"}, "description": "The version, for If-Match and If-None-Match."}}

Responses = dict[int | str, dict[str, Any]]


def replies(
    schema: str | Mapping[str, Any],
    words: str,
    *also: int,
    status: int = 200,
    media: str = "application/json",
    headers: Mapping[str, Any] | None = None,
) -> Responses:
    """The answers of a route. `schema`: a name of `#/components/schemas`, or a schema; `also`: problems besides those
    that every route may answer with."""
    shape = ref(schema) if isinstance(schema, str) else dict(schema)
    content: dict[str, Any] = {"schema": shape}
    if isinstance(schema, str) and schema in EXAMPLES:
        content["example"] = EXAMPLES[schema]
    good: dict[str, Any] = {"description": words, "content": {media: content}}
    if headers:
        good["headers"] = dict(headers)
    found: Responses = {status: good}
    for code in sorted({*_ALWAYS, *also}):
        found[code] = problem(code)
    return found


def problem(code: int) -> dict[str, Any]:
    """A refusal."""
    if code == 304:
        return {"description": _WORDS[code], "headers": ETAG}
    made: dict[str, Any] = {
        "description": _WORDS[code],
        "content": {MEDIA_TYPE: {"schema": ref("Problem"), "example": PROBLEM_EXAMPLE | {"status": code}}},
    }
    if code in _HEADERS:
        made["headers"] = _HEADERS[code]
    return made


def also(status: int, schema: str, words: str, headers: Mapping[str, Any] | None = None) -> Responses:
    """One more good answer."""
    content = {"schema": ref(schema), **({"example": EXAMPLES[schema]} if schema in EXAMPLES else {})}
    return {status: {"description": words, "content": {"application/json": content}, "headers": dict(headers or {})}}


def ref(name: str) -> dict[str, Any]:
    """A reference to a schema by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def takes(schema: str, *media: str) -> dict[str, Any]:
    """`openapi_extra` of a route with a body."""
    types = media or (JSON_TYPES[0], YAML_TYPES[0])
    content = {"schema": ref(schema), **({"example": EXAMPLES[schema]} if schema in EXAMPLES else {})}
    return {"requestBody": {"required": True, "content": {one: content for one in types}}}


def page_of(schema: str) -> dict[str, Any]:
    """A page of items."""
    made: dict[str, Any] = {
        "type": "object",
        "required": ["items", "continue", "remaining"],
        "properties": {
            "items": {"type": "array", "items": ref(schema)},
            "continue": {"type": ["string", "null"], "description": "For the next page; null on the last."},
            "remaining": {"type": "integer", "minimum": 0, "description": "Items after this page."},
        },
    }
    if schema in EXAMPLES:
        made["examples"] = [{"items": [EXAMPLES[schema]], "continue": None, "remaining": 0}]
    return made


def parameter(name: str, where: str, words: str, example: str) -> dict[str, Any]:
    """A header that a route reads by itself."""
    return {"name": name, "in": where, "description": words, "schema": {"type": "string"}, "example": example}


IF_MATCH = parameter("If-Match", "header", "The ETag of what you read; `*` for any version.", "*")
IF_NONE_MATCH = parameter("If-None-Match", "header", "The ETag of what you have.", '"17"')
KEY = parameter(
    "Idempotency-Key", "header", "Any text that is new: the request is done once however often it is sent.", "create-1"
)


def with_parameters(extra: Mapping[str, Any], *parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` with headers too."""
    return {**extra, "parameters": list(parameters)}
