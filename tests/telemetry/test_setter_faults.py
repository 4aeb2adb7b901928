"""The process that sets limits, with a GPU lost, clocks that cannot be locked, a disk that is full."""

from pathlib import Path

import pytest

from tests.telemetry.test_setter import SAFE_W, Paper, set_limit, setter_on


class Partial(Paper):
    """Hardware of which one GPU is lost for a while, and no clock can be locked."""

    lost = True

    def bounds_w(self, uuid: str) -> tuple[float, float]:
        if self.lost and uuid == "a":
            raise RuntimeError("GPU is lost")
        return super().bounds_w(uuid)

    def lock_hz(self, uuid: str, hertz: float) -> None:
        raise RuntimeError("Not Supported")


def test_a_lost_gpu_keeps_no_other_from_its_limit_and_is_held_again_once_it_is_back(tmp_path: Path) -> None:
    setter = setter_on(Paper(), tmp_path)
    assert setter.answer(set_limit(300.0, 60.0), 7, 0.0)["ok"] is True
    hardware = Partial()
    setter = setter_on(hardware, tmp_path)
    assert setter.answer(set_limit(350.0, 60.0).replace(b'"a"', b'"b"'), 7, 1.0)["ok"] is True
    assert setter.answer(set_limit(350.0, 60.0), 7, 1.0) == {"ok": False, "why": "GPU is lost"}
    hardware.lost = False
    setter.tick(4.0)
    assert hardware.watts == {"a": 300.0, "b": 350.0}


def test_clocks_that_cannot_be_locked_are_told_of_and_reset_frees_the_limit_all_the_same(tmp_path: Path) -> None:
    hardware = Partial()
    hardware.lost = False
    setter = setter_on(hardware, tmp_path)
    assert setter.answer(b'{"verb": "lock", "uuid": "a", "hertz": 1e9}', 7, 0.0) == {
        "ok": False, "why": "Not Supported",
    }  # fmt: skip
    setter.answer(set_limit(300.0, 60.0), 7, 0.0)
    assert setter.answer(b'{"verb": "reset", "uuid": "a"}', 7, 0.0) == {"ok": True, "watts": 700.0}


def test_a_full_disk_keeps_no_lease_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = Paper()
    setter = setter_on(hardware, tmp_path)
    setter.answer(set_limit(600.0, 1.0), 7, 0.0)

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("telemetry.disk.replace", full)
        assert "No space left" in str(setter.answer(set_limit(650.0, 1.0), 7, 0.5)["why"])
        assert hardware.watts["a"] == 600.0  # a lease that the next setter would not know of lifts nothing
        setter.tick(1.0)
        assert hardware.watts["a"] == SAFE_W
        assert setter.answer(set_limit(300.0, 60.0), 7, 1.5)["ok"] is True  # what lowers is not put off
        assert "No space left" in str(setter.answer(b'{"verb": "reset", "uuid": "a"}', 7, 1.5)["why"])
        assert hardware.watts["a"] == 300.0
        setter = setter_on(hardware, tmp_path)  # restarted: of the disk it knows the first lease alone
        setter.tick(1.6)
        assert hardware.watts["a"] == SAFE_W
    setter.tick(9.0)
    assert setter_on(Paper(), tmp_path).caps.fallen == {"a"}  # kept as soon as the disk takes it
