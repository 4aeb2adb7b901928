"""What every request of the API passes first: size, token, rate, its turn. Plain ASGI: a stream passes unbuffered.

Only paths of the API are looked at, and forms that sign in; pages on the same application have guards of their own.
Where no token is asked for, a browser's pages from elsewhere must not speak for the person before it, so Host and
Origin must be ours.
"""

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from random import uniform
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.kube.rest import ApiError
from controller.web.access import Caller, Tokens, Unknown, is_loopback
from controller.web.counts import Counts
from controller.web.limits import Buckets, Limits
from controller.web.problems import Refused, answer, of_cluster
from controller.web.recent import Recent
from controller.web.turns import Turns

PREFIX = "/api/"
METRICS = "/metrics"
SIGN_IN = "/login"
_FORM, _FORM_BYTES = "application/x-www-form-urlencoded", 32 * 2**10
CLOCK = "Muster-Clock"  # Unix time of the cluster, which is not ours where it is simulated
OPEN_PATHS = ("/api/v1/openapi.json",)
_HOLD_S, _MOST_HELD = (0.5, 1.8), 2000  # who asks too often waits for the refusal, or would ask again at once
_LOOK_S, _LATE_S, _LATEST, _PAYS = 0.01, 0.003, 0.1, 100.0
_MUCH_BYTES = 8 * 2**10
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="muster"'}


