"""The commands `muster agent` and `muster setter`: what they start, and what they refuse in words."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from planner.errors import BadInput
from telemetry.cli import agent
from telemetry.setter_cli import setter
from telemetry.settings import Settings
from tests.telemetry.fake_nvml.state import FakeNvml

Started = list[list[str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What would take the place of this process."""
    found: Started = []
    monkeypatch.setattr(os, "execv", lambda path, words: found.append(words))
    return found


def run_agent(**more: Any) -> None:
    usual = {"listen": "127.0.0.1:9410", "token_file": None, "tls_certificate": None, "tls_key": None}
    agent(**{**usual, **more})


def test_the_agent_is_told_of_controller_setter_and_pods(started: Started, tmp_path: Path) -> None:
    run_agent(
        controller="https://c.example", controller_ca=tmp_path / "ca", controller_token_file=tmp_path / "token",
        setter=tmp_path / "setter", pod_labels=True, allow_no_gpu=True, node="n",
    )  # fmt: skip
    ((*_, module, words),) = started
    told = Settings(**json.loads(words))
    assert module == "telemetry.serve"
    assert (told.controller, told.controller_ca, told.setter) == (
        "https://c.example", str(tmp_path / "ca"), str(tmp_path / "setter"),
    )  # fmt: skip
    assert told.controller_token_file == str(tmp_path / "token")
    assert (told.pods, told.allow_no_gpu) == ("/var/lib/kubelet/pod-resources/kubelet.sock", True)


def test_without_options_nobody_is_told_and_nothing_is_set(started: Started) -> None:
    run_agent()
    told = Settings(**json.loads(started[0][-1]))
    assert (told.controller, told.setter, told.pods, told.allow_no_gpu) == ("", "", "", False)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"controller": "http://c.example"}, "--controller: got 'http://c.example', allowed: https"),
        ({"controller_ca": Path("ca")}, "got one without --controller"),
        ({"listen": "nowhere"}, "--listen"),
    ],
)
def test_the_agent_refuses_what_it_cannot_use(started: Started, given: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput) as refused:
        run_agent(**given)
    assert why in str(refused.value)
    assert started == []


def test_the_setter_takes_users_by_name_and_by_id(started: Started, tmp_path: Path) -> None:
    setter(allow_user=["1000", "root"], socket=tmp_path / "run" / "s", state=tmp_path / "state", group="root")
    ((*_, module, words),) = started
    told = json.loads(words)
    assert module == "telemetry.setter"
    assert (told["users"], told["names"], told["group"], told["safe_ratio"]) == ([1000], ["root"], 0, 0.7)
    assert (tmp_path / "run").is_dir()
    assert (tmp_path / "state").is_dir()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"safe_ratio": 1.5}, "--safe-ratio: got 1.5, allowed: above 0 up to 1"),
        ({"safe_ratio": float("nan")}, "--safe-ratio"),
        ({"group": "no-such-group"}, "--group: got 'no-such-group'"),
        ({"socket": Path("/proc/none/s")}, "--socket: /proc/none cannot be made"),
    ],
)
def test_the_setter_refuses_what_it_cannot_use(
    started: Started, tmp_path: Path, given: dict[str, Any], why: str
) -> None:
    usual = {"allow_user": ["0"], "socket": tmp_path / "s", "state": tmp_path, "group": ""}
    with pytest.raises(BadInput) as refused:
        setter(**{**usual, **given})
    assert why in str(refused.value)
    assert started == []


@pytest.mark.nvml
def test_the_setter_command_sets_a_limit(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    code = "import typer; from telemetry.setter_cli import setter; typer.run(setter)"
    path, uuid = tmp_path / "s", bytes(nvml.gpu(0).uuid).decode()
    flags = ["--allow-user", str(os.getuid()), "--socket", str(path), "--state", str(tmp_path / "state")]
    process = subprocess.Popen([sys.executable, "-c", code, *flags], env=nvml.environment(nvml_library))
    try:
        with socket.socket(socket.AF_UNIX) as one:
            for _ in range(1500):
                if one.connect_ex(str(path)) == 0:
                    break
                time.sleep(0.01)
            asked = {"verb": "set_limit", "uuid": uuid, "watts": 400, "lease_s": 5}
            one.sendall(json.dumps(asked).encode() + b"\n")
            assert json.loads(one.makefile().readline())["ok"] is True
        assert nvml.gpu(0).limit_mw == 400_000
        assert path.stat().st_mode & 0o777 == 0o660
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.nvml
def test_the_setter_says_when_there_is_no_driver(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.state.init_error = 9
    given = {"path": str(tmp_path / "s"), "state": str(tmp_path / "leases"), "users": [0]}
    command = [sys.executable, "-m", "telemetry.setter", json.dumps(given)]
    environment = nvml.environment(Path("/nonexistent/library"))
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert "is an NVIDIA driver loaded on this host?" in ended.stderr
    assert "Traceback" not in ended.stderr
