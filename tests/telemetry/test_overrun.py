"""What is taken beyond what was given: how much, for how long, and whether a cap is why."""

import pytest

from telemetry.detectors.overrun import LATENCY, MEMORY, POWER, RATE
from telemetry.fault import Subject
from telemetry.jobs import Heard
from telemetry.overrun import Overruns
from telemetry.report import Allotment
from telemetry.sample import Gpu, Sample
from telemetry.watch import Watch

GPUS = (Gpu(0, "a"), Gpu(1, "b"))
CAPPED, IDLE = 0x4, 0x1  # clock event bits


def sample(gpu: int, mask: int = IDLE, **values: float) -> Sample:
    usual = {
        "power_w": 300.0, "memory_used_bytes": 50e9, "power_limit_default_w": 700.0, "power_limit_enforced_w": 700.0,
    }  # fmt: skip
    return Sample(gpu, {"hot": 0.0}, {**usual, "clock_event_mask": float(mask), **values})


def watched(overruns: Overruns, samples: dict[int, Sample], watch: Watch, seconds: int, start_s: int = 0) -> None:
    for second in range(start_s, start_s + seconds):
        for name, subject, look in overruns.looks(float(second), GPUS, samples):
            watch.see(name, subject, look, float(second))


def phases(watch: Watch) -> dict[tuple[str, Subject], str]:
    return {(detector.name, subject): state.phase for detector, subject, state in watch.faults()}


def test_power_over_a_share_or_a_cap_is_confirmed_after_five_seconds_with_how_much_and_how_long() -> None:
    overruns, watch = Overruns(), Watch()
    overruns.allotments = {"a": Allotment("a", power_w=400.0)}
    overruns.caps_w = {"b": 250.0}  # granted, whether or not it was set
    samples = {0: sample(0, power_w=410.0), 1: sample(1, power_w=300.0)}
    watched(overruns, samples, watch, 6)
    assert phases(watch) == {(POWER, Subject(1)): "confirmed"}  # 410 W is within 5 % of 400 W
    (over,) = overruns.over.values()
    assert (over.since_s, over.ratio) == (0.0, 300.0 / 250.0)
    assert over.words == "300 W, 1.20 times the 250 W given"
    overruns.caps_w = {"b": 350.0}
    watched(overruns, samples, watch, 12, 6)
    assert phases(watch) == {(POWER, Subject(1)): "probation"}
    assert overruns.over == {}


def test_the_node_has_a_share_too() -> None:
    overruns = Overruns()
    overruns.allotments = {"": Allotment("", power_w=500.0)}
    looks = overruns.looks(0.0, GPUS, {0: sample(0), 1: sample(1)})
    assert [(name, subject, look.hit, look.value) for name, subject, look in looks] == [(POWER, Subject(), True, 1.2)]


def test_memory_over_the_request_is_confirmed_after_ten_seconds_and_cleared_when_the_request_is_gone() -> None:
    overruns, watch = Overruns(), Watch()
    overruns.allotments = {"a": Allotment("a", memory_bytes=40e9), "b": Allotment("b", memory_bytes=50e9)}
    samples = {0: sample(0), 1: sample(1)}
    watched(overruns, samples, watch, 9)
    assert phases(watch) == {(MEMORY, Subject(0)): "suspect"}
    watched(overruns, samples, watch, 1, 9)
    assert phases(watch) == {(MEMORY, Subject(0)): "confirmed"}
    overruns.allotments = {}
    watched(overruns, samples, watch, 12, 10)
    assert phases(watch) == {(MEMORY, Subject(0)): "probation"}


