"""Routes of events: a list, and a stream for those who follow (server-sent events)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from controller.kube.rest import ApiError
from controller.web import documented as doc
from controller.web import model_events
from controller.web.asked import Ask, Asked, Continue, Limit, page
from controller.web.model_events import EventRow
from controller.web.problems import Refused, invalid, said
from controller.web.routes_services import InNamespace
from planner.errors import MusterError

router = APIRouter(prefix="/events", tags=["events"])
_LOOK_S, _ALIVE_S, _LONGEST_S = 0.5, 15.0, 3600.0
_GROUP = "events.k8s.io"
_LATEST = 1 << 62  # versions are counted down from here, so that pages begin with the newest
After = Annotated[int, Query(ge=0, le=_LATEST, description="Only those written after this version.")]
Reason = Annotated[str, Query(max_length=128, description="Only those with this reason, such as PlanSolved.")]
About = Annotated[str, Query(max_length=320, description="Only those about this: NAMESPACE/NAME, or NAME.")]
Longest = Annotated[float, Query(alias="timeout_s", gt=0, le=_LONGEST_S, description="Seconds until the stream ends.")]


@router.get("", responses=doc.replies(doc.page_of("EventRow"), "A page of events."))
def list_events(
    ask: Asked,
    limit: Limit = 100,
    page_after: Continue = "",
    namespace: InNamespace = "",
    reason: Reason = "",
    about: About = "",
    after: After = 0,
) -> Response:
    """What Muster did and saw, the last written first."""
    rows = [
        row
        for row in _allowed(ask, ask.view("events", model_events.events), namespace)
        if row.version > after and reason in ("", row.reason) and about in ("", row.about)
    ]
    return page(sorted(rows, key=_place), _place, limit, page_after)


def _place(row: EventRow) -> str:
    return f"{_LATEST - row.version:020d}"


def _allowed(ask: Ask, rows: list[EventRow], namespace: str) -> list[EventRow]:
    if namespace:
        ask.need("list", "events", namespace, group=_GROUP)
        return [row for row in rows if row.namespace == namespace]
    return ask.seen("events", rows, lambda row: row.namespace, group=_GROUP)


@router.get(
    "/stream",
    responses=doc.replies(
        {"type": "string", "description": "Each event: `id` its version, `data` an EventRow as JSON."},
        "Events as they are written.",
        media="text/event-stream",
    ),
    openapi_extra=doc.with_parameters(
        {}, doc.parameter("Last-Event-ID", "header", "The last event that you have; the stream goes on after it.", "17")
    ),
)
async def stream_events(
    ask: Asked, namespace: InNamespace = "", after: After = _LATEST, timeout_s: Longest = _LONGEST_S
) -> Response:
    """Events from now on, or after a version that you name; a comment now and then shows that the stream lives."""
    loop = asyncio.get_running_loop()
    begun = await loop.run_in_executor(None, _begun, ask, namespace, after)
    if ask.web.counts.streams >= ask.web.limits.streams:
        words = f"got more than {ask.web.limits.streams} streams at once"
        raise Refused(429, "too-many-requests", words, headers={"Retry-After": "10"})

    def look(version: int) -> list[EventRow]:
        rows = ask.web.feed.after(version)
        try:
            return _allowed(ask, rows, namespace) if rows else []
        except Refused:
            return []  # none of these is of a namespace that the caller sees

    return StreamingResponse(
        _told(ask, look, begun, timeout_s), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


def _begun(ask: Ask, namespace: str, after: int) -> int:
    """The version that a stream begins after. Raises Refused where the caller may see no events."""
    if namespace:
        ask.need("watch", "events", namespace, group=_GROUP)
    elif ask.web.tokens.open or not ask.may("watch", "events", group=_GROUP):
        _allowed(ask, ask.web.feed.rows(), "")
    given = ask.request.headers.get("last-event-id", "")
    if given and (not given.isdecimal() or len(given) > 19):
        raise invalid([said("Last-Event-ID", f"got {given[:60]!r}, allowed: the id of an event")], "headers")
    last = int(given) if given else after
    newest = max((row.version for row in ask.web.feed.rows()), default=0)
    return min(last, newest)  # an id from before the cluster began anew would hide everything


async def _told(ask: Ask, look: Callable[[int], list[EventRow]], last: int, longest_s: float) -> AsyncIterator[bytes]:
    """Events as the stream carries them, until the client leaves or time is over."""
    loop, counts = asyncio.get_running_loop(), ask.web.counts
    end_s = alive_s = time.monotonic()
    end_s += longest_s
    counts.streams += 1
    try:
        yield b"retry: 2000\n\n"
        while time.monotonic() < end_s and not await ask.request.is_disconnected():
            try:
                rows = await loop.run_in_executor(None, look, last)
            except (ApiError, MusterError):
                return  # the client comes again with the last id that it has
            for row in rows:
                last = row.version
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (row.version, row.reason.encode(), orjson.dumps(row))
            if rows:
                alive_s = time.monotonic()
            elif time.monotonic() - alive_s > _ALIVE_S:
                alive_s = time.monotonic()
                yield b": alive\n\n"
            await asyncio.sleep(min(_LOOK_S, max(end_s - time.monotonic(), 0.0)))
    finally:
        counts.streams -= 1
