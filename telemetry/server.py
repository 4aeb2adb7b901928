"""The agent's pages: /metrics, /healthz, /readyz. Answers from memory, whatever the driver does."""

import gzip
import hmac
import os
import ssl
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from telemetry.render import TEXT_TYPE
from telemetry.settings import token

SLOWEST_CLIENT_S = 10.0
MOST_CLIENTS = 32


class Pages(NamedTuple):
    """What to answer: the metrics' text; whether the agent is well; whether it has read every GPU once."""

    metrics: Callable[[], bytes]
    healthy: Callable[[], str]  # empty = well, else why not
    ready: Callable[[], str]


class Server(ThreadingHTTPServer):
    """Serves the pages in threads of their own, `MOST_CLIENTS` at a time. `token_file`: what a scraper of /metrics must
    show, read anew each time; empty = nothing.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], pages: Pages, token_file: str, certificate: "Certificate") -> None:
        super().__init__(address, _Handler)
        self.pages = pages
        self.token_file = token_file
        self.certificate = certificate
        self._free = threading.Semaphore(MOST_CLIENTS)

    def process_request(self, request: object, client_address: object) -> None:
        """One more client; at once turned away where there are too many, so that no crowd takes the node's memory."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        try:
            super().process_request(request, client_address)  # type: ignore[arg-type]
        except RuntimeError:  # no more threads: as above
            self._free.release()
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """In a thread of its own."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._free.release()

    def allows(self, scheme: str, shown: str) -> bool:
        """Whether a scraper may have the metrics: nobody where the token's file is gone or empty."""
        if not self.token_file:
            return True
        try:
            wanted = token(self.token_file).encode("utf-8", "surrogateescape")
        except OSError:
            return False
        fits = hmac.compare_digest(shown.strip().encode("utf-8", "surrogateescape"), wanted)
        return bool(wanted) and scheme.lower() == "bearer" and fits

    def finish_request(self, request: object, client_address: object) -> None:
        """The handshake happens here, in the request's own thread: a slow client holds up nobody."""
        request.settimeout(SLOWEST_CLIENT_S)  # type: ignore[attr-defined]
        context = self.certificate.context()
        if context is None:
            return super().finish_request(request, client_address)  # type: ignore[arg-type]
        try:
            secured = context.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
        except (OSError, ssl.SSLError):
            return None
        with secured:
            super().finish_request(secured, client_address)
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away or dawdled is no news."""


class Certificate:
    """A certificate and its key, read again once either file has changed. Raises OSError while it is made.

    What was read stays where the new files are no pair, as in the middle of a renewal.
    """

    def __init__(self, certificate: str = "", key: str = "") -> None:
        self._pair = (certificate, key or certificate)
        self._changed = self._stamps()
        self._context = self._read() if certificate else None

    def context(self) -> ssl.SSLContext | None:
        """What to serve HTTPS with; None = plain HTTP."""
        try:
            changed = self._stamps()
            if changed != self._changed:
                self._context = self._read()
                self._changed = changed
        except OSError:
            """The last that was read."""
        return self._context

    def _stamps(self) -> list[tuple[int, int]]:
        return [(found.st_mtime_ns, found.st_ino) for found in (os.stat(one) for one in self._pair if one)]

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._pair, password="")  # else a locked key would be asked for on a terminal
        return context


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "muster-agent", ""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a page's last bytes may wait for the acknowledgement of the rest

    def do_GET(self) -> None:
        """One page."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            if not self._allowed():
                return self._answer(
                    HTTPStatus.UNAUTHORIZED, b"a bearer token is needed\n", ("WWW-Authenticate", "Bearer")
                )
            return self._answer(HTTPStatus.OK, self.server.pages.metrics(), ("Content-Type", TEXT_TYPE))
        checks = {"/healthz": self.server.pages.healthy, "/readyz": self.server.pages.ready}
        if path not in checks:
            return self._answer(HTTPStatus.NOT_FOUND, b"known pages: /metrics /healthz /readyz\n")
        why = checks[path]()
        return self._answer(HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK, f"{why or 'ok'}\n".encode())

    def _allowed(self) -> bool:
        scheme, _, shown = self.headers.get("Authorization", "").partition(" ")
        return self.server.allows(scheme, shown)

    def _answer(self, status: HTTPStatus, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        if len(body) > 1400 and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 1)
            self.send_header("Content-Encoding", "gzip")
        for name, value in headers or (("Content-Type", "text/plain; charset=utf-8"),):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""
