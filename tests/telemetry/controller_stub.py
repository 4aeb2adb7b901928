"""A controller on loopback HTTPS that keeps what it is told and answers what a test says."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Answer = Callable[[dict[str, Any]], Mapping[str, object]]


class Stub(ThreadingHTTPServer):
    """`reports`: bodies with the time that they came and the token that they showed."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, certificate: Path | None, port: int = 0) -> None:
        self.open: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Handler)
        self.reports: list[tuple[float, str, dict[str, Any]]] = []
        self.answer: Answer = lambda report: {}
        self.status, self.location, self.silent = 200, "", False
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{scheme}://127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, as ever, but known: what is kept open must end with the controller."""
        self.open.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        """As if the process were gone."""
        super().server_close()
        for request in self.open:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Agents are killed in the middle of a report."""

    def wait_for(self, told: Callable[[dict[str, Any]], bool], within_s: float = 20.0) -> dict[str, Any]:
        """The first report that a test waits for."""
        began, seen = time.monotonic(), 0
        while time.monotonic() - began < within_s:
            there = len(self.reports)
            for _, _, report in self.reports[seen:there]:
                if told(report):
                    return report
            seen = there
            time.sleep(0.01)
        raise AssertionError(f"no such report within {within_s} s; the last: {self.reports[-1:]}")


class _Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        stub = self.server
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stub.reports.append((time.monotonic(), self.headers.get("Authorization", ""), report))
        if stub.silent:
            time.sleep(60)
        body = json.dumps(stub.answer(report)).encode()
        self.send_response(stub.status)
        if stub.location:
            self.send_header("Location", stub.location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No news."""


@contextmanager
def controller(certificate: Path | None, port: int = 0) -> Iterator[Stub]:
    """A controller that listens, ended afterwards."""
    stub = Stub(certificate, port)
    threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own CA, its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("a certificate for the test needs the openssl command")
    certificate = folder / "controller.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=controller", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate
