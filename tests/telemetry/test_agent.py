"""The agent as a whole, on the real binding over a fake driver."""

import time
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry.page import ALIASES
from tests.pace import pace
from tests.telemetry.agent_runner import Running, free_port, running
from tests.telemetry.fake_nvml.state import LOST, FakeNvml

pytestmark = pytest.mark.nvml


def test_every_gpu_is_read_and_the_page_is_what_prometheus_reads(nvml: FakeNvml, nvml_library: Path) -> None:
    nvml.set_field(3, 185, 412_500)  # mW
    with running(nvml, nvml_library, free_port()) as agent:
        agent.wait_for(lambda a: a.get("/readyz").startswith("ok") and len(a.values("muster_gpu_pcie_width")) == 8)
        families = {one.name: one for one in text_string_to_metric_families(agent.get())}
        power = {sample.labels["gpu"]: sample.value for sample in families["muster_gpu_power_watts"].samples}
        assert power == {str(i): 412.5 if i == 3 else 76.5 for i in range(8)}
        assert families["muster_gpu_energy_joules"].type == "counter"
        assert {alias.name.removesuffix("_total") for alias in ALIASES} <= set(families)
        assert len(families["muster_gpu_nvlink_up"].samples) == 8 * 18


def test_what_a_gpu_does_not_support_is_absent_and_never_zero(nvml: FakeNvml, nvml_library: Path) -> None:
    nvml.gpu(2).field[82].supported = 0  # no sensor in its memory
    with running(nvml, nvml_library, free_port()) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
        memory = [labels for labels in agent.values("muster_gpu_temperature_celsius") if 'sensor="memory"' in labels]
    assert len(memory) == 7
    assert not any('gpu="2"' in labels for labels in memory)


def test_two_equal_xids_are_counted_twice(nvml: FakeNvml, nvml_library: Path) -> None:
    with running(nvml, nvml_library, free_port()) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
        for count in (1.0, 2.0):
            nvml.push_xid(5, 94)
            agent.wait_for(partial(_counts, count))
        (labels,) = agent.values("muster_gpu_xid_last_timestamp_seconds")
    assert 'gpu="5"' in labels
    assert 'xid="94"' in labels


def test_a_lost_gpu_is_down_and_keeps_no_values_and_comes_back(nvml: FakeNvml, nvml_library: Path) -> None:
    with running(nvml, nvml_library, free_port(), hot_s=0.2) as agent:
        agent.wait_for(lambda a: sum(a.values("muster_gpu_up").values()) == 8)
        nvml.gpu(1).error = LOST
        agent.wait_for(lambda a: sum(a.values("muster_gpu_up").values()) == 7)
        assert len(agent.values("muster_gpu_power_watts")) == 7
        nvml.gpu(1).error = 0
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)


def test_a_hung_driver_is_reported_while_the_pages_answer(nvml: FakeNvml, nvml_library: Path) -> None:
    with running(nvml, nvml_library, free_port()) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
        nvml.state.hang = 1
        agent.wait_for(lambda a: a.values("muster_agent_driver_hung")[""] == 1, within_s=7)
        assert agent.get("/healthz") == "ok\n"
        nvml.state.hang = 0
        agent.wait_for(lambda a: a.values("muster_agent_driver_hung")[""] == 0)


def test_a_scraper_without_the_token_is_refused(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("correct horse\n", "utf-8")
    with running(nvml, nvml_library, free_port(), token_file=str(secret)) as agent:
        agent.wait_for(lambda a: a.get("/healthz") == "ok\n")
        assert agent.get().startswith("401")
        assert agent.get(Authorization="Bearer wrong horse").startswith("401")
        assert "# TYPE" in agent.get(Authorization="Bearer correct horse")


def test_a_recording_plays_what_was_read(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    nvml.set_field(0, 185, 333_000)
    with running(nvml, nvml_library, free_port(), record=str(tape), hot_s=0.2) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_pcie_width")) == 8)
    nvml.state.init_error = 9  # there is no driver where it is played
    with running(nvml, nvml_library, free_port(), replay=str(tape), replay_speed=0.01) as agent:
        agent.wait_for(lambda a: 333.0 in a.values("muster_gpu_power_watts").values())


def test_nothing_is_left_running_when_the_agent_ends(nvml: FakeNvml, nvml_library: Path) -> None:
    with running(nvml, nvml_library, free_port(), hot_s=5.0) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
        children = _children(agent.process.pid)
        children += [grandchild for child in children for grandchild in _children(child)]
        assert len(children) == 2
        began = time.monotonic()
        agent.process.terminate()
        agent.process.wait(timeout=10)
        assert time.monotonic() - began < 0.5 * pace()  # at once, not with the next reading
    assert not any(_runs(pid) for pid in children)


def _counts(count: float, agent: Running) -> bool:
    return [value for value in agent.values("muster_gpu_xid_events_total").values() if value] == [count]


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(word) for word in text.split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
