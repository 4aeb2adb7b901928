"""One request as the routes see it: who asks, for what, with which body; and how they answer."""

import hmac
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Query, Request, Response

from controller.plan_child import PlanningFailed
from controller.web.access import Access, Caller, Tokens
from controller.web.counts import Counts
from controller.web.documents import Body, Reader
from controller.web.explore import Busy, Explorer
from controller.web.feed import Feed
from controller.web.glance import Glance
from controller.web.limits import Answers, Limits, Said
from controller.web.problems import Refused, invalid, said
from controller.web.simulating import Simulates
from controller.web.site import Site

JSON = "application/json"
_MOST_KEY = 255
T = TypeVar("T")
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Web:
    """What all requests share."""

    site: Site
    tokens: Tokens
    limits: Limits
    explorer: Explorer
    simulator: Simulates
    answers: Answers
    reader: Reader
    counts: Counts
    feed: Feed
    glance: Glance
    metrics: Callable[[], str]


@dataclass(frozen=True)
class Ask:
    """One request."""

    web: Web
    request: Request
    caller: Caller
    data: bytes

    @property
    def site(self) -> Site:
        """The controller that is asked about."""
        return self.web.site

    def view(self, name: str, make: Callable[[Site], T]) -> T:
        """A view, made once for all who look at the same moment; what may be seen was checked before."""
        return self.web.glance.of(name, lambda: make(self.web.site))

    def body(self) -> Body:
        """The object in the body; raises Refused."""
        return self.web.reader.read(self.data, self.request.headers.get("content-type", ""))

    def may(self, verb: str, plural: str, namespace: str = "", name: str = "", group: str = "muster.dev") -> bool:
        """Whether the caller may do something; raises ApiError."""
        return self.web.tokens.may(self.caller, Access(verb, plural, namespace, name, group))

    def need(self, verb: str, plural: str, namespace: str = "", name: str = "", group: str = "muster.dev") -> None:
        """Raises Refused where the caller may not do something."""
        access = Access(verb, plural, namespace, name, group)
        if not self.web.tokens.may(self.caller, access):
            raise Refused(403, "forbidden", f"got a token of {self.caller.name}, allowed: one that may {access}")

    def seen(
        self, plural: str, rows: Sequence[T], namespace_of: Callable[[T], str], group: str = "muster.dev"
    ) -> list[T]:
        """The rows of those namespaces that the caller may list. Raises Refused where there can be none at all."""
        if self.may("list", plural, group=group):
            return list(rows)
        spaces = {
            space: bool(space) and self.may("list", plural, space, group=group) for space in map(namespace_of, rows)
        }
        if not any(spaces.values()):
            self.need("list", plural, group=group)
        return [row for row in rows if spaces[namespace_of(row)]]


async def asked(request: Request) -> Ask:
    """The request, its body read (the gate bounds it)."""
    web: Web = request.app.state.web
    return Ask(web, request, request.scope["state"]["caller"], await request.body())


Asked = Annotated[Ask, Depends(asked)]
Limit = Annotated[int, Query(ge=1, le=500, description="How many items at most.")]
Continue = Annotated[
    str, Query(alias="continue", max_length=1024, description="Where to go on: `continue` of the page before.")
]


def answered(found: object, status: int = 200, etag: str = "", **headers: str) -> Response:
    """JSON."""
    if etag:  # what is only said and not stored has no version
        headers["ETag"] = f'"{etag}"'
    return Response(orjson.dumps(found), status, headers=headers, media_type=JSON)


def page(rows: Sequence[T], key: Callable[[T], str], limit: int, after: str) -> Response:
    """A page of rows that are sorted by key, after the last of the page before. Raises Refused.

    Rows that come or go between two pages shift nothing: the next page begins after a key, not at a place.
    """
    if after:
        last = _opened(after)
        rows = [row for row in rows if key(row) > last]
    here, left = rows[:limit], max(len(rows) - limit, 0)
    more = urlsafe_b64encode(key(here[-1]).encode()).decode() if left else None
    return answered({"items": list(here), "continue": more, "remaining": left})


