"""Refusals as problem details (RFC 9457): what was refused, where in the body, what was got and what is allowed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from fastapi import Response

from controller.kube.rest import ApiError

MEDIA_TYPE = "application/problem+json"
_URN = "urn:muster:problem:"
_MOST_DETAIL, _MOST_ERRORS, _MOST_NAME = 2000, 100, 320
_GOT, _ALLOWED = "got ", ", allowed: "
_RETRY_S = 2  # where the cluster does not say when to come back


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of a request. `path`: in the body, such as `spec.slos[0].ttft`, or the name of a parameter.

    `line`: from 1, of a body in YAML. `got`, `allowed`: None where the words do not tell them apart.
    """

    path: str
    detail: str
    got: str | None = None
    allowed: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """The body of every refusal. `type` is stable and for programs, `detail` for people."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[FieldError, ...] = ()


class Refused(Exception):
    """A request that is answered with a problem. `kind`: the last word of its type."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.errors, self.headers = status, kind, detail, errors, headers or {}


def said(path: str, words: str, line: int | None = None) -> FieldError:
    """The error in words of the house: `got X, allowed: Y`."""
    got, allowed = None, None
    if words.startswith(_GOT) and _ALLOWED in words:
        got, _, allowed = words.removeprefix(_GOT).partition(_ALLOWED)
    return FieldError(path, words, got, allowed, line)


def invalid(errors: Sequence[FieldError], what: str = "the body") -> Refused:
    """A request that was read and cannot be used."""
    first = errors[0]
    where = f"{first.path}: " if first.path else ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Refused(422, "invalid", f"{what}: {where}{first.detail}{more}", tuple(errors[:_MOST_ERRORS]))


def not_found(what: str, name: str) -> Refused:
    """Nothing by that name. `what`: what it would be, in people's words."""
    return Refused(404, "not-found", f"there is no {what} {name[:_MOST_NAME]}")


_OF_STATUS = {
    400: "bad-request", 401: "unauthorized", 403: "forbidden", 404: "not-found", 405: "method-not-allowed",
    409: "conflict", 412: "changed-meanwhile", 413: "too-large", 415: "unsupported-media-type", 422: "invalid",
    428: "precondition-required", 429: "too-many-requests", 503: "unavailable",
}  # fmt: skip


def kind_of(status: int) -> str:
    """The last word of the type of a problem that nothing more is known of."""
    return _OF_STATUS.get(status, "error")


def of_cluster(error: ApiError) -> Refused:
    """What the cluster refused. A cluster that cannot be asked is unavailable, which passes."""
    status = error.status
    if status in (400, 404, 409, 422):
        return Refused(status, kind_of(status), str(error))
    if status == 403:
        return Refused(403, "forbidden", f"the cluster refuses it to Muster itself: {error}")
    after = {"Retry-After": str(max(round(error.retry_after_s), _RETRY_S))}
    if status == 429:
        return Refused(429, "too-many-requests", str(error), headers=after)
    return Refused(503, "unavailable", f"the cluster cannot be asked: {error}", headers=after)


def answer(refused: Refused, instance: str) -> Response:
    """The response for a refusal."""
    problem = Problem(
        type=_URN + refused.kind,
        title=_title(refused.status),
        status=refused.status,
        detail=refused.detail[:_MOST_DETAIL],
        instance=instance,
        errors=refused.errors,
    )
    return Response(orjson.dumps(problem), refused.status, headers=dict(refused.headers), media_type=MEDIA_TYPE)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def of_parameters(errors: Iterable[Mapping[str, object]]) -> Refused:
    """Parameters that FastAPI refused."""
    found = []
    for one in errors:
        loc = one.get("loc")
        path = ".".join(str(step) for step in loc[1:]) if isinstance(loc, tuple) else ""
        got = repr(one.get("input"))[:100]
        words = str(one.get("msg", "not as expected"))
        found.append(FieldError(path, f"got {got}, allowed: {words[:200]}", got, words[:200]))
    return invalid(found, "parameters")
