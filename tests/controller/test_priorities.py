"""PriorityClasses come with the first service of a priority and go with the last."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.embedded.world import World
from controller.kube.rest import MERGE
from tests.controller.embedded.a_world import SERVICES, a_world, ready, run, status, submit
from tests.controller.live import Site, a_controller, until

CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"


@pytest.fixture
def world() -> Iterator[World]:
    """An embedded cluster."""
    made = a_world()
    yield made
    made.close()


def classes(api: Any) -> dict[str, int]:
    """Those that carry our label, with their values."""
    found = api.request("GET", CLASSES, query={"labelSelector": "app.kubernetes.io/managed-by=muster"})["items"]
    return {one["metadata"]["name"]: one["value"] for one in found}


def test_classes_come_and_go_with_the_services_that_use_them(world: World) -> None:
    submit(world, "usual")
    submit(world, "high", priority=5)
    submit(world, "low", priority=-5)
    submit(world, "own", priority=6, serving={"priorityClass": "gold"})
    run(world, 3000, lambda: all(ready(world, name) for name in ("usual", "high", "low", "own")))
    assert classes(world.api) == {"muster-5": 5, "muster-minus-5": -5}
    world.api.request("PATCH", f"{SERVICES}/high", {"spec": {"priority": 0}}, content_type=MERGE)
    world.api.request("DELETE", f"{SERVICES}/low")
    run(world, 3000, lambda: not classes(world.api))
    assert ready(world, "high")


def test_a_service_that_loses_places_to_a_higher_one_keeps_what_is_left_for_it() -> None:
    group = {"name": "h100", "gpu": "H100-SXM", "gpusPerNode": 4, "nodes": 2, "zone": "a", "pricePerHour": "$2.60"}
    world = a_world(None, group)

    def gpus(name: str) -> int:
        (plan,) = (one for one in world.store.items("plans") if one["metadata"]["name"] == name)
        return sum(one["replicas"] * one.get("gpusPerReplica", 1) for one in plan["spec"]["allocations"])

    try:
        submit(world, "low", 320.0)
        run(world, 900, lambda: ready(world, "low"))
        before = gpus("low")
        submit(world, "high", 250.0, priority=9)
        run(world, 900, lambda: ready(world, "high"))
        assert 0 < gpus("low") < before
        assert gpus("low") + gpus("high") <= 8
        run(world, 600)
        (told,) = (one for one in status(world, "low")["conditions"] if one["type"] == "Planned")
        assert (told["status"], told["reason"]) == ("False", "Infeasible")
        assert status(world, "low")["readyReplicas"] > 0
        world.api.request("DELETE", f"{SERVICES}/high")
        run(world, 1800, lambda: ready(world, "low"))
        assert gpus("low") >= before
    finally:
        world.close()


def test_a_class_that_another_made_is_left_as_it_is(world: World) -> None:
    theirs = {"kind": "PriorityClass", "metadata": {"name": "muster-5"}, "value": 9}
    world.api.request("POST", CLASSES, theirs)
    submit(world, "high", priority=5)
    run(world, 3000, lambda: ready(world, "high"))
    world.api.request("DELETE", f"{SERVICES}/high")
    run(world, 120)
    assert world.api.request("GET", f"{CLASSES}/muster-5")["value"] == 9


def test_a_real_server_ranks_pods_by_the_class_and_lets_go_of_it_after_the_last(site: Site) -> None:
    with a_controller(site) as controller:
        site.service("high", priority=12)
        site.service("usual")
        until(lambda: site.is_ready("high") and site.is_ready("usual"), 60)
        (pod, *_), (plain, *_) = site.pods("high"), site.pods("usual")
        assert (pod["spec"]["priority"], pod["spec"]["preemptionPolicy"]) == (12, "Never")
        assert plain["spec"]["priority"] == 0
        assert classes(site.api) == {"muster-12": 12}
        time.sleep(2.5)
        writes = controller.applier.writes
        time.sleep(5.0)  # two ticks
        assert controller.applier.writes == writes
        site.delete("high")
        until(lambda: not classes(site.api), 40)
