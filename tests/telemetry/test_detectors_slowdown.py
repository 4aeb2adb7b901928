"""Slow GPUs that say nothing, memory that nobody uses, GPUs that fail together."""

from collections.abc import Sequence

from telemetry.fault import Subject
from telemetry.fields import CLOCK_EVENTS
from telemetry.sample import Gpu, Reading
from telemetry.watch import Watch
from tests.telemetry.samples import START_S, hot, lost, warm, xid

FULL_HZ = 1.98e9


def node(gpus: int = 8) -> Watch:
    """A node that has been up for long."""
    found = Watch(booted_s=0.0)
    found.meet(Gpu(index, f"GPU-{index}", model="NVIDIA H200", links=2) for index in range(gpus))
    return found


def seconds(
    until_s: int, clock_hz: float, gpu: int = 0, start_s: int = 0, limit_w: float = 700.0, **values: float
) -> list[Reading]:
    """A GPU under load at a clock, read each second and each five."""
    found = []
    for second in range(start_s, start_s + until_s):
        found.append(hot(second, gpu, sm_clock_hz=clock_hz, utilization_ratio=1.0, power_w=390.0, **values))
        if second % 5 == 0:
            found.append(warm(second, gpu, performance_state=0.0, power_limit_enforced_w=limit_w))
    return found


def confirmed(watch: Watch, readings: Sequence[Reading]) -> list[tuple[str, int, float]]:
    """(detector, GPU, seconds) of what is confirmed."""
    changes = [one for reading in readings for one in watch.read(reading)]
    return [(one.detector, one.subject.gpu, one.at_s - START_S) for one in changes if one.after == "confirmed"]


def test_a_clock_below_95_percent_of_its_own_is_told_after_a_minute() -> None:
    watch = node(1)
    assert confirmed(watch, seconds(1000, FULL_HZ)) == []
    ((name, _, at_s),) = confirmed(watch, seconds(200, 0.93 * FULL_HZ, start_s=1000))
    assert name == "slow_clock"
    assert 1050 <= at_s <= 1090


def test_a_clock_that_something_holds_down_is_no_secret() -> None:
    watch = node(1)
    confirmed(watch, seconds(1000, FULL_HZ))
    capped = seconds(300, 0.8 * FULL_HZ, start_s=1000, clock_event_mask=float(CLOCK_EVENTS["sw_power_cap"]))
    assert confirmed(watch, capped) == []
    idle = [hot(t, sm_clock_hz=0.2 * FULL_HZ, utilization_ratio=0.0) for t in range(1300, 1600)]
    assert confirmed(watch, [*idle, warm(1600, performance_state=0.0)]) == []


def test_a_gpu_under_a_lower_power_limit_is_judged_by_what_is_usual_under_that_limit() -> None:
    watch = node(1)
    confirmed(watch, seconds(1000, FULL_HZ))
    assert confirmed(watch, seconds(1000, 0.85 * FULL_HZ, start_s=1000, limit_w=400.0)) == []
    ((name, _, at_s),) = confirmed(watch, seconds(200, 0.75 * FULL_HZ, start_s=2000, limit_w=400.0))
    assert (name, at_s <= 2090) == ("slow_clock", True)


def test_the_one_capped_gpu_of_a_node_is_not_compared_with_the_others() -> None:
    watch, capped = node(5), 2
    readings = [
        one
        for gpu in range(5)
        for one in seconds(300, FULL_HZ * (0.8 if gpu == capped else 1.0), gpu, limit_w=400 if gpu == capped else 700)
    ]
    assert confirmed(watch, sorted(readings, key=lambda one: one.at_s)) == []


def test_four_percent_slower_is_how_chips_differ() -> None:
    watch = node(1)
    confirmed(watch, seconds(1000, FULL_HZ))
    assert confirmed(watch, seconds(300, 0.96 * FULL_HZ, start_s=1000)) == []


