"""Which GPUs are looked at before their time, and where a stuck reader hangs."""

import math
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.child import where_stuck
from telemetry.sample import Reading
from telemetry.urgent import Urgent
from telemetry.watch import Watch
from tests.telemetry.agent_runner import Running, free_port, running
from tests.telemetry.fake_nvml.state import FakeNvml
from tests.telemetry.samples import hot, lost, warm


def test_an_alarm_is_answered_at_once_and_a_flood_twice_a_second() -> None:
    urgent = Urgent()
    urgent.alarm(bytes([3, 3, 5]), 10.0)
    assert sorted(urgent.take(10.0)) == [3, 5]
    for _ in range(1000):
        urgent.alarm(bytes([3]), 10.1)
    assert (urgent.take(10.4), urgent.due_s()) == ([], 10.5)
    assert urgent.take(10.5) == [3]
    assert urgent.due_s() == math.inf


def test_a_lost_gpu_is_tried_once_more_soon() -> None:
    urgent = Urgent()
    urgent.noticed(lost(0), 10.0)
    assert (urgent.take(10.3), urgent.take(10.4)) == ([], [0])
    urgent.noticed(lost(0), 10.4)
    assert urgent.due_s() == math.inf


@pytest.mark.parametrize("fault", [{"up": 0.0}, {"crc": 500.0}])
def test_a_link_that_goes_down_or_errs_is_looked_at_three_times_more(fault: dict[str, float]) -> None:
    urgent = Urgent()
    urgent.noticed(warm(0), 10.0)
    assert urgent.due_s() == math.inf
    for at_s in (15.0, 16.8, 18.6):
        urgent.noticed(warm(at_s, link=fault), at_s)
        assert urgent.due_s() == at_s + 1.8
        assert urgent.take(at_s + 1.8) == [0]
    urgent.noticed(warm(20.4, link=fault), 20.4)
    assert urgent.due_s() == math.inf


def seconds_to_confirmed(down_s: float, alarm_s: float) -> float:
    """How long a link that goes down is not told of, where warm readings come each 5 s and at an alarm of the GPU."""
    watch, urgent, due_s = Watch(), Urgent(), 10.0
    while True:
        now_s = min(due_s, urgent.due_s(), alarm_s)
        if now_s == alarm_s:
            urgent.alarm(bytes([0]), now_s)
            alarm_s = math.inf
        if urgent.take(now_s) or now_s == due_s:
            due_s += 5.0 if now_s == due_s else 0.0
            reading = warm(now_s, link={"up": float(now_s < down_s)})
            urgent.noticed(reading, now_s)
            if any((one.detector, one.after) == ("nvlink_down", "confirmed") for one in watch.read(reading)):
                return now_s - down_s


@given(down_s=st.floats(15.01, 25.0), before_s=st.floats(-10.0, 10.0))
def test_a_link_that_is_down_is_told_within_ten_seconds_whenever_else_the_gpu_was_read(
    down_s: float, before_s: float
) -> None:
    assert seconds_to_confirmed(down_s, down_s - before_s) <= 10.0


def test_a_link_that_goes_down_between_two_readings_close_together_is_told_within_ten_seconds() -> None:
    assert seconds_to_confirmed(14.3, 14.2) == pytest.approx(0.7 + 3 * 1.8)  # the look at 15.0 comes too soon to count


def test_a_row_that_was_replaced_has_the_counters_read_at_once() -> None:
    urgent = Urgent()
    urgent.noticed(hot(0, remapped_uncorrected=3.0), 10.0)
    assert urgent.take(10.0) == []
    urgent.noticed(hot(1, remapped_uncorrected=4.0), 11.0)
    assert urgent.take(11.0) == [0]


def test_a_reading_of_other_tiers_asks_for_nothing() -> None:
    urgent = Urgent()
    urgent.noticed(Reading(0, "hot", 1e9, {"power_w": 100.0}), 10.0)
    assert urgent.due_s() == math.inf


@pytest.mark.parametrize(
    ("stat", "wchan", "words"),
    [
        pytest.param("7 (python) D 1", "rwsem_down", "in an uninterruptible wait (D) in rwsem_down", id="D"),
        pytest.param("7 (a) b) S 1", "0", "asleep (S)", id="S"),
        pytest.param("", "", "", id="empty"),
    ],
)
def test_where_a_reader_hangs_is_told_as_the_kernel_does(tmp_path: Path, stat: str, wchan: str, words: str) -> None:
    assert where_stuck(7, tmp_path) == ""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(stat, "ascii")
    (tmp_path / "7" / "wchan").write_text(wchan, "ascii")
    assert where_stuck(7, tmp_path) == (f"its reader is {words}" if words else "")


@pytest.mark.nvml
def test_a_double_bit_error_is_told_long_before_its_counter_is_due(
    nvml: FakeNvml, nvml_library: Path, tmp_path: Path
) -> None:
    ports = tmp_path / "class" / "infiniband" / "mlx5_0" / "ports" / "1"
    ports.mkdir(parents=True)
    (ports / "state").write_text("4: ACTIVE\n", "ascii")
    settings = {"warm_s": 60.0, "sysfs": str(tmp_path)}
    with running(nvml, nvml_library, free_port(), **settings) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_pcie_width")) == 8)
        agent.wait_for(lambda a: list(a.values("muster_infiniband_port_up").values()) == [1.0])
        nvml.set_field(6, 4, 1)
        agent.wait_for(partial(_again, nvml), within_s=10)
        page = agent.get()
    assert 'detector="ecc_uncorrected"' in page
    assert 'gpu="6"' in next(line for line in page.splitlines() if line.startswith("muster_fault{"))


def _again(nvml: FakeNvml, agent: Running) -> bool:
    """Events before the agent has registered are lost: send another until it is told."""
    nvml.push_event(6, 0x2, 0)
    return "ecc_uncorrected" in agent.get()


@pytest.mark.nvml
def test_a_double_bit_error_is_told_by_the_hot_look_where_no_event_comes(nvml: FakeNvml, nvml_library: Path) -> None:
    with running(nvml, nvml_library, free_port(), hot_s=0.2, warm_s=60.0) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
        nvml.set_field(5, 4, 1)
        agent.wait_for(lambda a: 'detector="ecc_uncorrected"' in a.get(), within_s=5)


@pytest.mark.nvml
def test_gpus_lost_together_are_one_fault_of_the_node_on_the_page(nvml: FakeNvml, nvml_library: Path) -> None:
    with running(nvml, nvml_library, free_port(), hot_s=0.2) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
        for gpu in range(3):
            nvml.gpu(gpu).error = 15
        agent.wait_for(lambda a: 'detector="node_fault"' in a.get(), within_s=10)
        counts = agent.values("muster_fault_transitions_total")
    assert counts['detector="node_fault",phase="confirmed"'] == 1
