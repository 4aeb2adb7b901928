"""The four verdicts on operations written by hand."""

from dataclasses import replace

from telemetry.collectives import HANG_S, Finding, Jobs, Operation

SIZE = 8


def heard(operations: list[Operation], now_s: float, size: int = SIZE) -> list[Finding]:
    jobs = Jobs()
    for one in operations:
        jobs.note(one, size)
    return jobs.findings(now_s)


def steps(count: int, period_s: float = 1.0, late: dict[int, float] | None = None) -> list[Operation]:
    """All-reduces that begin once a period on all ranks, some of them later, and end together."""
    found = []
    for step in range(count):
        for rank in range(SIZE):
            begin = step * period_s + (late or {}).get(rank, 0.0) + 1e-4 * ((rank * 7 + step) % SIZE)
            found.append(Operation("job", "dp", step, "all_reduce", rank, begin, step * period_s + 0.5, 1e9))
    return found


def test_a_job_in_step_has_nothing() -> None:
    assert heard(steps(50), 50.0) == []


def test_ranks_that_never_came_are_named() -> None:
    waiting = [replace(one, sequence=50, start_s=50.0, end_s=None) for one in steps(1) if one.rank != 3]
    assert heard(steps(50) + waiting, 50.0 + HANG_S - 1) == []
    (found,) = heard(steps(50) + waiting, 50.0 + HANG_S)
    assert (found.verdict, found.ranks) == ("other_hang", (3,))
    assert "never began" in found.words


def test_a_collective_that_does_not_end_is_the_communications_fault() -> None:
    stuck = [replace(one, sequence=50, start_s=50.0, end_s=50.2 if one.rank < 6 else None) for one in steps(1)]
    (found,) = heard(steps(50) + stuck, 50.2 + HANG_S)
    assert (found.verdict, found.ranks) == ("communication_hang", (6, 7))


def test_who_comes_last_and_waits_least_is_named() -> None:
    (found,) = heard(steps(20, late={5: 0.15}), 20.0)
    assert (found.verdict, found.ranks) == ("other_slow", (5,))
    assert heard(steps(20, late={5: 0.05}), 20.0) == []  # 5 % of a step is not 10 %


def messages(slow: dict[tuple[int, int], float]) -> list[Operation]:
    """A ring and its reverse: each rank sends to both neighbours, ten times."""
    found = []
    for turn in range(10):
        for rank in range(SIZE):
            for peer in ((rank + 1) % SIZE, (rank - 1) % SIZE):
                took = 1e-3 * slow.get((rank, peer), 1.0)
                found.append(Operation("job", "pp", turn, "send", rank, float(turn), turn + took, 1e6, peer))
    return found


def test_a_slow_connection_is_told_from_a_slow_sender_and_a_slow_receiver() -> None:
    (link,) = heard(messages({(2, 3): 4.0}), 10.0)
    assert (link.verdict, link.link) == ("communication_slow", (2, 3))
    (sender,) = heard(messages({(2, 3): 4.0, (2, 1): 4.0}), 10.0)
    assert sender.ranks == (2,)
    assert "rank 2 sends" in sender.words
    (receiver,) = heard(messages({(1, 2): 4.0, (3, 2): 4.0}), 10.0)
    assert "rank 2 receives" in receiver.words
    (node,) = heard(messages({pair: 4.0 for pair in ((2, 3), (2, 1), (1, 2), (3, 2))}), 10.0)
    assert "sends and receives" in node.words


def test_a_job_that_is_over_is_forgotten() -> None:
    jobs = Jobs()
    for one in steps(3):
        jobs.note(replace(one, end_s=None), SIZE)
    assert jobs.findings(1e4) != []
    jobs.forget("job")
    assert jobs.findings(1e4) == []
