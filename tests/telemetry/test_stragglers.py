"""Stragglers on a published trace and on steps written by hand."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from telemetry.errors import BadRecord
from telemetry.job_trace import COLUMNS, read
from telemetry.pipeline import BACKWARD, COMPUTE, FORWARD, Op, step_s
from telemetry.stragglers import findings

WORKERS = [(rank, stage) for rank in (0, 1) for stage in range(4)]


@cache
def trace(folder: Path) -> tuple[Op, ...]:
    return tuple(read(folder / "data" / "telemetry" / "straggler_trace_ST.csv.gz"))


def slowed(ops: tuple[Op, ...], worker: tuple[int, int], factor: float) -> list[Op]:
    return [
        replace(op, duration_s=op.duration_s * factor) if op.worker == worker and op.kind in COMPUTE else op
        for op in ops
    ]


def test_nobody_is_named_on_the_published_trace_and_the_slowdown_is_the_published_one(shared: Path) -> None:
    found = findings(trace(shared))
    published = json.loads((shared / "data" / "telemetry" / "straggler_result_ST.json").read_text("utf-8"))
    assert found.stragglers == ()
    assert found.cause == "stage_imbalance"
    assert found.slowdown_ratio == pytest.approx(published["blocking_slowdown"], rel=0.02)


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_slowed_by_a_tenth_is_named_and_nobody_else(shared: Path, worker: tuple[int, int]) -> None:
    found = findings(slowed(trace(shared), worker, 1.1))
    assert [(one.dp_rank, one.stage) for one in found.stragglers] == [worker]
    assert found.stragglers[0].slowdown_ratio == pytest.approx(1.1, abs=0.03)
    assert found.cause == "worker"


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_slow_for_a_few_steps_is_not_named(shared: Path, worker: tuple[int, int]) -> None:
    steps = sorted({op.step for op in trace(shared)})
    passing = [
        replace(op, duration_s=op.duration_s * 1.5)
        if op.worker == worker and op.kind in COMPUTE and op.step in steps[-5:]
        else op
        for op in trace(shared)
    ]
    assert findings(passing).stragglers == ()


def even_step(step: int, forward_s: float = 1.0, stages: int = 2, micro_batches: int = 2, ranks: int = 2) -> list[Op]:
    """GPipe: all forward passes, then all backward passes at twice the time; starts say the order only."""
    ops = []
    for rank in range(ranks):
        for stage in range(stages):
            for turn, kind in enumerate([FORWARD] * micro_batches + [BACKWARD] * micro_batches):
                length_s = forward_s * (1 if kind == FORWARD else 2)
                ops.append(Op(rank, stage, step, kind, float(turn), length_s, turn, turn % micro_batches, stage))
    return ops


def test_a_step_takes_what_its_pipeline_takes() -> None:
    # Two stages, two micro-batches: forward 1 s each fills in 3 s, backward 2 s each drains in 6 s.
    assert step_s(even_step(0), lambda op: op.duration_s) == pytest.approx(9.0)


def test_long_sequences_of_a_rank_are_no_straggler() -> None:
    steps = []
    for step in range(20):
        for op in even_step(step, stages=4, micro_batches=4):
            long = (op.dp_rank + op.micro_batch + step) % 3 == 0
            steps.append(replace(op, duration_s=op.duration_s * (1.5 if long else 1.0)))
    found = findings(steps)
    assert found.stragglers == ()
    assert found.cause == "sequence_imbalance"


def test_an_even_job_has_no_cause() -> None:
    found = findings([op for step in range(3) for op in even_step(step)])
    assert found.cause == "none"
    assert found.slowdown_ratio == pytest.approx(1.0)


HEAD = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "column 'dp_rank' is missing", id="empty"),
        pytest.param("a,b\n1,2\n", "column 'dp_rank' is missing", id="other columns"),
        pytest.param(f"{HEAD}\n", "no operation", id="head only"),
        pytest.param(f"{HEAD}\n0,0,0,gc,0,0,0,-1,-1\n", "nothing to compare", id="nothing computed"),
        pytest.param(f"{HEAD}\n0,0,0,gc,nan,0,0,-1,-1\n", ":2: start_ts is 'nan'", id="not a number"),
        pytest.param(f"{HEAD}\n0,x,0,gc,0,0,0,-1,-1\n", ":2: stage is 'x'", id="not whole"),
        pytest.param(f"{HEAD}\n0,0,0\n", ":2: the row has not as many cells", id="short row"),
    ],
)
def test_a_bad_trace_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(BadRecord, match=words):
        findings(read(path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(BadRecord, match="neither CSV text nor a gzipped one"):
        read(path)
