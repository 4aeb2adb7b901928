"""Where agents report: one POST of a node's whole state, answered with the power caps that its GPUs are leased.

Whose report it is the token says (`controller.identity`); a report of another node's is refused. Only the leader takes
reports: others close the connection, so that the agent's next try may find the leader.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from controller.certificate import Renewal
from controller.identity import NotKnown
from controller.kube.rest import ApiError
from controller.port import try_port
from controller.reports import MAX_BYTES, BadReport, Kept, Report, parse

PATH = "/v1/report"
_MOST_WAITING = 512  # reports in hand; more are told to come back
_NEXT_S = 10.0
_RENEW_S = 10  # between looks at the certificate's files


class Desk(Protocol):
    """What becomes of reports."""

    def leads(self) -> bool:
        """Whether this process takes reports."""

    def remembered(self, token: str) -> str | None:
        """The node of a token that was checked lately. Raises NotKnown where it was refused lately."""

    def node(self, token: str) -> str:
        """The node of a token. Raises NotKnown, ApiError. May wait for the API server."""

    def hear(self, report: Report, node: str) -> Kept:
        """Take a report. Raises BadReport."""

    def caps(self, report: Report) -> Sequence[dict[str, object]]:
        """The caps of a node's GPUs."""

    def allotments(self, report: Report) -> Sequence[dict[str, object]]:
        """What the plans in force give a node's GPUs."""

    def metrics(self) -> str:
        """What Prometheus is told."""

    def ready(self) -> bool:
        """Whether the caches are filled."""


@dataclass(frozen=True)
class Listen:
    """Where to listen, and the certificate's files; without them plain HTTP, for the loopback or behind a proxy."""

    host: str = "127.0.0.1"
    port: int = 8443
    certificate: Path | None = None
    key: Path | None = None


def app(desk: Desk, next_s: float = _NEXT_S) -> Starlette:
    """The application. `next_s`: when agents are asked to report again.

    A thousand reports come every second: FastAPI's way to a function takes longer than all that is done with one.
    """
    waiting = [0]

    async def report(request: Request) -> Response:
        if not desk.leads():
            return _said(503, "this replica does not lead", {"Connection": "close", "Retry-After": "1"})
        if waiting[0] >= _MOST_WAITING:
            return _said(429, f"got more than {_MOST_WAITING} reports at once", {"Retry-After": "1"})
        waiting[0] += 1
        try:
            return await _report(desk, request, next_s)
        finally:
            waiting[0] -= 1

    async def healthz(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def readyz(_: Request) -> Response:
        good = desk.ready()
        return Response("ok\n" if good else "caches are being filled\n", 200 if good else 503, media_type="text/plain")

    async def metrics(_: Request) -> Response:
        return Response(desk.metrics(), media_type="text/plain; version=0.0.4")

    gets = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
    return Starlette(routes=[Route(PATH, report, methods=["POST"]), *(Route(path, do) for path, do in gets.items())])


async def _report(desk: Desk, request: Request, next_s: float) -> Response:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return _said(401, "got no token, allowed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
    try:
        node = desk.remembered(token)
        if node is None:  # asks the API server, which others must not wait for
            node = await asyncio.get_running_loop().run_in_executor(None, desk.node, token)
        read = parse(await _body(request))  # of agents alone: nobody else may fill the memory
        if read.node != node:
            return _said(403, f"node: got {read.node}, allowed: {node}, which the token is bound to")
        desk.hear(read, node)
    except NotKnown as error:
        return _said(403 if error.known else 401, str(error))
    except BadReport as error:
        old = str(error).startswith(("sequence", "boot_id"))
        return _said(409 if old else 400, str(error))
    except ApiError as error:
        return _said(503, f"the API server cannot be asked: {error}", {"Retry-After": "2"})
    answer = {"caps": desk.caps(read), "allotments": desk.allotments(read), "next_s": next_s}
    return Response(orjson.dumps(answer), media_type="application/json")


async def _body(request: Request) -> bytes:
    """The body, as far as it is allowed to go. Raises BadReport."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > MAX_BYTES:
            raise BadReport(f"a report of more than {MAX_BYTES:,} bytes, allowed: up to {MAX_BYTES:,}")
    return bytes(read)


def _said(status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": words}), status, headers=headers, media_type="application/json")


class Server:
    """The application on a port, in a thread of its own."""

    def __init__(self, desk: Desk, listen: Listen, next_s: float = _NEXT_S, renew_s: int = _RENEW_S) -> None:
        config = uvicorn.Config(
            app(desk, next_s), host=listen.host, port=listen.port, http="httptools", ws="none", lifespan="off",
            log_level="warning", access_log=False, server_header=False, timeout_keep_alive=75,
            ssl_certfile=None if listen.certificate is None else str(listen.certificate),
            ssl_keyfile=None if listen.key is None else str(listen.key),
            callback_notify=self._renew, timeout_notify=renew_s,
        )  # fmt: skip
        pair = listen.certificate, listen.key
        self._renewal = None if pair[0] is None or pair[1] is None else Renewal(pair[0], pair[1])
        self._server = uvicorn.Server(config)
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def start(self, patience_s: float = 10.0) -> int:
        """Listen; gives the port. Raises OSError where that cannot be."""
        try_port(self._server.config.host, self._server.config.port)
        self._thread.start()
        end_s = time.monotonic() + patience_s
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end_s:
                raise OSError(f"cannot listen: {self._failed or 'no answer of the server; its log says more'}")
            time.sleep(0.01)
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    async def _renew(self) -> None:
        context = self._server.config.ssl
        if self._renewal is not None and context is not None:
            self._renewal.into(context)  # in the loop's thread, which alone makes connections of the context

    def stop(self) -> None:
        """Answer what is in hand and end."""
        self._server.should_exit = True
        if self._thread.ident is not None:  # else its port was not to be had
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        try:
            self._server.run()
        except BaseException as error:  # uvicorn leaves by SystemExit where the port is taken
            self._failed = error
