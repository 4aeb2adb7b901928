"""The server of the pages: TLS, a token, both renewed while it runs, and more clients than it takes."""

import shutil
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from telemetry.server import MOST_CLIENTS, Certificate, Pages, Server
from tests.telemetry.agent_runner import HOST
from tests.telemetry.controller_stub import self_signed

PAGES = Pages(lambda: b"muster_gpu_up 1\n", str, str)


@contextmanager
def served(token_file: str = "", certificate: Certificate | None = None) -> Iterator[int]:
    """A server for the block; its port."""
    server = Server((HOST, 0), PAGES, token_file, certificate or Certificate())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def status(port: int, ca: Path | None = None, shown: str = "", page: str = "/metrics") -> int:
    """What a scraper is answered; it trusts `ca` alone."""
    context = ssl.create_default_context(cafile=str(ca)) if ca else None
    asked = urllib.request.Request(f"{'https' if ca else 'http'}://{HOST}:{port}{page}")
    if shown:
        asked.add_header("Authorization", shown)
    try:
        with urllib.request.urlopen(asked, timeout=5, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_a_renewed_certificate_is_served_at_once_and_half_a_renewal_does_no_harm(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = (self_signed(tmp_path / name) for name in ("old", "new"))
    used, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    shutil.copy(old, used)
    shutil.copy(old.with_suffix(".key"), key)
    with served(certificate=Certificate(str(used), str(key))) as port:
        assert status(port, old) == 200
        with pytest.raises(urllib.error.URLError):
            status(port, new)
        shutil.copy(new, used)  # and not yet its key
        assert status(port, old) == 200
        shutil.copy(new.with_suffix(".key"), key)
        assert status(port, new) == 200
        used.unlink()
        assert status(port, new) == 200


def test_a_token_is_read_anew_and_nobody_gets_in_without_one(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("first\n", encoding="utf-8")
    with served(str(secret)) as port:
        assert [status(port, shown=one) for one in ("Bearer first", "bearer first", "Basic first", "")] == [
            200, 200, 401, 401,
        ]  # fmt: skip
        secret.write_text("second\n", encoding="utf-8")
        assert [status(port, shown=one) for one in ("Bearer first", "Bearer second")] == [401, 200]
        secret.write_text("\n", encoding="utf-8")
        assert [status(port, shown=one) for one in ("Bearer ", "Bearer", "")] == [401, 401, 401]
        secret.unlink()
        assert status(port, shown="Bearer second") == 401
        assert status(port, page="/healthz") == 200


def test_a_crowd_of_silent_clients_is_turned_away_and_others_are_served_once_it_is_gone() -> None:
    with served() as port, ExitStack() as crowd:
        clients = [crowd.enter_context(socket.create_connection((HOST, port), 5)) for _ in range(MOST_CLIENTS)]
        with socket.create_connection((HOST, port), 5) as one_more:
            assert one_more.recv(1) == b""
        for client in clients:
            client.close()
        for _ in range(500):
            try:
                assert status(port) == 200
                break
            except OSError:
                threading.Event().wait(0.01)
        else:
            raise AssertionError("nobody is served after the crowd is gone")
