"""Nodes leave for faults, never too many at once, and come back in one piece."""

from dataclasses import replace

from controller.brake import Brake, NodeState, Orders, most_out, orders

NOW_S = 100_000.0

HOW = ": annotate node a with muster.dev/approved=yes"


def well(name: str, **known: object) -> NodeState:
    return replace(NodeState(name, heard_s=NOW_S), **known)  # type: ignore[arg-type]


def faulty(name: str, since_s: float = NOW_S, **known: object) -> NodeState:
    return well(name, fault="Xid 79", faulty_since_s=since_s, **known)


def out(name: str, **known: object) -> NodeState:
    return well(name, **{"out_since_s": NOW_S - 5000.0, "well_since_s": NOW_S - 4000.0, **known})


def fleet(*nodes: NodeState, of: int = 100) -> list[NodeState]:
    return [*nodes, *(well(f"w{i}") for i in range(of - len(nodes)))]


def test_one_fault_takes_its_node_out() -> None:
    assert orders(fleet(faulty("a")), NOW_S) == Orders(quarantine=("a",))


def test_of_four_hundred_faults_in_a_thousand_nodes_fifty_go_and_the_rest_is_held_and_told() -> None:
    found = orders(fleet(*(faulty(f"f{i:03}", NOW_S - i) for i in range(400)), of=1000), NOW_S)
    assert len(found.quarantine) == 50
    assert found.quarantine[0] == "f399"  # the oldest fault first
    assert len(found.held) == 350
    words = "Xid 79; 50 of 1000 nodes may be out without a person's approval: annotate node f000 with "
    assert found.held["f000"] == f"{words}muster.dev/approved=yes"


def test_nodes_that_are_out_already_count() -> None:
    gone = [out(f"o{i}", fault="Xid 79") for i in range(4)]
    found = orders(fleet(*gone, faulty("a", NOW_S - 9), faulty("b")), NOW_S)
    assert found.quarantine == ("a",)
    assert "b" in found.held


def test_a_small_fleet_may_still_lose_one_node() -> None:
    assert most_out(3, Brake()) == 1
    assert most_out(1000, Brake()) == 50


def test_a_person_may_let_more_go() -> None:
    nodes = fleet(*(faulty(f"f{i}") for i in range(3)), of=3)
    assert orders(nodes, NOW_S, approved={"f1", "f2"}).quarantine == ("f0", "f1", "f2")


def test_taking_nodes_out_round_by_round_ends_at_the_same_limit() -> None:
    nodes = fleet(*(faulty(f"f{i:02}") for i in range(20)))
    for _ in range(5):
        going = orders(nodes, NOW_S).quarantine
        nodes = [replace(n, out_since_s=NOW_S) if n.name in going else n for n in nodes]
    assert sum(node.out_since_s is not None for node in nodes) == 5


def test_a_node_that_is_not_heard_of_is_told_and_left_alone() -> None:
    silent = well("a", heard_s=NOW_S - 600.0)
    assert orders(fleet(silent), NOW_S) == Orders(held={"a": "not heard of for 600 s"})
    found = orders(fleet(faulty("a", heard_s=NOW_S - 600.0)), NOW_S)
    assert found.quarantine == ()
    assert found.held == {"a": "Xid 79, but not heard of for 600 s"}


def test_a_node_comes_back_after_probation_and_burn_in() -> None:
    assert orders(fleet(out("a", well_since_s=NOW_S - 100.0)), NOW_S).held == {"a": "on probation for another 800 s"}
    assert orders(fleet(out("a")), NOW_S).test == ("a",)
    assert orders(fleet(out("a", burn_in="running")), NOW_S).held == {"a": "burn-in runs"}
    assert orders(fleet(out("a", burn_in="passed")), NOW_S).give_back == ("a",)
    assert orders(fleet(out("a", burn_in="failed")), NOW_S).held == {"a": f"burn-in failed: a person must approve{HOW}"}
    assert orders(fleet(out("a", burn_in="failed")), NOW_S, approved={"a"}).give_back == ("a",)


def test_a_burn_in_waits_until_pods_have_left_the_gpus_that_it_needs() -> None:
    waits = orders(fleet(out("a", busy_gpus=4)), NOW_S)
    assert (waits.test, waits.held) == ((), {"a": "burn-in waits for 4 GPUs that pods still hold"})


def test_a_node_whose_fault_comes_and_goes_is_taken_out_once() -> None:
    node, taken, given = well("a"), 0, 0
    for minute in range(24 * 60):
        now_s = NOW_S + 60.0 * minute
        bad = minute % 10 < 3
        well_s = now_s if minute % 10 == 3 else node.well_since_s
        node = replace(node, fault="Xid 79" if bad else "", heard_s=now_s, faulty_since_s=now_s, well_since_s=well_s)
        found = orders(fleet(node, of=50), now_s)
        taken += found.quarantine == ("a",)
        given += found.give_back == ("a",)
        node = replace(node, out_since_s=now_s) if found.quarantine else node
    assert (taken, given) == (1, 0)


def test_a_node_that_came_back_often_waits_for_a_person() -> None:
    often = out("a", burn_in="passed", returns_s=tuple(NOW_S - 86_400.0 * day for day in (1, 2, 3)))
    assert orders(fleet(often), NOW_S).held == {"a": f"came back 3 times in 7 days: a person must approve{HOW}"}
    assert orders(fleet(often), NOW_S, approved={"a"}).give_back == ("a",)


def test_a_clock_set_back_gives_nothing_back_early() -> None:
    assert orders(fleet(out("a", burn_in="passed")), NOW_S - 3600.0).give_back == ()