class Gate:
    """Lets requests in to `app`, with the caller in `scope["state"]["caller"]`. `clock`: of the cluster.

    `written` is called before the answer to a request that may have changed something."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        limits: Limits,
        counts: Counts,
        clock: Callable[[], float],
        written: Callable[[], None],
    ) -> None:
        self._app, self._tokens, self._limits, self._counts = app, tokens, limits, counts
        self._clock, self._written = clock, written
        self._turns, self._recent = Turns(limits.at_once, limits.turn_s), Recent(limits.glance_s)
        self._held, self._late_s = 0, 0.0
        self._known = Buckets(limits.per_s, limits.burst)
        self._wires = Buckets(limits.modest_per_s, limits.modest_burst)
        self._unknown = Buckets(limits.unknown_per_s, limits.unknown_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"] == SIGN_IN and scope["method"] == "POST":
            await self._sign_in(scope, receive, send)
            return
        if scope["type"] != "http" or not _ours(scope["path"]):
            await self._app(scope, receive, send)
            return
        began_s = time.perf_counter()
        status = [500]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                if scope["method"] != "GET" and message["status"] < 400:
                    self._written()
                    self._recent.forget()
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault(CLOCK, f"{self._clock():.3f}")
                headers.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        try:
            await self._let_in(scope, receive, counted)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "") or "other"
            self._counts.add(scope["method"], path, status[0], time.perf_counter() - began_s)

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A form with a token: small, and not too many of one address, since each may be asked of the API server."""
        headers = Headers(scope=scope)
        try:
            if not headers.get("content-type", "").startswith(_FORM):
                raise Refused(415, "unsupported-media-type", f"the form: got another kind, allowed: {_FORM}")
            if wait_s := self._unknown.wait_s((scope.get("client") or ("", 0))[0], time.monotonic()):
                raise _slower(wait_s)
            body = await _body(headers, receive, _FORM_BYTES)
        except Refused as refused:
            await answer(refused, scope["path"])(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        caller, much = Caller("", ""), False
        try:
            if scope["path"] not in OPEN_PATHS:
                caller = await self._caller(scope, headers)
                much = self._asks_much(caller, scope)
                scope.setdefault("state", {})["caller"] = caller
            body = await _body(headers, receive, self._limits.body_bytes)
        except Refused as refused:
            if refused.status == 429:
                await self._hold()
            await answer(refused, scope["path"])(scope, receive, send)
            return
        if much:
            await self._when_free()
        much = much or len(body) > _MUCH_BYTES
        turn, work = self._turns.turn(caller.id, much), partial(self._app, scope, _replay(body, receive))
        if scope["method"] != "GET" or "if-none-match" in headers:
            async with turn:
                await work(send)
        else:
            key = f"{caller.id} {scope['path']}?{scope['query_string'].decode('latin-1')}"
            await self._recent.answer(key, much, scope, send, turn, work)

    def _asks_much(self, caller: Caller, scope: Scope) -> bool:
        """Whether a connection is one of those that ask for much. Raises Refused where the caller asks too often.

        Half of what a caller may ask is for its connections that ask little: one that runs wild starves no others.
        """
        now_s, wire = time.monotonic(), scope.get("client") or ("", 0)
        much = self._wires.wait_s(f"{caller.id} {wire[0]} {wire[1]}", now_s) > 0
        if wait_s := self._known.wait_s(caller.id, now_s, self._limits.burst / 2 if much else 0.0):
            raise _slower(wait_s)
        return much

    async def _when_free(self) -> None:
        """Wait a moment, and longer where this process is behind: who asks for much pays for what that does."""
        began_s = time.monotonic()
        await asyncio.sleep(_LOOK_S)
        late_s = time.monotonic() - began_s - _LOOK_S
        self._late_s += (late_s - self._late_s) * _LATEST
        if self._late_s > _LATE_S:
            await asyncio.sleep(min(self._late_s * _PAYS, _HOLD_S[1]))

    async def _hold(self) -> None:
        """Let a refusal wait, which costs nothing, as long as not too many do."""
        if self._held < _MOST_HELD:
            self._held += 1
            try:
                await asyncio.sleep(uniform(*_HOLD_S))  # not all at once again
            finally:
                self._held -= 1

    async def _caller(self, scope: Scope, headers: Headers) -> Caller:
        """Who asks. Raises Refused."""
        if self._tokens.open:
            _from_here(headers)
            return self._tokens.caller("")
        address = (scope.get("client") or ("", 0))[0]
        if wait_s := self._unknown.empty(address, time.monotonic()):
            raise _slower(wait_s)  # whoever guesses tokens is not even answered whether one is right
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Refused(401, "unauthorized", "got no token, allowed: Authorization: Bearer TOKEN", headers=_CHALLENGE)
        if (known := self._tokens.remembered(token)) is not None:
            return known
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self._tokens.caller, token)
        except Unknown:
            self._unknown.wait_s(address, time.monotonic())
            words = "this token is not known here"
            challenge = {"WWW-Authenticate": _CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'}
            raise Refused(401, "unauthorized", words, headers=challenge) from None
        except ApiError as error:
            raise of_cluster(error) from None


def _ours(path: str) -> bool:
    return path.startswith(PREFIX) or path == METRICS


def _slower(wait_s: float) -> Refused:
    after = {"Retry-After": str(max(math.ceil(wait_s), 1))}
    return Refused(429, "too-many-requests", f"too many requests; the next may come in {wait_s:.2g} s", headers=after)


def _from_here(headers: Headers) -> None:
    """Raises Refused for a request that a page of another site sent, also under a name that leads here."""
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        origin = headers.get("origin")
        from_host = host if origin is None else urlsplit(origin).netloc
    except ValueError:
        name, from_host = "", ""
    if not is_loopback(name):
        raise Refused(
            403, "forbidden", f"Host: got {host[:100]!r}, allowed: a loopback address, since no token is asked"
        )
    if from_host != host:
        raise Refused(403, "forbidden", f"Origin: got {from_host[:100]!r}, allowed: {host}")


async def _body(headers: Headers, receive: Receive, most: int) -> bytes:
    """The body, as far as it is allowed to go. Raises Refused."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    read = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(read)
        read += message.get("body", b"")
        if len(read) > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            return bytes(read)


def _too_large(most: int) -> Refused:
    return Refused(413, "too-large", f"the body: got more than {most:,} bytes, allowed: up to that")


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, then what comes after it: that the client left."""
    sent = [False]

    async def again() -> Message:
        if not sent[0]:
            sent[0] = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again
