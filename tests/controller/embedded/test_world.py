"""The whole loop in simulated time: a service bears a surge, a fault, a straggler, less power, and a restart."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.embedded.world import World
from controller.kube.rest import MERGE
from planner.catalog import gpu as catalogue
from planner.errors import BadInput
from planner.power import idle_w
from planner.service import ServiceSpec
from planner.simulation.model import pace_under
from planner.simulation.pace import Pace
from tests.controller.embedded.a_world import SERVICES, START_S, ready, run, status, submit, told

Make = Callable[..., World]


def on_a_rack(make: Make, gpus_per_node: int) -> World:
    """Two nodes of H100s behind one breaker of 5 kW."""
    group = {
        "name": "h100", "gpu": "H100-SXM", "gpusPerNode": gpus_per_node, "nodes": 2, "zone": "a",
        "pricePerHour": "$2.60", "powerDomain": "rack",
    }  # fmt: skip
    return make(None, group, powerDomains=[{"name": "rack", "budget": "5kW"}])


def test_a_service_comes_up_and_keeps_its_objective(a_world: Make) -> None:
    world = a_world()
    submit(world, "chat")
    run(world, 300, lambda: ready(world, "chat"))
    run(world, 300)
    seen = world.serving.seen("default/chat")
    assert seen is not None
    assert seen.attained_ratio == pytest.approx(1.0, abs=0.01)
    assert seen.rate_per_s == pytest.approx(10.0, rel=0.25)
    assert world.history.latest("usd_per_hour")["default/chat"] == pytest.approx(status(world, "chat")["usdPerHour"])
    account = world.serving.fleet.account("default/chat")
    assert account.submitted == account.finished + account.in_flight + account.waiting + account.refused


def test_after_a_surge_the_objective_is_met_again_soon_after_capacity_came(a_world: Make) -> None:
    world = a_world()
    submit(world, "chat", 20.0)
    run(world, 300, lambda: ready(world, "chat"))
    run(world, 600)
    world.send("default/chat", {"factor": 4.0})
    run(world, 120, lambda: bool(told(world, "SLOMissed")))
    assert re.fullmatch(
        r"p9\d [A-Z]+ .* ms over .* ms in the last 60 s \(.* % of .* requests in time, 9\d % asked\)",
        told(world, "SLOMissed")[0],
    )
    # Capacity has come when what is ready carries what comes.
    run(world, 600, lambda: _ready_per_s(world) >= 80.0)
    came_s = world.now_s
    run(world, 240)
    attained = world.serving.attained_since("default/chat", came_s + 60)
    assert attained is not None
    assert attained >= 0.95
    assert any("requests/s after" in note for note in told(world, "Replanned"))


def _ready_per_s(world: World) -> float:
    return sum(one.kind.per_s * one.ready for one in world.loop.known.running("default/chat"))


def test_a_gpu_that_falls_off_the_bus_takes_its_node_out_and_the_service_moves(a_world: Make) -> None:
    world = a_world()
    submit(world, "chat")
    run(world, 300, lambda: ready(world, "chat"))
    replica = next(iter(world.serving.replicas.values()))
    node, gpus = next(iter(replica.gpus.items()))
    assert world.inject(node, gpus[0], "xid", 79) == f"GPU {gpus[0]} of {node} reports Xid 79"
    run(world, 120, lambda: any("fallen" in note.lower() for note in told(world, "NodeQuarantined")))
    run(world, 300, lambda: ready(world, "chat"))
    assert all(node not in one.gpus for one in world.serving.replicas.values() if one.ready)
    assert any(f"new faults: {node}" in note for note in told(world, "Replanned"))
    run(world, 300, lambda: not _degraded(world))  # the node is out still, and nothing of the service is there
    assert not told(world, "NodeReturned")
    world.inject(node, gpus[0], "clear")
    run(world, 600, lambda: bool(told(world, "NodeReturned")))
    account = world.serving.fleet.account("default/chat")
    assert account.submitted == account.finished + account.in_flight + account.waiting + account.refused


def test_a_gpu_that_grows_slow_beside_its_peers_is_found_and_left_until_it_was_replaced(a_world: Make) -> None:
    one = {"name": "h100", "gpu": "H100-SXM", "gpusPerNode": 4, "nodes": 3, "zone": "a", "pricePerHour": "$2.60"}
    world = a_world(None, one)
    submit(world, "chat", 400.0)
    run(world, 300, lambda: ready(world, "chat"))
    full = max(("h100-0", "h100-1", "h100-2"), key=lambda node: _held(world, node))
    assert _held(world, full) == 4
    world.inject(full, 2, "slow", factor=0.6)
    run(world, 1200, lambda: bool(told(world, "NodeQuarantined")))
    assert "SM clock" in told(world, "NodeQuarantined")[0]
    run(world, 1200, lambda: _held(world, full) == 0)
    world.inject(full, 2, "clear")  # nothing runs there any more, and yet the node comes back
    run(world, 600, lambda: bool(told(world, "NodeReturned")))


def _degraded(world: World) -> bool:
    return any(row["type"] == "Degraded" and row["status"] == "True" for row in status(world, "chat")["conditions"])


def _held(world: World, node: str) -> int:
    replicas = world.serving.replicas.values()
    return sum(len(one.gpus.get(node, ())) for one in replicas)


def test_less_power_is_planned_for_at_once_and_never_drawn_over_in_plans(a_world: Make) -> None:
    world = on_a_rack(a_world, 4)
    submit(world, "chat", 80.0)
    run(world, 300, lambda: ready(world, "chat"))
    drawn_w = status(world, "chat")["powerW"]
    held = sum(len(gpus) for one in world.serving.replicas.values() for gpus in one.gpus.values())
    rest_w = (8 - held) * idle_w(catalogue("H100-SXM"))  # the others hang on the rack too
    path = "/apis/muster.dev/v1alpha1/powerdomains/rack"
    world.api.request("PATCH", path, {"spec": {"budget": f"{0.995 * drawn_w + rest_w:.0f}W"}}, content_type=MERGE)
    run(world, 60, lambda: any("budget of a power domain" in note for note in told(world, "Replanned")))
    run(world, 600, lambda: ready(world, "chat"))
    assert status(world, "chat")["powerW"] <= 0.995 * drawn_w + 1


def test_longer_answers_are_noticed_and_planned_for(a_world: Make) -> None:
    world = a_world()
    submit(world, "chat", 20.0)
    run(world, 300, lambda: ready(world, "chat"))
    world.send("default/chat", {"output_ratio": 1.6})
    run(world, 2400, lambda: any("answers of" in note for note in told(world, "Replanned")))


def test_a_cluster_that_is_opened_again_goes_on_where_it_was(a_world: Make, tmp_path: Path) -> None:
    world = a_world(tmp_path / "cluster.db")
    submit(world, "chat")
    run(world, 300, lambda: ready(world, "chat"))
    run(world, 60)
    at_s, pods = world.now_s, sorted(one["metadata"]["uid"] for one in world.store.items("pods"))
    plan = world.api.request("GET", "/apis/muster.dev/v1alpha1/namespaces/default/plans/chat")["spec"]["decisionId"]
    world.close()
    again = a_world(tmp_path / "cluster.db")
    assert again.now_s == at_s
    run(again, 120)
    assert sorted(one["metadata"]["uid"] for one in again.store.items("pods")) == pods
    found = again.api.request("GET", "/apis/muster.dev/v1alpha1/namespaces/default/plans/chat")
    assert found["spec"]["decisionId"] == plan
    assert ready(again, "chat")
    assert told(again, "TelemetryStale") == []  # what could not be heard yet is not stale


def test_a_steady_noisy_stretch_moves_nothing(a_world: Make) -> None:
    world = a_world()
    submit(world, "chat", 12.0)
    run(world, 300, lambda: ready(world, "chat"))
    world.send("default/chat", {"burst_cv": 2.0})
    run(world, 3600)
    assert len(told(world, "Replanned")) == 1


def test_a_place_is_a_gpu_of_a_replica_that_serves(a_world: Make) -> None:
    world = a_world()
    submit(world, "chat")
    assert world.place("default/chat") is None
    run(world, 300, lambda: ready(world, "chat"))
    place = world.place("default/chat")
    assert place is not None
    node, gpu = place
    assert any(gpu in one.gpus.get(node, ()) for one in world.serving.replicas.values() if one.ready)
    assert world.place("default/chat", "nowhere") is None


def test_faults_that_make_no_sense_are_refused_in_words(a_world: Make) -> None:
    world = a_world()
    for about, words in (
        (("nowhere", 0, "lost"), "node: got 'nowhere'"),
        (("h100-0", 9, "lost"), "gpu: got 9"),
        (("h100-0", 0, "melt"), "kind: got 'melt'"),
        (("h100-0", 0, "slow"), "factor: got None"),
    ):
        with pytest.raises(BadInput, match=words):
            world.inject(*about)


def test_power_that_no_plan_can_do_with_is_told_with_the_way_out(a_world: Make) -> None:
    world = on_a_rack(a_world, 4)
    submit(world, "chat", 80.0)
    run(world, 300, lambda: ready(world, "chat"))
    path = "/apis/muster.dev/v1alpha1/powerdomains/rack"
    world.api.request("PATCH", path, {"spec": {"budget": "200W"}}, content_type=MERGE)
    run(world, 60, lambda: bool(told(world, "PlanInfeasible")))
    assert "raise the power budget of rack" in told(world, "PlanInfeasible")[0]


def test_a_rate_that_no_process_could_make_is_not_made(a_world: Make) -> None:
    world = a_world()
    submit(world, "chat")
    run(world, 300, lambda: ready(world, "chat"))
    path = f"{SERVICES}/chat"
    world.api.request("PATCH", path, {"spec": {"workload": {"ratePerSecond": 1e9}}}, content_type=MERGE)
    before = world.serving.fleet.account("default/chat").submitted
    run(world, 10)
    assert 0 < world.serving.fleet.account("default/chat").submitted - before < 2e5


def test_requests_that_nobody_serves_are_missed_ones_and_goodput_is_no_more_than_what_came(a_world: Make) -> None:
    world = a_world()
    submit(world, "chat")
    run(world, 300, lambda: ready(world, "chat"))
    run(world, 600)
    came, good = 0.0, 0.0
    for _ in range(10):  # minutes: in one alone more may end than came
        seen = world.serving.seen("default/chat")
        assert seen is not None
        came, good = came + seen.rate_per_s, good + seen.goodput_per_s
        run(world, 60)
    assert good <= 1.03 * came
    for name in world.serving.fleet.names("default/chat"):
        world.serving.fleet.remove(name, kill=True)
    world.serving.replicas = {}
    start_s = world.now_s
    world.serving.go_on(start_s, start_s + 100.0)
    world.now_s = start_s + 100.0
    left = world.serving.seen("default/chat")
    assert left is not None
    assert left.attained_ratio == 0.0


def test_replicas_are_as_fast_as_the_limits_of_their_gpus_let_them_and_draw_no_more(a_world: Make) -> None:
    world = on_a_rack(a_world, 2)
    slow = [{"name": "chat", "ttft": "5s", "tpot": "150ms", "percentile": "p95"}]
    submit(world, "chat", 1.0, slos=slow)
    run(world, 300, lambda: ready(world, "chat"))
    run(world, 60)
    [one] = world.serving.replicas.values()
    (node, [gpu]), alone = next(iter(one.gpus.items())), _tpot_s(world)
    world.loop.desk.caps = lambda report: [  # type: ignore[method-assign]
        {"uuid": world.uuid(node, gpu), "watts": 220.0, "lease_s": 60.0}
    ]
    run(world, 30)
    obj, made = world.loop.known.service("default/chat"), world.serving.allocations[one.name]
    spec = None if obj is None else world.loop.known.spec(obj)
    assert isinstance(spec, ServiceSpec)
    free, capped = (pace_under(spec, made, world.serving._hardware(), cap_w) for cap_w in (None, 220.0))
    assert isinstance(free, Pace)
    assert isinstance(capped, Pace)
    for _ in range(12):
        run(world, 15)
        assert world.loads(world.store.items("nodes")[int(node[-1])])[gpu].power_w <= 220.0 + 1e-6
    longer = capped.decode_s[2] / free.decode_s[2]
    assert longer > 1.3
    assert _tpot_s(world) / alone == pytest.approx(longer, rel=0.25)
    del world.loop.desk.caps
    run(world, 120)
    assert _tpot_s(world) == pytest.approx(alone, rel=0.1)


def _tpot_s(world: World) -> float:
    seen = world.serving.seen("default/chat")
    assert seen is not None
    return seen.latency_s["tpot", 0.5]


def test_time_that_passed_while_the_planner_thought_is_not_caught_up_with(
    a_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, now_s = a_world(), 0.0

    def wait(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    def step() -> None:
        thought_s = 12.0 if (world.now_s - START_S) % 60.0 < 5.0 else 0.0  # of both times, as planning has it
        world.now_s += 5.0 + thought_s
        wait(0.02 + thought_s)

    monkeypatch.setattr("controller.embedded.world.time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(world, "step", step)
    world.run(lambda: now_s > 600.0, lambda: 1.0, wait)
    assert (world.now_s - START_S) / now_s == pytest.approx(1.0, abs=0.02)
