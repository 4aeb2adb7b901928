"""The work queue gives out keys once, one worker a key, with back-off a key."""

import threading
import time

from controller.kube.backoff import Backoff
from controller.kube.workqueue import WorkQueue
from tests.controller.live import until


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock, lambda: 0.0, Backoff(first_s=1.0, most_s=5.0))


def test_a_key_added_thrice_is_given_out_once() -> None:
    work = queue(Clock())
    for _ in range(3):
        work.add("a")
    assert work.depth == 1
    assert work.get(0) == ("a", 0.0)
    assert work.get(0) is None


def test_a_key_added_while_it_is_worked_on_waits_for_done() -> None:
    work = queue(Clock())
    work.add("a")
    work.get(0)
    work.add("a")
    assert work.get(0) is None
    work.done("a")
    assert work.get(0) == ("a", 0.0)


def test_the_earliest_of_two_times_counts_and_lateness_is_told() -> None:
    clock = Clock()
    work = queue(clock)
    work.add("a", 10.0)
    work.add("a", 2.0)
    work.add("a", 7.0)
    assert work.get(0) is None
    clock.now_s = 3.0
    assert work.get(0) == ("a", 1.0)
    work.done("a")
    clock.now_s = 20.0
    assert work.get(0) is None


def test_a_key_for_which_somebody_waits_goes_before_all_that_are_due_also_where_it_waited_among_them() -> None:
    clock = Clock()
    work = queue(clock)
    work.add("a")
    work.add("b")
    clock.now_s = 1.0
    work.add("b", first=True)
    assert work.pressing
    assert work.get(0) == ("b", 0.0)
    assert work.pressing  # while it is worked on
    work.done("b")
    assert not work.pressing
    assert work.get(0) == ("a", 1.0)
    work.add("a", first=True)
    work.add("c")
    work.done("a")
    assert work.get(0) == ("a", 0.0)


def test_failures_of_a_key_wait_1_2_4_5_5_seconds_and_of_another_1() -> None:
    work = queue(Clock())
    assert [work.retry("a") for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert work.retry("b") == 1.0
    work.forget("a")
    assert work.retry("a") == 1.0
    assert work.retries_total == 7


def test_drain_waits_for_work_begun_and_gives_out_no_more() -> None:
    work = WorkQueue()
    work.add("a")
    work.add("b")
    got = work.get()
    assert got is not None
    assert not work.drain(0.01)
    threading.Timer(0.05, work.done, [got[0]]).start()
    assert work.drain(30.0)
    assert work.get() is None


def test_a_worker_that_waits_wakes_up_for_a_key_added_later() -> None:
    work = WorkQueue()
    threading.Timer(0.05, work.add, ["a"]).start()
    got = work.get(30.0)
    assert got is not None
    assert got[0] == "a"


def test_eight_workers_do_a_thousand_keys_of_all_delays_once_each_and_soon() -> None:
    work, done, lock = WorkQueue(), dict[str, float](), threading.Lock()

    def worker() -> None:
        while (got := work.get()) is not None:
            with lock:
                assert got[0] not in done
                done[got[0]] = got[1]
            work.done(got[0])

    crew = [threading.Thread(target=worker) for _ in range(8)]
    for one in crew:
        one.start()
    for step in range(1000):
        work.add(f"key-{step}", (step * 37 % 100) / 1000, first=step % 7 == 0)
    until(lambda: len(done) == 1000, 30)
    work.drain(5.0)
    for one in crew:
        one.join(5.0)
    assert not any(one.is_alive() for one in crew)
    assert sorted(done.values())[990] < 1.0


def test_a_key_due_sooner_than_the_one_that_is_waited_for_is_not_waited_with() -> None:
    work = WorkQueue()
    got: list[tuple[str, float] | None] = []
    crew = [threading.Thread(target=lambda: got.append(work.get())) for _ in range(4)]
    for one in crew:
        one.start()
    work.add("late", 300.0)
    time.sleep(0.05)
    for step in range(3):
        work.add(f"soon-{step}", 0.1 - step / 100)
    until(lambda: len(got) == 3, 30)
    assert max(late_s for _, late_s in filter(None, got)) < 1.0
    work.drain(0.0)
    for one in crew:
        one.join(5.0)


def test_jitter_and_a_thousand_failures_stay_below_the_bound_and_the_server_is_heeded() -> None:
    wait = Backoff()
    assert wait.wait_s(1000, lambda: 0.0) == 30.0
    assert wait.wait_s(1000, lambda: 1.0) == 15.0
    assert wait.wait_s(1, lambda: 0.0, retry_after_s=7.0) == 7.0
