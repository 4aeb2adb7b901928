"""A replica that does not hold what its plan says, though the service does: told by its agent, and planned for once."""

from dataclasses import replace

from controller.embedded.world import World
from tests.controller.embedded.a_world import NODES, a_world, ready, run, submit, told

SLOS = [{"name": "chat", "ttft": "1s", "tpot": "60ms", "percentile": "p50"}]


def overruns(world: World) -> list[str]:
    return [note for note in told(world, "Replanned") if "over what was planned" in note]


def test_a_replica_that_serves_late_is_planned_for_once() -> None:
    one = {"name": "h100", "gpu": "H100-SXM", "gpusPerNode": 4, "nodes": 3, "zone": "a", "pricePerHour": "$2.60"}
    world = a_world(None, one, nodes=replace(NODES, out_for=frozenset()))
    submit(world, "chat", 300.0, slos=SLOS)
    run(world, 300, lambda: ready(world, "chat"))
    run(world, 600)
    assert not overruns(world)
    replica = next(iter(world.serving.replicas.values()))
    node, gpus = next(iter(replica.gpus.items()))
    allotted = world.agents[node].agent.heard.overruns.allotments[world.uuid(node, gpus[0])]
    assert allotted.latency_s is not None
    world.inject(node, gpus[0], "slow", factor=0.2)
    run(world, 1500, lambda: bool(overruns(world)))
    assert f"GPU {gpus[0]} of {node}" in overruns(world)[0]
    assert f"default/chat on GPU {gpus[0]}: slowest 1 % of requests took " in told(world, "OverrunDetected")[0]
    run(world, 1200)
    assert len(overruns(world)) == 1, overruns(world)
    world.inject(node, gpus[0], "clear")
    run(world, 600)
    assert not world.loop.known.overruns
    world.close()
