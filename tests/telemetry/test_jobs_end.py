"""How jobs end for the agent: in peace, by an error, without a word; and what a flood of them may cost."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from telemetry.agent import Agent
from telemetry.collectives import MOST_COMMUNICATORS
from telemetry.detectors.jobs import HANG
from telemetry.fault import Look, Subject
from telemetry.jobs import CLEAN_S, FORGOTTEN_S, Heard
from telemetry.settings import Settings
from telemetry.steps import MOST_JOBS, MOST_KEPT
from tests.telemetry.test_jobs import step

LOOP = "from telemetry.client import muster_step\nfor _ in range(3):\n    with muster_step():\n        pass\n"


def operation(job: str, comm: str = "dp", rank: int = 0, **more: object) -> bytes:
    told = {"job": job, "comm": comm, "size": 4, "rank": rank, "sequence": 1, "kind": "all_reduce", "start_s": 1.0}
    return json.dumps({"operation": {**told, **more}}).encode()


@pytest.mark.parametrize(
    ("end", "says_so"),
    [("", True), ("raise SystemExit(0)", True), ("raise ValueError", False), ("import os; os._exit(9)", False)],
)
def test_a_loop_takes_leave_where_its_process_ends_well(tmp_path: Path, end: str, says_so: bool) -> None:
    path = tmp_path / "jobs.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent:
        agent.bind(str(path))
        agent.settimeout(10)
        environment = {**os.environ, "MUSTER_SOCKET": str(path), "MUSTER_JOB": "train", "RANK": "2"}
        subprocess.run([sys.executable, "-c", LOOP + end], env=environment, capture_output=True, check=False)
        agent.setblocking(False)
        said = []
        while True:
            try:
                said.append(json.loads(agent.recv(8192)))
            except BlockingIOError:
                break
    assert [kind for one in said for kind in one] == ["step"] * 3 + ["done"] * says_so
    assert not says_so or said[-1] == {"done": {"job": "train", "rank": 2}}


def test_a_rank_that_leaves_hides_no_hang_of_the_others() -> None:
    heard = Heard()
    for number in range(3):
        for rank in range(2):
            heard.hear(step(rank, number))
    heard.hear(b'{"done": {"job": "train", "rank": 0}}')
    assert [(name, look.hit) for name, _, look in heard.looks(100.0)] == [(HANG, True)]
    heard.hear(b'{"done": {"job": "train", "rank": 1}}')
    assert [(name, look.hit) for name, _, look in heard.looks(101.0)] == [(HANG, False)]


def test_a_job_that_was_killed_is_forgotten_in_the_end_and_so_is_its_hang() -> None:
    heard = Heard()
    for number in range(3):
        heard.hear(step(0, number))
    assert [look.hit for _, _, look in heard.looks(100.0)] == [True]
    assert [look.hit for _, _, look in heard.looks(100.0 + FORGOTTEN_S)] == [True]
    assert [look.hit for _, _, look in heard.looks(101.0 + FORGOTTEN_S)] == [False]
    assert heard.looks(101.0 + FORGOTTEN_S + CLEAN_S) == []


def test_jobs_come_and_go_for_ever() -> None:
    heard = Heard()
    for number in range(3 * MOST_COMMUNICATORS):
        heard.hear(operation(f"job-{number}"))
        heard.hear(step(0, 1, job=f"job-{number}"))
        heard.hear(json.dumps({"done": {"job": f"job-{number}"}}).encode())
    assert heard.refused == 0


def test_a_flood_is_refused_and_takes_no_room() -> None:
    heard = Heard()
    for number in range(2 * MOST_COMMUNICATORS):
        heard.hear(operation(f"job-{number}"))
        heard.hear(step(0, 1, job=f"job-{number}"))
    assert heard.refused == 4 * MOST_COMMUNICATORS - MOST_COMMUNICATORS - MOST_JOBS
    assert len(heard._gpus) <= MOST_COMMUNICATORS + MOST_JOBS
    before = heard.refused
    heard.hear(operation("job-0", rank=4))
    heard.hear(operation("job-0", peer=4))
    assert heard.refused == before + 2


def test_steps_of_all_jobs_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry.steps.MOST_KEPT", 100)
    heard = Heard()
    for rank in range(MOST_KEPT // 500):
        heard.hear(step(rank, 1))
    assert heard.refused == MOST_KEPT // 500 - 100
    heard.hear(b'{"done": {"job": "train"}}')
    heard.hear(step(0, 2))
    assert heard.refused == MOST_KEPT // 500 - 100


def test_a_hang_of_before_a_restart_is_over_unless_it_is_seen_again(tmp_path: Path) -> None:
    settings, subject = Settings("node-1", state=str(tmp_path)), Subject(0, "rank 0", "train")
    before, now_s = Agent(settings, "boot", 0.0), time.time()
    before.judge([(HANG, subject, Look(True, 30.0, "stands"))], now_s)
    after = Agent(settings, "boot", 0.0)
    assert [state.phase for _, _, state in after.watch.faults()] == ["confirmed"]
    assert [one.after for one in after.tick(now_s + 11.0)] == ["probation"]
