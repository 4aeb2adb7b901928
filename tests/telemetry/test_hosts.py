"""Hosts without NVIDIA GPUs: AMD's are named and their health is unknown, none at all is an error unless allowed."""

import subprocess
import sys
from pathlib import Path

import pytest

from telemetry.hosts import AMD, NVIDIA, Accelerator, accelerators
from telemetry.settings import Settings
from tests.telemetry.agent_runner import HOST, free_port, running
from tests.telemetry.controller_stub import controller
from tests.telemetry.fake_nvml.state import FakeNvml

pytestmark = pytest.mark.nvml
NO_LIBRARY = Path("/nonexistent/libnvidia-ml.so.1")


def device(sysfs: Path, pci: str, vendor: int, kind: int, driver: str = "", model: int = 0x74A1) -> None:
    """A device on the PCI bus, as sysfs shows it."""
    folder = sysfs / "bus" / "pci" / "devices" / pci
    folder.mkdir(parents=True)
    for name, value in (("vendor", vendor), ("class", kind), ("device", model)):
        (folder / name).write_text(f"{value:#06x}\n", "ascii")
    if driver:
        (sysfs / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(sysfs / "drivers" / driver)


def test_gpus_are_told_from_bridges_displays_and_other_vendors(tmp_path: Path) -> None:
    device(tmp_path, "0000:05:00.0", AMD, 0x120000, "amdgpu")
    device(tmp_path, "0000:04:00.0", NVIDIA, 0x030200, model=0x2335)
    device(tmp_path, "0000:03:00.0", NVIDIA, 0x068000)  # an NVSwitch
    device(tmp_path, "0000:02:00.0", AMD, 0x030000)  # no driver for computing
    device(tmp_path, "0000:01:00.0", 0x1A03, 0x030000, "ast")
    assert accelerators(tmp_path) == [
        Accelerator(NVIDIA, "0000:04:00.0", "2335"), Accelerator(AMD, "0000:05:00.0", "74a1"),
    ]  # fmt: skip
    assert accelerators(tmp_path / "absent") == []


def test_an_amd_node_serves_and_says_that_nobody_reads_its_gpus(nvml: FakeNvml, tmp_path: Path) -> None:
    device(tmp_path, "0000:05:00.0", AMD, 0x120000, "amdgpu")
    with (
        controller(None) as stub,
        running(nvml, NO_LIBRARY, free_port(), sysfs=str(tmp_path), controller=stub.url, report_s=0.2) as agent,
    ):
        agent.wait_for(lambda a: a.get("/readyz") == "ok\n")
        assert agent.values("muster_gpu_health_unknown") == {'vendor="1002",pci="0000:05:00.0",model="74a1"': 1.0}
        assert agent.values("muster_agent_driver_hung")[""] == 0
        told = stub.wait_for(lambda report: bool(report["unknown"]))
    assert told["unknown"] == [{"vendor": "amd", "pci": "0000:05:00.0", "model": "74a1"}]
    assert told["gpus"] == told["faults"] == []


def test_no_gpu_at_all_is_an_error_in_words_unless_it_is_allowed(nvml: FakeNvml, tmp_path: Path) -> None:
    settings = Settings("node-1", HOST, free_port(), kmsg="", sysfs=str(tmp_path))
    command = [sys.executable, "-m", "telemetry.serve", settings.dumped()]
    ended = subprocess.run(command, env=nvml.environment(NO_LIBRARY), capture_output=True, text=True, timeout=20)
    assert ended.returncode == 3
    assert "there is no GPU on this host; --allow-no-gpu serves all the same" in ended.stderr
    assert "Traceback" not in ended.stderr
    with running(nvml, NO_LIBRARY, free_port(), sysfs=str(tmp_path), allow_no_gpu=True) as agent:
        agent.wait_for(lambda a: a.get("/readyz") == "ok\n")
        assert agent.values("muster_agent_gpus")[""] == 0


def test_a_gpu_without_its_driver_is_waited_for(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    device(tmp_path, "0000:04:00.0", NVIDIA, 0x030200)
    nvml.state.init_error = 9  # driver not loaded
    with running(nvml, nvml_library, free_port(), sysfs=str(tmp_path)) as agent:
        agent.wait_for(lambda a: a.values("muster_agent_reader_restarts_total")[""] >= 1)
        nvml.state.init_error = 0
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