def test_the_one_gpu_that_is_slower_than_its_node_is_named_without_a_past() -> None:
    watch = node(4)
    readings = [one for gpu in range(4) for one in seconds(120, FULL_HZ * (0.9 if gpu == 2 else 1.0), gpu)]
    found = confirmed(watch, sorted(readings, key=lambda one: one.at_s))
    assert [(name, gpu) for name, gpu, _ in found] == [("slow_clock", 2)]


class Worker:
    """A GPU that makes ten steps of a job a second."""

    def __init__(self) -> None:
        self.watch = node(1)
        self.energy_j = 0.0

    def works(self, minutes: range, step_j: float, job: str = "job-1") -> list[tuple[str, int]]:
        """So many joules a step; (detector, minute) of what is confirmed."""
        found = []
        for second in range(minutes.start * 60, minutes.stop * 60, 5):
            self.watch.worked(0, job, second * 10, START_S + second)
            self.energy_j += step_j * 50
            changes = self.watch.read(warm(second, energy_j=self.energy_j))
            found += [(one.detector, second // 60) for one in changes if one.after == "confirmed"]
        return found


def test_steps_that_take_a_fifth_more_energy_are_told_within_a_quarter_of_an_hour() -> None:
    worker = Worker()
    assert worker.works(range(60), 40.0) == []
    assert worker.works(range(60, 90), 44.0) == []  # 10 % more is within the usual
    ((name, minute),) = worker.works(range(90, 120), 49.0)
    assert name == "dear_steps"
    assert minute <= 105


def test_another_job_has_another_usual() -> None:
    worker = Worker()
    worker.works(range(60), 40.0)
    assert worker.works(range(60, 90), 90.0, job="job-2") == []


def test_memory_of_no_process_on_an_idle_gpu_is_told_after_half_a_minute() -> None:
    watch = node(1)
    watch.read(warm(0, process_count=2.0))  # the driver lists processes here
    idle = [hot(1, utilization_ratio=0.0, memory_used_bytes=2e9)]
    left = [warm(t, process_count=0.0) for t in range(5, 60, 5)]
    assert confirmed(watch, [*idle, *left]) == [("memory_leaked", 0, 30)]


def test_a_driver_that_lists_no_process_in_a_container_says_nothing_of_leaks() -> None:
    idle = [hot(1, utilization_ratio=0.0, memory_used_bytes=2e9)]
    assert confirmed(node(1), [*idle, *(warm(t, process_count=0.0) for t in range(5, 300, 5))]) == []


def test_memory_that_is_nearly_full_for_half_a_minute_is_told_and_no_alarm() -> None:
    full = [hot(t, memory_free_bytes=1e9, memory_total_bytes=1.5e11) for t in range(60)]
    assert confirmed(node(1), full) == [("memory_full", 0, 30)]


def test_gpus_that_fail_together_are_told_of_once_as_the_node() -> None:
    watch = node()
    changes = [one for gpu in range(3) for one in watch.hear(xid(gpu, 79, gpu))]
    assert [(one.detector, one.subject) for one in changes if one.detector == "node_fault"] == [
        ("node_fault", Subject())
    ]
    assert "node_fault" in {detector.name for detector, _, _ in watch.faults()}
    assert [one for gpu in range(2) for one in watch.recovered(gpu, START_S + 60) if one.detector == "node_fault"] == []
    assert [one.after for one in watch.recovered(2, START_S + 60) if one.detector == "node_fault"] == ["probation"]


def test_gpus_that_fail_a_minute_apart_are_faults_of_their_own() -> None:
    watch = node()
    changes = [one for gpu in range(3) for one in watch.hear(xid(gpu * 60, 79, gpu))]
    assert [one for one in changes if one.detector == "node_fault"] == []


def test_all_gpus_lost_at_once_are_one_fault_of_the_node() -> None:
    watch = node()
    changes = [one for t in (0, 1) for gpu in range(8) for one in watch.read(lost(t, gpu))]
    assert sum(one.detector == "node_fault" and one.after == "confirmed" for one in changes) == 1
    back = [one for t in range(2, 70) for gpu in range(8) for one in watch.read(hot(t, gpu))]
    assert [one.after for one in back if one.detector == "node_fault"] == ["probation"]
