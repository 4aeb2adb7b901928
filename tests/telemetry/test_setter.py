"""The process that sets limits: on the real binding over a fake driver, killed and lied to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.lease import Bounds, Bucket, Caps
from telemetry.setter import AUDIT_BYTES, Setter, SetterSettings
from tests.telemetry.fake_nvml.state import FakeNvml

SAFE_W, FULL_W = 490.0, 700.0  # 0.7 of the default


@contextmanager
def running(nvml: FakeNvml, library: Path, folder: Path, users: tuple[int, ...]) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "path": str(folder / "socket"),
        "state": str(folder / "leases"),
        "users": users,
        "audit": str(folder / "audit"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "telemetry.setter", json.dumps(settings)], env=nvml.environment(library)
    )
    try:
        wait(lambda: _answers(folder / "socket"))
        yield process
    finally:
        process.kill()
        process.wait(timeout=10)


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(path))
        return True
    except OSError:
        return False


def wait(told: Any, within_s: float = 15.0) -> float:
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        if told():
            return time.monotonic() - began
        time.sleep(0.01)
    raise AssertionError(f"not within {within_s} s")


def ask(folder: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(str(folder / "socket"))
        one.sendall(line + b"\n")
        return dict(json.loads(one.makefile("rb").readline() or b'{"closed": true}'))


def limit(folder: Path, uuid: str, watts: float, lease_s: float) -> dict[str, Any]:
    return ask(folder, json.dumps({"verb": "set_limit", "uuid": uuid, "watts": watts, "lease_s": lease_s}).encode())


def uuid_of(nvml: FakeNvml, index: int) -> str:
    return bytes(nvml.gpu(index).uuid).decode()


def watts_of(nvml: FakeNvml, index: int) -> float:
    return float(nvml.gpu(index).limit_mw) / 1e3


@pytest.mark.nvml
def test_a_cap_is_in_force_at_once_and_falls_to_the_safe_one_when_its_lease_ends(
    nvml: FakeNvml, nvml_library: Path, tmp_path: Path
) -> None:
    with running(nvml, nvml_library, tmp_path, (os.getuid(),)):
        assert limit(tmp_path, uuid_of(nvml, 2), 350, 1.0) == {"ok": True, "watts": 350.0, "safe_watts": SAFE_W}
        assert watts_of(nvml, 2) == 350
        wait(lambda: watts_of(nvml, 2) == SAFE_W, 2.0)
        assert [watts_of(nvml, i) for i in (0, 1, 3)] == [FULL_W] * 3
        reset = {"verb": "reset", "uuid": uuid_of(nvml, 2)}
        assert ask(tmp_path, json.dumps(reset).encode()) == {"ok": True, "watts": FULL_W}
    audit = (tmp_path / "audit").read_text("utf-8")
    assert "lease_ended" in audit
    assert '"user": 0' in audit or f'"user": {os.getuid()}' in audit


@pytest.mark.nvml
def test_the_audit_is_bounded_and_the_older_half_is_put_aside(
    nvml: FakeNvml, nvml_library: Path, tmp_path: Path
) -> None:
    (tmp_path / "audit").write_bytes(b"x" * AUDIT_BYTES)
    with running(nvml, nvml_library, tmp_path, (os.getuid(),)), socket.socket(socket.AF_UNIX) as one:
        one.connect(str(tmp_path / "socket"))
        one.sendall(b"nonsense\n")
        assert b'"ok": false' in one.recv(4096)
    assert (tmp_path / "audit.1").stat().st_size == AUDIT_BYTES
    assert "refused" in (tmp_path / "audit").read_text("utf-8")


@pytest.mark.nvml
def test_a_kill_at_any_time_leaves_a_safe_cap(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    with running(nvml, nvml_library, tmp_path, (os.getuid(),)) as process:
        limit(tmp_path, uuid_of(nvml, 0), 300, 60.0)
        limit(tmp_path, uuid_of(nvml, 1), 300, 0.5)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    assert (watts_of(nvml, 0), watts_of(nvml, 1)) == (300, 300)  # the driver keeps what was set
    time.sleep(0.6)
    nvml.gpu(0).limit_mw = 700_000  # as after the driver was loaded anew
    with running(nvml, nvml_library, tmp_path, (os.getuid(),)):
        wait(lambda: watts_of(nvml, 0) == 300)
        wait(lambda: watts_of(nvml, 1) == SAFE_W)


@pytest.mark.nvml
def test_another_user_is_refused_and_nothing_is_set(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    with running(nvml, nvml_library, tmp_path, (os.getuid() + 1,)):
        reply = limit(tmp_path, uuid_of(nvml, 0), 300, 60.0)
    assert reply["ok"] is False
    assert "may not set limits" in reply["why"]
    assert watts_of(nvml, 0) == FULL_W


@pytest.mark.nvml
def test_what_the_driver_does_not_do_is_told(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    nvml.gpu(0).ignores_limit = 1
    nvml.gpu(1).may_set = 0
    with running(nvml, nvml_library, tmp_path, (os.getuid(),)):
        assert "the driver holds 700 W" in limit(tmp_path, uuid_of(nvml, 0), 300, 60.0)["why"]
        assert "Permission" in limit(tmp_path, uuid_of(nvml, 1), 300, 60.0)["why"]
        # out of the driver's range: the nearest limit that it accepts
        assert limit(tmp_path, uuid_of(nvml, 2), 10, 60.0) == {"ok": True, "watts": 200.0, "safe_watts": SAFE_W}


class Paper:
    """Hardware on paper: two GPUs of 200 to 700 W."""

    def __init__(self) -> None:
        self.watts = {"a": 700.0, "b": 700.0}

    def uuids(self) -> tuple[str, ...]:
        return tuple(self.watts)

    def bounds_w(self, uuid: str) -> tuple[float, float]:
        return 200.0, 700.0

    def default_w(self, uuid: str) -> float:
        return 700.0

    def enforced_w(self, uuid: str) -> float:
        return self.watts[uuid]

    def set_w(self, uuid: str, watts: float) -> None:
        assert 200.0 <= watts <= 700.0
        self.watts[uuid] = watts

    def lock_hz(self, uuid: str, hertz: float) -> None:
        assert hertz >= 0


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_ASKED = st.fixed_dictionaries(
    {
        "verb": st.sampled_from(["set_limit", "lock", "reset", "else"]) | _JSON,
        "uuid": st.sampled_from(["a", "b", "c"]) | _JSON,
    },
    optional={"watts": _JSON, "lease_s": _JSON, "hertz": _JSON},
)


_LINES = st.binary(max_size=60) | (_ASKED | _JSON).map(lambda asked: json.dumps(asked).encode())


@given(lines=st.lists(_LINES, max_size=20))
def test_whatever_is_asked_is_answered_in_words_and_stays_within_the_bounds(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    state = tmp_path_factory.mktemp("setter") / "leases"
    hardware = Paper()
    setter = Setter(hardware, SetterSettings("", str(state), (7,)), 0.0, lambda line: None)
    for turn, line in enumerate(lines):
        reply = setter.answer(line, 7, float(turn))
        assert reply["ok"] is True or isinstance(reply["why"], str)
        setter.tick(float(turn))
    assert all(200.0 <= watts <= 700.0 for watts in hardware.watts.values())


def test_more_than_ten_requests_at_once_are_too_many() -> None:
    bucket: Bucket | None = Bucket()
    for _ in range(10):
        assert bucket is not None
        bucket = bucket.taken(5.0)
    assert bucket is not None
    assert bucket.taken(5.0) is None
    assert bucket.taken(6.0) is not None


def test_a_later_lease_takes_the_place_of_an_earlier_one() -> None:
    caps = Caps().granted("a", 300.0, 10.0, 0.0).granted("a", 400.0, 10.0, 5.0)
    assert caps.ended(12.0) == ()
    assert caps.ended(15.0) == ("a",)
    assert Bounds(200.0, 700.0, 490.0).clamped(1e9) == 700.0


def setter_on(hardware: Paper, folder: Path, **more: Any) -> Setter:
    return Setter(hardware, SetterSettings("", str(folder / "leases"), (7,), **more), 0.0, lambda line: None)


def set_limit(watts: float, lease_s: float) -> bytes:
    return json.dumps({"verb": "set_limit", "uuid": "a", "watts": watts, "lease_s": lease_s}).encode()


def test_a_limit_of_ours_that_is_lifted_is_set_again_and_a_lower_one_is_left(tmp_path: Path) -> None:
    hardware = Paper()
    setter = setter_on(hardware, tmp_path)
    assert setter.answer(set_limit(350.0, 60.0), 7, 0.0) == {"ok": True, "watts": 350.0, "safe_watts": SAFE_W}
    hardware.watts = {"a": 700.0, "b": 700.0}  # the driver was loaded anew
    setter.tick(3.0)
    assert hardware.watts == {"a": 350.0, "b": 700.0}
    hardware.watts["a"] = 300.0
    setter.tick(6.0)
    assert hardware.watts["a"] == 300.0
    setter.tick(61.0)
    assert hardware.watts["a"] == SAFE_W


class Deaf(Paper):
    """Hardware whose driver fails for a while."""

    def set_w(self, uuid: str, watts: float) -> None:
        raise OSError("the driver is busy")


def test_a_safe_limit_that_could_not_be_set_is_tried_again(tmp_path: Path) -> None:
    hardware: Paper = Deaf()
    setter = setter_on(hardware, tmp_path)
    assert "busy" in str(setter.answer(set_limit(350.0, 1.0), 7, 0.0)["why"])
    setter.tick(1.0)  # the lease ends, and the limit cannot be set
    setter.hardware = hardware = Paper()
    setter.tick(4.0)
    assert hardware.watts["a"] == SAFE_W


def test_a_user_may_be_named(tmp_path: Path) -> None:
    setter = Setter(Paper(), SetterSettings("", str(tmp_path / "leases"), (), names=("root",)), 0.0, lambda line: None)
    assert setter.answer(set_limit(350.0, 1.0), 0, 0.0)["ok"] is True
    assert setter.answer(set_limit(350.0, 1.0), 7, 0.0)["ok"] is False
    assert setter.answer(set_limit(350.0, 1.0), 4_000_000, 0.0)["ok"] is False  # nobody's id
