"""Plans fit: what is decided for random fleets finds a place for every replica, also after nodes are lost."""

import random
from functools import partial
from typing import Any

import pytest

from controller.decision import decide
from controller.demand import Fleet, ask, reserved
from controller.hardware import groups_of, nodes_of
from controller.kube.known import gpu_of_product
from controller.plans import by_service
from planner.plan import Allocation
from tests.controller.live import Site, a_controller, until
from tests.controller.objects import H100, L4, a_node, a_pod, a_service, an_inventory
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane

SIZES = [(256, 64), (512, 128), (1024, 256)]


def a_fleet(draw: random.Random) -> Fleet:
    """Nodes of two types with GPUs taken away here and there, by faults and by strangers' pods."""
    nodes = [a_node(f"b{i}", gpus=draw.choice([8, 8, 8, 7, 4])) for i in range(draw.randint(1, 5))]
    nodes += [a_node(f"s{i}", "small", draw.choice([4, 4, 2]), L4) for i in range(draw.randint(1, 8))]
    pods = [
        a_pod(f"p{i}", kind="", node=node["metadata"]["name"], gpus=draw.randint(1, 2), labels={})
        for i, node in enumerate(nodes)
        if draw.random() < 0.3
    ]
    return Fleet([an_inventory()], [], nodes, pods, [], {}, gpu_of_product)


def services(draw: random.Random) -> list[tuple[str, Any, float | None]]:
    found: list[tuple[str, Any, float | None]] = []
    for index in range(draw.randint(1, 3)):
        inputs, outputs = draw.choice(SIZES)
        load = {
            "ratePerSecond": draw.uniform(1, 60), "prefixHitRatio": 0,
            "buckets": [{"inputTokens": inputs, "outputTokens": outputs, "share": 1}],
        }  # fmt: skip
        one = a_service(f"s{index}", workload=load)
        found.append((f"team-a/s{index}", one, None))
    return found


def unplaced(fleet: Fleet, decided: dict[str, tuple[Allocation, ...]]) -> list[str]:
    """Replicas for which no node has room, placed as the rollout places them."""
    held: dict[str, int] = {}
    for pod in fleet.pods:
        node = pod["spec"]["nodeName"]
        held[node] = held.get(node, 0) + int(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    nodes = nodes_of(fleet.nodes, groups_of(fleet.inventories), held)
    starts = [
        (one.node_group, one.gpus_per_replica) for rows in decided.values() for one in rows for _ in range(one.replicas)
    ]
    got = sum(reserved(nodes, starts).values())
    wanted = sum(gpus for _, gpus in starts)
    return [] if got == wanted else [f"{wanted - got} of {wanted} GPUs found no place"]


def without(fleet: Fleet, lost: list[str]) -> Fleet:
    nodes = [one for one in fleet.nodes if one["metadata"]["name"] not in lost]
    pods = [one for one in fleet.pods if one["spec"]["nodeName"] not in lost]
    return Fleet(fleet.inventories, fleet.domains, nodes, pods, (), {}, fleet.gpu_of_product)


@pytest.mark.parametrize("seed", range(40))
def test_every_replica_of_a_plan_has_a_place_also_after_two_nodes_are_lost(seed: int) -> None:
    """More seeds: python -m tests.benchmarks.fits."""
    draw = random.Random(seed)
    check(a_fleet(draw), draw)


def check(fleet: Fleet, draw: random.Random) -> int:
    """Plan on a fleet, and again without two of its nodes; gives how many plans there were."""
    wanted, made = services(draw), 0
    names = [one["metadata"]["name"] for one in fleet.nodes]
    for lost in ([], draw.sample(names, min(2, len(names) - 1))):
        left = without(fleet, lost)
        taken, offer = ask(left, wanted)
        if not offer.document["spec"]["nodeGroups"]:
            continue
        plan = decide(taken)
        if plan.status in ("optimal", "feasible"):
            made += 1
            assert unplaced(left, by_service(plan, offer.group_of)) == []
    return made


def test_the_scheduler_finds_the_places_that_the_plan_counts_on(plane: Plane, nodes: Nodes) -> None:
    """Twelve random fleets one after the other on the real scheduler; 300 with python -m tests.benchmarks.fits."""
    assert scheduled(Site(plane), nodes, range(12)) > 6


def _settled(site: Site, name: str) -> bool:
    return site.is_ready(name) or site.condition(name, "Planned")[1] == "Infeasible"


def scheduled(site: Site, nodes: Nodes, seeds: range) -> int:
    """How many of random services became ready on random fleets; fails where one that has a plan did not."""
    served = 0
    with a_controller(site, tick_s=1.0):
        for seed in seeds:
            draw = random.Random(seed)
            for index in range(draw.randint(1, 3)):
                nodes.add(f"b{seed}-{index}", draw.choice([8, 7, 4]), H100, pool="big")
            for index in range(draw.randint(1, 4)):
                nodes.add(f"s{seed}-{index}", draw.choice([4, 2]), L4, pool="small")
            site.inventory()
            for _, obj, _ in services(draw):
                name = f"{obj['metadata']['name']}-{seed}"
                site.service(name, **{key: obj["spec"][key] for key in ("workload", "slos", "constraints")})
                until(partial(_settled, site, name), 40, f"seed {seed}: {name} has a plan and is not ready")
                served += site.is_ready(name)
            site.clear()
            until(lambda: not site.api.request("GET", "/api/v1/namespaces/default/pods")["items"], 40)
            for name in sorted(nodes.names):
                nodes.vanish(name)
    return served
