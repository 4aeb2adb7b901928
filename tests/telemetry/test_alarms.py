"""A slice of tests.benchmarks.alarms: healthy GPUs and harmless events bring no fatal action."""

import pytest

from tests.benchmarks.alarms import hours, months


@pytest.mark.parametrize(("gpu_hours", "hot_s", "warm_s"), [(2.0, 1.0, 5.0), (40.0, 10.0, 60.0)])
def test_healthy_gpus_bring_no_fatal_action(gpu_hours: float, hot_s: float, warm_s: float) -> None:
    found = hours(gpu_hours, hot_s, warm_s, seed=3)
    assert found.fatal == []
    assert found.messages > 8000


def test_harmless_events_and_storms_bring_no_fatal_action() -> None:
    found = months(120, seed=4)
    assert found.fatal == []
    assert found.other["xid_degraded"] > 0  # they are seen
