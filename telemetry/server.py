"""The agent's pages: /metrics, /healthz, /readyz. Answers from memory, whatever the driver does."""

import gzip
import hmac
import ssl
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from telemetry.render import TEXT_TYPE

SLOWEST_CLIENT_S = 10.0
MOST_BODY_BYTES = 0  # nobody sends us anything


class Pages(NamedTuple):
    """What to answer: the metrics' text; whether the agent is well; whether it has read every GPU once."""

    metrics: Callable[[], bytes]
    healthy: Callable[[], str]  # empty = well, else why not
    ready: Callable[[], str]


class Server(ThreadingHTTPServer):
    """Serves the pages in threads of their own. `token`: what a scraper of /metrics must show; empty = nothing."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], pages: Pages, token: str, context: ssl.SSLContext | None) -> None:
        super().__init__(address, _Handler)
        self.pages = pages
        self.token = token.encode()
        self.context = context

    def finish_request(self, request: object, client_address: object) -> None:
        """The handshake happens here, in the request's own thread: a slow client holds up nobody."""
        request.settimeout(SLOWEST_CLIENT_S)  # type: ignore[attr-defined]
        if self.context is not None:
            try:
                request = self.context.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
            except (OSError, ssl.SSLError):
                return
        super().finish_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away or dawdled is no news."""


def tls(certificate: str, key: str) -> ssl.SSLContext | None:
    """The context of a certificate and its key; None without. Raises OSError and ssl.SSLError."""
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key or None)
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
        wanted = self.server.token
        fits = hmac.compare_digest(shown.strip().encode("utf-8", "surrogateescape"), wanted)
        return not wanted or (scheme.lower() == "bearer" and fits)

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
