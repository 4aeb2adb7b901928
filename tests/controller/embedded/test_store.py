"""Whoever reads waits for nobody, and sees what belongs together or nothing of it."""

import threading
import time
from pathlib import Path

import pytest

from controller.embedded.fair_lock import FairLock
from controller.embedded.store import Key, Row, Store

_KEY: Key = ("pods", "default", "a")


def _row(version: int) -> Row:
    return Row({"metadata": {"name": "a", "resourceVersion": str(version)}, "version": version})


@pytest.mark.parametrize("on_disk", [True, False])
def test_who_reads_sees_nothing_of_writes_that_are_not_whole_yet(tmp_path: Path, on_disk: bool) -> None:
    store = Store(tmp_path / "cluster.db" if on_disk else None)
    store.put(_KEY, _row(store.next_version()))
    inside, go_on = threading.Event(), threading.Event()

    def writes() -> None:
        with store.together():
            store.put(_KEY, _row(store.next_version()), past=True)
            store.say("word", "new")
            assert store.get(_KEY) == _row(2)
            assert store.said("word") == "new"
            inside.set()
            go_on.wait(10)

    writer = threading.Thread(target=writes)
    writer.start()
    assert inside.wait(10)
    began_s = time.monotonic()
    assert store.get(_KEY) == _row(1)
    assert store.items("pods") == [_row(1).body]
    assert store.version_seen() == 1
    if on_disk:  # in memory there is one connection alone
        assert store.said("word") is None
        assert store.past(_KEY) == []
    assert time.monotonic() - began_s < 1.0
    go_on.set()
    writer.join()
    assert (store.items("pods"), store.said("word"), store.version_seen()) == ([_row(2).body], "new", 2)
    assert store.past(_KEY) == [_row(1).body]
    store.close()


def test_who_waits_for_a_lock_gets_it_before_who_had_it_gets_it_again() -> None:
    lock, order, stop = FairLock(), list[str](), threading.Event()

    def again_and_again() -> None:
        while not stop.is_set():
            with lock, lock:
                order.append("often")
                time.sleep(0.005)

    often = threading.Thread(target=again_and_again)
    often.start()
    while not order:
        time.sleep(0.001)
    waits = []
    for _ in range(10):
        before = len(order)
        with lock:
            assert lock.mine()
            waits.append(len(order) - before)
    stop.set()
    often.join()
    assert max(waits) <= 2
    assert not lock.mine()
