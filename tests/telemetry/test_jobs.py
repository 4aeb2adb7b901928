"""What jobs tell: judged, and fuzzed."""

import json
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.detectors.jobs import COMMUNICATION_HANG, HANG, STRAGGLER
from telemetry.jobs import LONGEST_RECORD, Heard
from tests.telemetry.agent_runner import free_port, running
from tests.telemetry.fake_nvml.state import FakeNvml


def step(rank: int, number: int, compute_s: float = 0.8, **more: object) -> bytes:
    own = {"job": "train", "rank": rank, "size": 4, "gpu": rank, "step": number}
    times = {"start_s": float(number), "end_s": number + 1.0, "compute_s": compute_s}
    return json.dumps({"step": {**own, **times, **more}}).encode()


def test_a_straggler_is_named_with_its_gpu_and_cleared_once_it_keeps_pace() -> None:
    heard = Heard()
    for number in range(20):
        for rank in range(4):
            heard.hear(step(rank, number, 0.9 if rank == 2 else 0.8))
    ((name, subject, look),) = heard.looks(20.0)
    assert (name, subject.gpu, subject.part, subject.job) == (STRAGGLER, 2, "rank 2", "train")
    assert look.value == pytest.approx(1.125)
    for number in range(20, 40):
        for rank in range(4):
            heard.hear(step(rank, number))
    ((name, subject, look),) = heard.looks(40.0)
    assert (name, look.hit) == (STRAGGLER, False)


def test_a_job_that_ends_in_peace_is_no_hang() -> None:
    heard = Heard()
    for number in range(3):
        heard.hear(step(0, number))
    assert [name for name, _, _ in heard.looks(100.0)] == [HANG]
    heard.hear(b'{"done": {"job": "train"}}')
    assert [look.hit for _, _, look in heard.looks(100.0)] == [False]


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = [
    "job",
    "rank",
    "size",
    "gpu",
    "step",
    "stage",
    "start_s",
    "end_s",
    "compute_s",
    "comm",
    "sequence",
    "kind",
    "peer",
]
_BODY = st.dictionaries(st.sampled_from(_KEYS), _JSON | st.just("a") | st.just(1))
_RECORD = st.dictionaries(st.sampled_from(["step", "operation", "done", "else"]), _BODY | _JSON, max_size=2)


@given(st.lists(st.binary(max_size=80) | (_RECORD | _JSON).map(lambda found: json.dumps(found).encode()), max_size=30))
def test_no_record_can_harm(records: list[bytes]) -> None:
    heard = Heard()
    for record in [*records, b"x" * (LONGEST_RECORD + 1)]:
        heard.hear(record)
    heard.looks(1e9)
    assert heard.records + heard.refused == len(records) + 1


LATE_S = 19.0  # what began so long ago is told only now: records carry their own times


@pytest.mark.nvml
def test_the_guilty_rank_of_a_hang_is_on_the_page_within_thirty_seconds(
    nvml: FakeNvml, nvml_library: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "jobs.sock")
    with running(nvml, nvml_library, free_port(), jobs=path) as agent:
        agent.wait_for(lambda _: Path(path).exists())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(path)
            began = time.time() - LATE_S
            for rank in range(4):
                if rank != 1:
                    told = {"job": "train", "comm": "dp", "size": 4, "rank": rank, "gpu": rank, "sequence": 7}
                    record = {"operation": {**told, "kind": "all_reduce", "start_s": began}}
                    sender.send(json.dumps(record).encode())
            sender.send(b"not a record")
        took_s = LATE_S + agent.wait_for(lambda a: COMMUNICATION_HANG in a.get(), within_s=30)
        (labels,) = (one for one in agent.values("muster_fault") if COMMUNICATION_HANG in one)
    assert 'part="rank 1"' in labels
    assert took_s <= 30