def _opened(after: str) -> str:
    try:
        return b64decode(after, altchars=b"-_", validate=True).decode()
    except ValueError:
        words = f"got {after[:60]!r}, allowed: what `continue` of a page says"
        raise invalid([said("continue", words)], "parameters") from None


def unchanged(ask: Ask, version: str) -> bool:
    """Whether the caller has a version already (If-None-Match)."""
    return version in _tags(ask.request.headers.get("if-none-match", ""))


def expected(ask: Ask, version: str, required: bool = True) -> None:
    """Raises Refused unless the caller names the version that there is (If-Match): else an update might be lost."""
    header = ask.request.headers.get("if-match", "")
    if not header:
        if required:
            words = f'If-Match: got nothing, allowed: the ETag of what you read, "{version}" now, or * for any'
            raise Refused(428, "precondition-required", words)
        return
    if header.strip() != "*" and version not in _tags(header):
        words = f'If-Match: got {header[:100]}, allowed: "{version}"; it was changed meanwhile, so read it again'
        raise Refused(412, "changed-meanwhile", words)


def _tags(header: str) -> list[str]:
    return [tag.strip().strip('"') for tag in header.split(",") if tag.strip()]


def once(ask: Ask, work: Callable[[], Response]) -> Response:
    """Do something once for each Idempotency-Key: who asks again is answered again, and nothing is done.

    Refusals that may pass (5xx, 429) are not kept. Raises Refused for a key that came with another request.
    """
    given = ask.request.headers.get("idempotency-key", "")
    if not given:
        return work()
    if len(given) > _MOST_KEY:
        words = f"got {len(given)} characters, allowed: at most {_MOST_KEY}"
        raise invalid([said("Idempotency-Key", words)], "headers")
    key = f"{ask.caller.id} {given}"
    digest = sha256(b"\0".join((ask.request.method.encode(), str(ask.request.url).encode(), ask.data))).hexdigest()
    known = ask.web.answers.begin(key, digest, time.monotonic())
    if known is not None:
        return _again(known, digest)
    try:
        done = work()
    except BaseException:
        ask.web.answers.forget(key)
        raise
    kept = {name: value for name, value in done.headers.items() if name.lower() not in ("content-length",)}
    ask.web.answers.end(key, Said(digest, done.status_code, bytes(done.body), kept), time.monotonic())
    return done


def _again(known: Said, digest: str) -> Response:
    if not hmac.compare_digest(known.asked, digest):
        words = "got the key of another request, allowed: a new key for a new request"
        raise invalid([said("Idempotency-Key", words)], "headers")
    if known.pending:
        raise Refused(
            409,
            "conflict",
            "Idempotency-Key: the first request with it is still worked on",
            headers={"Retry-After": "1"},
        )
    headers = {**known.headers, "Idempotency-Replayed": "true"}
    return Response(known.body, known.status, headers=headers)


def plain(found: object) -> Any:
    """A dataclass as JSON has it."""
    return orjson.loads(orjson.dumps(found))


def readable(ask: Ask, obj: Object) -> None:
    """Raises Refused for a service of the cluster whose spec cannot be planned."""
    problems = ask.site.known.spec(obj)
    if isinstance(problems, list):
        placed = (one.partition(": ") for one in problems)
        raise invalid([said(path if words else "", words or path) for path, _, words in placed], "GPUService")


def explored(question: Callable[[], T]) -> T:
    """The answer to a question that the planner's process answers. Raises Refused."""
    try:
        return question()
    except Busy:
        words = "too many questions to the planner at once"
        raise Refused(429, "too-many-requests", words, headers={"Retry-After": "5"}) from None
    except PlanningFailed as error:
        raise Refused(503, "unavailable", str(error), headers={"Retry-After": "5"}) from None
