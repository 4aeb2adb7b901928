"""Live steps of jobs: slow ranks and silent ones."""

import random
import socket
from pathlib import Path

import pytest

from telemetry.client import Reporter, muster_step
from telemetry.steps import StepDone, Steps


def job(steps: int, slow: dict[int, float] | None = None, ranks: int = 8, stages: int = 1, seed: int = 0) -> Steps:
    """Ranks that compute for 0.8 s of each step of 1 s, 1.5 % more or less; stage 1 is half as long again."""
    rng, found = random.Random(seed), Steps()
    for step in range(steps):
        for rank in range(ranks):
            stage = rank % stages
            own = 0.8 * (1.5 if stage else 1.0) * rng.gauss(1.0, 0.015) * (slow or {}).get(rank, 1.0)
            found.note(StepDone("job", rank, ranks, stage, step, float(step), step + 1.0, own))
    return found


def test_a_rank_ten_percent_slower_is_named_within_twenty_steps_and_no_other() -> None:
    for rank in range(8):
        (found,) = job(20, {rank: 1.1}, seed=rank).slow()
        assert (found.rank, found.stage) == (rank, 0)
        assert 1.07 <= found.ratio <= 1.13


def test_a_heavier_stage_is_no_straggler() -> None:
    assert job(60, stages=2).slow() == []
    assert [one.rank for one in job(20, {3: 1.1}, stages=2).slow()] == [3]


def test_nobody_is_slow_before_twenty_steps() -> None:
    assert job(19, {3: 2.0}).slow() == []


def test_a_job_that_stops_is_hung_after_thirty_seconds_and_who_is_behind_is_named() -> None:
    found = job(30)
    for rank in range(8):
        if rank != 6:
            found.note(StepDone("job", rank, 8, 0, 30, 30.0, 31.0, 0.8))
    assert found.hung(31.0 + 25.0) == []
    (hung,) = found.hung(31.0 + 25.1)
    assert hung.ranks == (6,)
    found.forget("job")
    assert found.hung(1e6) == []


def test_a_job_of_long_steps_may_be_silent_for_longer() -> None:
    found = Steps()
    for step in range(5):
        found.note(StepDone("job", 0, 1, 0, step, step * 60.0, step * 60.0 + 60.0, 50.0))
    assert found.hung(300.0 + 200.0) == []
    assert len(found.hung(300.0 + 301.0)) == 1


def test_the_client_reports_steps_and_never_waits(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = str(tmp_path / "jobs.sock")
    environment = {"MUSTER_JOB": "train-1", "RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3"}
    reporter = Reporter(path, environment)
    request.addfinalizer(reporter.close)
    with muster_step(reporter=reporter):
        pass  # nobody listens: nothing happens
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        with muster_step(reporter=reporter) as step, step.compute():
            sum(range(1000))
        text = listener.recv(4096).decode()
        assert '"job": "train-1"' in text
        assert '"step": 2' in text
        while reporter.send({"step": {}}):
            pass  # until the socket is full; then it is refused at once
