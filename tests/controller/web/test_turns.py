"""Who asks for much waits for those who ask for little; what was just answered is answered again."""

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest
from starlette.types import Message, Scope, Send

from controller.plan_child import PlanningFailed
from controller.web.explore import Explorer
from controller.web.limits import Buckets, Limits
from controller.web.one_by_one import Late, OneByOne
from controller.web.recent import Recent
from controller.web.turns import Turns
from planner.plan import Plan
from planner.spec.plan_file import plan_document
from tests.controller.web.cluster import a_spec
from tests.controller.web.served import served


def _order(asked: list[tuple[str, str, bool]], at_once: int = 1) -> list[str]:
    """The names of requests (caller, name, much) in the order in which they were worked on, all asked at once."""
    done: list[str] = []

    async def run() -> None:
        turns = Turns(at_once, 10.0)

        async def one(caller: str, name: str, much: bool) -> None:
            async with turns.turn(caller, much):
                await asyncio.sleep(0.001)
                done.append(name)

        await asyncio.gather(*(one(*row) for row in asked))

    asyncio.run(run())
    return done


def test_callers_take_turns_and_of_one_the_modest_come_first() -> None:
    rows = [("a", "a1", True), ("a", "a2", True), ("a", "a3", False), ("b", "b1", False), ("b", "b2", False)]
    assert _order(rows) == ["a1", "a3", "b1", "a2", "b2"]


def test_one_turn_is_left_for_who_asks_for_little() -> None:
    rows = [("a", f"much{index}", True) for index in range(4)] + [("b", "little", False)]
    assert "little" in _order(rows, at_once=2)[:2]


def test_who_takes_long_or_goes_keeps_nobody_waiting() -> None:
    async def run() -> None:
        turns = Turns(1, 0.02)
        async with turns.turn("a", False), asyncio.timeout(1.0), turns.turn("b", False):  # a's time is over
            pass
        async with turns.turn("a", False):
            gone = asyncio.create_task(turns.turn("b", False).__aenter__())
            await asyncio.sleep(0)
            gone.cancel()
        async with asyncio.timeout(1.0), turns.turn("c", False):
            pass

    asyncio.run(run())


def test_a_connection_that_runs_wild_leaves_half_of_a_callers_requests_to_the_others() -> None:
    bucket = Buckets(per_s=10.0, burst=10.0)
    assert [bucket.wait_s("a", 0.0, 5.0) for _ in range(7)] == pytest.approx([0, 0, 0, 0, 0, 0.1, 0.1])
    assert [bucket.wait_s("a", 0.0) for _ in range(6)] == pytest.approx([0, 0, 0, 0, 0, 0.1])


class _Answers:
    """Work that answers with how often it was asked, after a moment."""

    def __init__(self, status: int = 200) -> None:
        self.times, self.status = 0, status

    async def __call__(self, send: Send) -> None:
        self.times += 1
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % self.times})


async def _asked(recent: Recent, work: _Answers, key: str = "k") -> bytes:
    got = bytearray()

    async def send(message: Message) -> None:
        got.extend(message.get("body", b""))

    scope: Scope = {}
    await recent.answer(key, False, scope, send, nullcontext(), work)
    return bytes(got)


def test_equal_questions_of_one_moment_are_answered_once() -> None:
    async def run() -> None:
        now, work = [0.0], _Answers()
        recent = Recent(0.25, lambda: now[0])
        assert await asyncio.gather(*(_asked(recent, work) for _ in range(5))) == [b"1"] * 5
        assert await _asked(recent, work, "another") == b"2"
        now[0] = 0.2
        assert await _asked(recent, work) == b"1"
        now[0] = 0.26
        assert await _asked(recent, work) == b"3"
        recent.forget()
        assert await _asked(recent, work) == b"4"

    asyncio.run(run())


def test_what_was_asked_before_something_was_written_is_not_told_after_it() -> None:
    async def run() -> None:
        work = _Answers()
        recent = Recent(10.0)
        first = asyncio.create_task(_asked(recent, work))
        await asyncio.sleep(0.001)
        recent.forget()
        assert await _asked(recent, work) == b"2"
        assert await first == b"2"  # its own work, which ended after the other's began

    asyncio.run(run())


def test_refusals_are_not_kept() -> None:
    async def run() -> None:
        work = _Answers(404)
        recent = Recent(10.0)
        assert [await _asked(recent, work) for _ in range(2)] == [b"1", b"2"]

    asyncio.run(run())


def test_who_writes_sees_it_at_once_however_long_answers_are_kept() -> None:
    with served(limits=Limits(glance_s=60.0)) as made, made.client() as client:
        assert client.get("/services").json()["items"] == []
        assert client.post("/services", json=a_spec()).status_code == 201
        assert [one["metadata"]["name"] for one in client.get("/services").json()["items"]] == ["chat"]


def test_work_that_is_late_goes_on_and_nobody_waits_for_it() -> None:
    go, done = threading.Event(), list[int]()
    work = OneByOne(2, "test")

    def long() -> int:
        go.wait(10)
        done.append(1)
        return 1

    with pytest.raises(Late):
        work.do(long, time.monotonic() + 0.05)
    began_s = time.monotonic()
    with pytest.raises(Late):  # behind the other
        work.do(lambda: 2, began_s + 0.05)
    assert time.monotonic() - began_s < 1.0
    go.set()
    assert work.do(lambda: 3, time.monotonic() + 10) == 3
    assert done == [1]
    work.stop()


class Slow:
    """Plans the first `quick` at once as not to be had, and never ends with the next."""

    def __init__(self, quick: int) -> None:
        self.left, self.end = quick, threading.Event()

    def decide(self, snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.left:
            self.end.wait(30)
            raise PlanningFailed("ended")
        self.left -= 1
        return plan_document(Plan("infeasible", None, None, None, None, 0.0), "none")

    def stop(self) -> None:
        self.end.set()


@pytest.mark.parametrize("quick", [0, 3])
def test_a_question_is_answered_in_time_with_what_is_known(quick: int) -> None:
    explorer = Explorer(Slow(quick))
    with served(explorer=explorer) as made:
        began_s = time.monotonic()
        if quick:
            found = explorer.curves(made.cluster.site(), a_spec(), longest_s=0.3)
            assert (len(found.by_rate), found.by_slo, found.complete) == (quick, (), False)
        else:
            with pytest.raises(PlanningFailed, match="no plan in the allowed"):
                explorer.curves(made.cluster.site(), a_spec(), longest_s=0.3)
        assert time.monotonic() - began_s < 2.0
