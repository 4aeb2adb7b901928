"""Servers take a renewed certificate without a restart, and keep the old one where the new is none."""

import os
import shutil
import socket
import ssl
import time
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI

from controller.certificate import Renewal
from controller.server import Desk, Listen, Server
from controller.web.server import Listen as WebListen
from controller.web.server import WebServer
from tests.telemetry.controller_stub import self_signed


class Quiet:
    """A desk that nothing is asked of."""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    made = self_signed(tmp_path)
    return made, made.with_suffix(".key")


def served(port: int) -> bytes:
    """The certificate that a server shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, context.wrap_socket(plain) as connection:
        return cast(bytes, connection.getpeercert(binary_form=True))


def other(folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    made = self_signed(folder)
    return made, made.with_suffix(".key")


@pytest.mark.parametrize("of", ["reports", "pages"])
def test_who_connects_after_a_renewal_sees_the_new_certificate(
    pair: tuple[Path, Path], tmp_path: Path, of: str
) -> None:
    server: Server | WebServer
    if of == "reports":
        server = Server(cast(Desk, Quiet()), Listen(port=0, certificate=pair[0], key=pair[1]), renew_s=1)
    else:
        server = WebServer(FastAPI(), WebListen(port=0, certificate=pair[0], key=pair[1]), renew_s=1)
    port = server.start()
    try:
        first = served(port)
        for new, old in zip(other(tmp_path / "new"), pair, strict=True):
            os.replace(new, old)
        end_s = time.monotonic() + 10.0
        while served(port) == first:
            assert time.monotonic() < end_s
            time.sleep(0.1)
    finally:
        server.stop()


def test_files_that_are_no_pair_change_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    renewal = Renewal(*pair)
    assert not renewal.into(context)
    certificate, key = other(tmp_path / "new")
    shutil.copy(certificate, pair[0])
    assert not renewal.into(context)  # the key is still the old one
    pair[1].unlink()
    assert not renewal.into(context)
    shutil.copy(key, pair[1])
    assert renewal.into(context)
    assert not renewal.into(context)
