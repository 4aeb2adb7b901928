"""What the agent is told to use and cannot: words and an exit code, never a traceback, nobody's file removed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from planner.errors import MusterError
from telemetry.agent import Agent
from telemetry.cli import agent as command
from telemetry.sample import Driver, Gpu, Xid
from telemetry.settings import Settings
from telemetry.wire import Hello
from tests.telemetry.agent_runner import HOST, free_port

RECORDING = Path(__file__).parent / "data" / "h200.jsonl.gz"


def ended(**more: object) -> subprocess.CompletedProcess[str]:
    """An agent that must end by itself."""
    usual = {"host": HOST, "port": free_port(), "replay": str(RECORDING)}
    settings = Settings("node-1", **{**usual, **more})  # type: ignore[arg-type]
    line = [sys.executable, "-m", "telemetry.serve", settings.dumped()]
    return subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("given", "code", "why"),
    [
        ({"host": "192.0.2.1"}, 1, "error: --listen: 192.0.2.1:"),
        ({"token_file": "FILE"}, 1, "holds no token"),
        ({"tls_certificate": "FILE"}, 1, "error: --tls-certificate, --tls-key: "),
        ({"jobs": "FILE"}, 1, "no socket"),
        ({"jobs": "/nonexistent/jobs.sock"}, 1, "error: --jobs: /nonexistent/jobs.sock: No such file"),
        ({"record": "/nonexistent/file"}, 1, "error: --record: /nonexistent/file: No such file"),
        ({"replay": "FILE"}, 2, "got an empty file, allowed is a recording"),
        ({"replay": __file__}, 2, "test_opening.py: line 1 is not of a recording"),
        ({"replay": "CUT", "replay_speed": 1e6}, 2, "no whole recording"),
    ],
)
def test_the_agent_says_what_it_cannot_use(tmp_path: Path, given: dict[str, object], code: int, why: str) -> None:
    named = {"FILE": tmp_path / "file", "CUT": tmp_path / "cut.jsonl.gz"}
    named["FILE"].write_bytes(b"")
    named["CUT"].write_bytes(RECORDING.read_bytes()[:3000])
    found = ended(**{name: str(named.get(str(value), value)) if isinstance(value, str) else value
                     for name, value in given.items()})  # fmt: skip
    assert found.returncode == code
    assert why in found.stderr
    assert "Traceback" not in found.stderr
    assert named["FILE"].is_file()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"hot": float("inf")}, "--hot: got inf"),
        ({"state": Path("/proc/none")}, "--state: /proc/none cannot be made"),
        ({"xid": ["94"]}, "allowed: ignore, info, app"),
        ({"xid": ["x=ignore"]}, "allowed are codes up to 10000"),
    ],
)
def test_the_command_refuses_before_anything_starts(given: dict[str, object], why: str) -> None:
    with pytest.raises(MusterError) as refused:
        command(**given)  # type: ignore[arg-type]
    assert why in str(refused.value)


def heard(settings: Settings, code: int) -> list[str]:
    """Phases that an Xid brings about, in an agent of these settings."""
    one = Agent(settings, "boot", 0.0)
    one.hear(Hello(Driver(), (Gpu(0, "GPU-0"),), 1e9))
    return [change.severity for change in one.hear_xid(Xid(0, code, 2e9, "nvml"))]


def test_an_owner_decides_what_an_xid_means() -> None:
    assert heard(Settings("node-1"), 48) == ["fatal_gpu"]
    assert heard(Settings("node-1", xids={"48": "degraded"}), 48) == ["degraded"]
    assert heard(Settings("node-1", xids={"48": "ignore"}), 48) == []
    assert heard(Settings("node-1"), 31) == heard(Settings("node-1", xids={"31": "app"}), 31)
    assert heard(Settings("node-1", xids={"31": "fatal_gpu"}), 31) == ["fatal_gpu"]


def test_faults_are_told_while_the_disk_is_full_and_kept_once_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    one = Agent(Settings("node-1", state=str(tmp_path)), "boot", 0.0)
    one.hear(Hello(Driver(), (Gpu(0, "GPU-0"),), 1e9))
    with monkeypatch.context() as patch:
        patch.setattr("telemetry.disk.replace", full)
        assert one.hear_xid(Xid(0, 48, 2e9, "nvml"))
        assert "No space left on device" in one.unsaved
        assert b"muster_agent_state_unsaved 1\n" in one.metrics()
    monkeypatch.setattr("telemetry.agent.SAVE_AGAIN_S", 0.0)
    one.tick(2e9)
    assert one.unsaved == ""
    assert json.loads((tmp_path / "agent.json").read_text("utf-8"))["states"]