@pytest.mark.parametrize(
    ("mask", "enforced_w", "cause", "words"),
    [
        (CAPPED, 350.0, "power_cap", "cause: power cap of 350 W, 700 W without"),
        (CAPPED, 700.0, "power_limit", "cause: the GPU's own power limit"),
        (0x40, 350.0, "hw_thermal", "cause: clocks held down (hw_thermal)"),
        (IDLE, 350.0, "", "end to end, planned 0.4 s"),
    ],
)
def test_latency_over_its_objective_names_the_cap_where_it_is_the_cause(
    mask: int, enforced_w: float, cause: str, words: str
) -> None:
    overruns, watch = Overruns(), Watch()
    samples = {0: sample(0, mask, power_limit_enforced_w=enforced_w)}
    overruns.allotments = {"a": Allotment("a", latency_s=0.4)}
    for second in range(41):
        for latency_s in (0.1,) * 95 + (0.5,) * 5:
            overruns.request("chat", 0, latency_s)
        watched(overruns, samples, watch, 1, second)
    key = (LATENCY, Subject(0, "", "chat"))
    assert phases(watch) == {key: "confirmed"}  # three of five windows of 10 s
    over = overruns.over[key]
    assert (over.since_s, over.ratio, over.cause) == (0.0, 0.5 / 0.4, cause)
    assert over.words.startswith("slowest 1 % of requests took 0.5 s with waits in queues, end to end, planned 0.4 s")
    assert over.words.endswith(words)


def test_a_percentile_within_its_objective_is_no_overrun_and_a_request_may_bring_its_own_objective() -> None:
    overruns = Overruns()
    overruns.looks(0.0, GPUS, {})
    for latency_s in (0.1,) * 99 + (9.0,):
        overruns.request("chat", 0, latency_s, slo_s=0.2)
    overruns.request("slow", 0, 0.3, slo_s=0.2)
    looks = {subject.job: look.hit for name, subject, look in overruns.looks(10.0, GPUS, {}) if name == LATENCY}
    assert looks == {"chat": False, "slow": True}


def test_more_requests_than_planned_are_an_overrun_over_all_jobs_of_a_gpu() -> None:
    overruns = Overruns()
    overruns.allotments = {"a": Allotment("a", rate_per_s=10.0), "b": Allotment("b", rate_per_s=10.0)}
    overruns.looks(0.0, GPUS, {})
    for _ in range(60):
        overruns.request("chat", 0, 0.1)
        overruns.request("code", 0, 0.1)
    for _ in range(105):
        overruns.request("batch", 1, 0.1)
    looks = {subject.gpu: look for name, subject, look in overruns.looks(10.0, GPUS, {}) if name == RATE}
    assert (looks[0].hit, looks[0].value, looks[1].hit) == (True, 1.2, False)
    looks = {subject.gpu: look for name, subject, look in overruns.looks(20.0, GPUS, {}) if name == RATE}
    assert (looks[0].hit, looks[1].hit) == (False, False)


def test_a_clock_that_jumps_makes_no_overrun() -> None:
    overruns = Overruns()
    overruns.allotments = {"a": Allotment("a", rate_per_s=10.0)}
    overruns.looks(5000.0, GPUS, {})
    for _ in range(1000):
        overruns.request("chat", 0, 0.1)
    assert overruns.looks(1000.0, GPUS, {}) == []
    assert [look.hit for name, _, look in overruns.looks(9000.0, GPUS, {}) if name == RATE] == []


def test_requests_come_over_the_job_socket_and_nonsense_is_refused() -> None:
    heard = Heard()
    heard.hear(b'{"request": {"job": "chat", "gpu": 0, "latency_s": 0.5, "slo_s": 0.4}}')
    for body in (b'{"job": "chat"}', b'{"job": "chat", "latency_s": -1}', b'{"job": "c", "latency_s": 1, "slo_s": 0}'):
        heard.hear(b'{"request": %s}' % body)
    for number in range(1000):
        heard.hear(b'{"request": {"job": "%d", "gpu": 0, "latency_s": 0.5}}' % number)
    assert (heard.records, heard.refused) == (256, 3 + 745)


def test_a_step_may_have_a_time_to_keep() -> None:
    heard = Heard()
    heard.overruns.looks(0.0, GPUS, {})
    step = (
        b'{"job": "train", "rank": 0, "gpu": 1, "step": %d, "start_s": 1, "end_s": 1.5, "compute_s": 0.4, "slo_s": 0.4}'
    )
    for number in range(3):
        heard.hear(b'{"step": %s}' % (step % number))
    ((name, subject, look),) = heard.overruns.looks(10.0, GPUS, {})
    assert (name, subject.job, look.hit) == (LATENCY, "train", True)
    assert look.value == pytest.approx(0.5 / 0.4)
