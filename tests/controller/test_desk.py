"""Caps of a whole fleet in replies to reports: within the budget, whoever led before, and without anybody waiting."""

import resource
import threading
import time

import pytest

from controller.caps import Capped
from controller.grants import Domain, Grants
from tests.controller.desk_fleet import CAP_W, FULL_W, Hall


def test_a_new_leader_gives_away_no_watts_of_nodes_that_it_has_not_heard_of() -> None:
    hall = Hall(nodes=4, gpus=2, budget="4800W", cap_w=None)
    hall.limits_w["n0-0"] = hall.limits_w["n0-1"] = 300.0
    for _ in range(5):
        assert hall.tell("n0") == {"n0-0": 300.0, "n0-1": 300.0}, "the other six may draw 4200 W"
        hall.now_s += 1.0
    for node in ("n1", "n2", "n3"):
        for gpu in hall.gpus_of[node]:
            hall.limits_w[gpu] = 500.0
        hall.tell(node)
    hall.now_s += 1.0
    assert sum(hall.tell("n0").values()) == 600.0, "another leader may have raised them since"
    for node in ("n1", "n2", "n3"):
        hall.tell(node)
    hall.now_s += 1.0
    assert sum(hall.tell("n0").values()) > 600.0, "they told again that they draw less"


def test_a_capped_service_has_its_nodes_capped() -> None:
    hall = Hall(nodes=2, gpus=8, budget="20kW")
    for node in hall.nodes:
        hall.tell(node)
    hall.now_s += 1.0
    assert set(hall.tell("n0").values()) == {CAP_W}


@pytest.mark.parametrize("tells", [True, False])
def test_gpus_on_which_nothing_runs_get_their_least_limit_where_watts_are_scarce(tells: bool) -> None:
    hall = Hall(nodes=3, gpus=2, budget="2400W", cap_w=None, serves=["n1"], tells=tells)
    for _ in range(4):
        for node in hall.nodes:
            hall.limits_w |= hall.tell(node)
        hall.now_s += 1.0
    assert [hall.limits_w[gpu] for gpu in ("n0-0", "n0-1", "n1-0", "n1-1")] == [200.0, 200.0, FULL_W, FULL_W]
    assert sum(hall.limits_w.values()) <= 2400.0
    assert hall.desk.grants.shares["hall"].short == ""


def test_a_budget_below_all_least_limits_leaves_a_replica_what_gpus_at_rest_do_not_draw_and_says_so() -> None:
    hall = Hall(nodes=4, gpus=2, budget="1500W", cap_w=None, serves=["n1"])
    for _ in range(6):
        for node in hall.nodes:
            hall.limits_w |= hall.tell(node)
        hall.now_s += 1.0
    # Six at rest draw 72 W each, whatever their limits of 200 W.
    assert [hall.limits_w[gpu] for gpu in ("n0-0", "n1-0", "n1-1")] == [200.0, 530.0, 530.0]
    assert hall.desk.grants.over_w["hall"] == 0.0
    assert "6 GPUs on which nothing runs have limits of 1200 W" in hall.desk.grants.shares["hall"].short


def test_a_node_that_names_the_gpus_of_another_gets_and_changes_nothing_of_theirs() -> None:
    hall = Hall(nodes=2, gpus=2, budget="2400W")
    for node in hall.nodes:
        hall.tell(node)
    hall.now_s += 1.0
    assert hall.tell("n0") == {"n0-0": CAP_W, "n0-1": CAP_W}
    for gpu in hall.gpus_of["n0"]:
        hall.limits_w[gpu] = CAP_W
    hall.tell("n0")
    before = dict(hall.desk.grants._granted)
    hall.gpus_of["n1"] = ["n0-0", "n0-1"]  # a lie
    hall.limits_w["n0-0"] = hall.limits_w["n0-1"] = 100.0
    hall.tell("n1")
    assert {gpu: row for gpu, row in hall.desk.grants._granted.items() if gpu.startswith("n0/")} == before


def test_a_reply_reads_what_was_worked_out_and_waits_for_nothing() -> None:
    began, go = threading.Event(), threading.Event()

    def domains() -> list[Domain]:
        began.set()
        assert go.wait(10)
        return [Domain("hall", 1400.0, [Capped("a", 700.0, 300.0, 250.0), Capped("b", 300.0, 300.0, 250.0)])]

    now = [0.0]
    made = Grants(domains, lambda: now[0])
    go.set()
    made.renew()
    assert made.reply(["b"]) == [{"uuid": "b", "watts": 300.0, "lease_s": 60.0}]
    began.clear()
    go.clear()
    now[0] = 1.0
    thread = threading.Thread(target=made.renew)
    thread.start()
    assert began.wait(10)
    began_s = time.monotonic()
    assert made.reply(["a", "b"]) == [{"uuid": "b", "watts": 300.0, "lease_s": 60.0}], "no raise meanwhile"
    assert time.monotonic() - began_s < 1.0
    go.set()
    thread.join(10)
    assert made.reply(["a"]) == [{"uuid": "a", "watts": 700.0, "lease_s": 60.0}]


def test_caps_of_eight_thousand_gpus_are_worked_out_beside_the_replies_which_take_microseconds() -> None:
    hall = Hall(nodes=1000, gpus=8, budget="6MW")
    for node in hall.nodes:
        hall.desk.hear(hall.report(node), node)
    hall.desk.grants.renew()
    reports = [hall.report(node) for node in hall.nodes]
    before_s = resource.getrusage(resource.RUSAGE_THREAD).ru_utime
    rows = [row for one in reports for row in hall.desk.caps(one)]
    spent_s = resource.getrusage(resource.RUSAGE_THREAD).ru_utime - before_s
    assert [row["watts"] for row in rows] == [CAP_W] * 8000
    assert FULL_W > CAP_W
    assert spent_s / len(reports) < 500e-6


def test_nodes_that_are_gone_are_neither_counted_nor_kept() -> None:
    hall = Hall(nodes=3, gpus=2, budget="20kW")
    for _ in range(2):
        for node in hall.nodes:
            hall.tell(node)
        hall.now_s += 1.0
    assert "muster_nodes_reporting 3\n" in hall.desk.metrics()
    there = hall.desk._known.items("nodes")  # the cache itself
    there[:] = [one for one in there if one["metadata"]["name"] == "n2"]
    assert "muster_nodes_reporting 1\n" in hall.desk.metrics()
    hall.tell("n2")
    assert (hall.desk._settled, set(hall.desk._read)) == ({"n2"}, {"n2"})
