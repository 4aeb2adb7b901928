"""What a new plan starts and stops."""

from dataclasses import replace

from planner.hardware import Inventory
from planner.moves import Move, moves
from planner.plan import Allocation, Plan, Recipe
from planner.show import lines
from planner.show_plan import plan_report
from tests.planner.factories import LARGE, SMALL, group, inventory, prediction, service


def allocation(replicas: int, gpu: str = "G1", node_group: str = "a") -> Allocation:
    return Allocation(
        service="chat",
        model="tiny",
        pool="serve",
        node_group=node_group,
        zone="z1",
        recipe=Recipe(gpu),
        replicas=replicas,
        gpus_per_replica=1,
        usd_per_hour=1.0,
        power_w=300.0,
        predicted=prediction(),
        shares={SMALL: 1.0, LARGE: 1.0},
        busy_ratio=0.5,
    )


def shown(now: Allocation, *running: Allocation, hardware: Inventory | None = None, known: bool = True) -> str:
    plan = Plan("optimal", 1.0, 1.0, 0.0, 300.0, 0.1, (now,), usable_gpus={"chat": (now.recipe.gpu,)})
    report = plan_report(plan, (service(),), hardware or inventory(), running=running if known else None)
    return "\n".join(line for line, _ in lines(report, 100))


def test_a_count_that_rises_and_a_kind_that_goes_are_two_moves() -> None:
    was, now = [allocation(2), allocation(1, "G2", "b")], [allocation(5)]
    assert moves(was, now) == (
        Move("chat", "G1", "serve", "a", 1, before=2, after=5),
        Move("chat", "G2", "serve", "b", 1, before=1, after=0),
    )
    assert [move.more for move in moves(was, now)] == [3, -1]


def test_the_plan_that_runs_needs_no_move() -> None:
    assert moves([allocation(2)], [allocation(2)]) == ()
    assert "No change: what runs now (--current) is this plan." in shown(allocation(2), allocation(2))


def test_the_report_counts_what_to_start_and_stop() -> None:
    said = shown(allocation(5), allocation(2), allocation(1, "G2", "b")).splitlines()
    at = said.index("CHANGE  NOW  THEN  EACH  NODE GROUP")
    assert [line.split() for line in said[at + 1 : at + 3]] == [
        ["+3", "2", "5", "G1", "a"],
        ["-1", "1", "0", "G2", "b"],
    ]


def test_nothing_is_said_of_changes_where_nobody_said_what_runs() -> None:
    assert "No change" not in shown(allocation(2), known=False)


def test_the_price_of_owned_nodes_is_explained() -> None:
    owned = replace(group("a"), owned=True, usd_per_gpu_hour=0.0)
    assert "owned nodes cost nothing: a" in shown(allocation(2), hardware=inventory(owned))
    priced = replace(inventory(owned), usd_per_joule=1e-8)
    assert "owned nodes cost their energy alone: a" in shown(allocation(2), hardware=priced)
