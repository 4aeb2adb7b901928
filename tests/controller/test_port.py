"""What is said where a port cannot be listened at."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controller.port import try_port

MUSTER = Path(sys.executable).with_name("muster")


def test_a_port_that_is_free_is_left_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    try_port("127.0.0.1", port)
    socket.create_server(("127.0.0.1", port)).close()


def test_a_taken_port_is_named_with_who_knows_the_holder_and_another_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen: port {port} is taken by another program") as told:
            try_port("127.0.0.1", port)
    words = str(told.value)
    assert f"`ss -ltnp 'sport = :{port}'` says which" in words
    assert f"such as 127.0.0.1:{port + 1}" in words
    assert "rrno" not in words


def test_an_address_of_elsewhere_is_said_to_be_none_of_this_machine() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(OSError, match=f"{host} is no address of this machine"):
            try_port(host, 8080)


def test_up_says_in_one_line_which_option_gives_another_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = subprocess.run(
            [MUSTER, "up", "--demo", "--state", str(tmp_path / "state"), "--listen", address],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr.startswith(f"muster up: --listen {address}: cannot listen: port ")
    assert ended.stderr.count("\n") == 1
