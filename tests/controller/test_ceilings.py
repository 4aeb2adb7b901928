"""A priority counts up to what administrators set: nobody takes the fleet by writing a large number."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.ceilings import Ceilings, parsed, ranked, words
from controller.embedded.hardware import furnish
from controller.embedded.store import Store
from controller.embedded.world import Rules, World
from controller.kube.known import Settings
from planner.errors import BadInput
from planner.hardware import Inventory
from planner.spec.fields import Context
from planner.spec.load import CATALOG, parse
from tests.controller.embedded.a_world import NODES, START_S, inventory, run
from tests.controller.objects import a_service
from tests.controller.running import a_body

ALL = 1_000_000_000


def test_a_ceiling_is_for_all_namespaces_or_for_one() -> None:
    found = parsed(["100", "team-a=5000", "team-b=-3"])
    assert [found.of(space) for space in ("team-a", "team-b", "team-c")] == [5000, -3, 100]
    assert parsed(["team-a=7"]).of("other") == Ceilings().most == 1000


@pytest.mark.parametrize(
    "text", ["", "high", "a=b=1", "=5", "Team=5", "team-=5", "1000000001", "team-a", "\u0661", "5 "]
)
def test_what_is_no_ceiling_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadInput, match=r"--max-priority: got .* allowed: N or NAMESPACE=N"):
        parsed([text])


def test_a_priority_above_the_ceiling_counts_as_the_ceiling_and_is_told() -> None:
    some = Ceilings(10, {"team-a": 20})
    for space, asked, counts in (("team-a", 20, 20), ("team-a", 21, 20), ("team-b", ALL, 10), ("team-b", -ALL, -ALL)):
        service = a_service(namespace=space, priority=asked)
        assert ranked(service, some)["spec"]["priority"] == counts
        assert service["spec"]["priority"] == asked
        assert bool(words(service, some)) == (asked != counts)
    told = words(a_service(namespace="team-b", priority=ALL), some)
    assert told == "priority 1000000000 counts as 10, the most that services of namespace team-b may have"


@pytest.fixture
def worlds() -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for one in made:
        one.close()


def a_world(ceilings: Ceilings) -> World:
    """A cluster of four H100 in one node."""
    made = World(Store(None), Rules(START_S, settings=Settings(ceilings=ceilings), nodes=NODES))
    group = {"name": "h100", "gpu": "H100-SXM", "gpusPerNode": 4, "nodes": 1, "zone": "a", "pricePerHour": "$2.60"}
    document = inventory(group)
    found, problems = parse(dict(document), Context(CATALOG, Path("/nonexistent")))
    assert isinstance(found, Inventory), problems
    furnish(made.api, found, document, made.clock())
    return made


def path(space: str) -> str:
    return f"/apis/muster.dev/v1alpha1/namespaces/{space}/gpuservices"


def submit(world: World, space: str, name: str, **spec: Any) -> None:
    body = a_body(name, 4.0, constraints={"minReplicas": 4, "techniques": ["fp8"]}, **spec)
    body["metadata"]["namespace"] = space
    world.api.request("POST", path(space), body)


def conditions(world: World, space: str, name: str) -> dict[str, dict[str, Any]]:
    status = world.api.request("GET", f"{path(space)}/{name}").get("status") or {}
    return {one["type"]: one for one in status.get("conditions") or ()}


def state(world: World, space: str, name: str, kind: str) -> tuple[str, str]:
    row = conditions(world, space, name).get(kind) or {"status": "", "reason": ""}
    return row["status"], row["reason"]


@pytest.mark.parametrize(
    ("ceilings", "takes"),
    [(Ceilings(0), False), (Ceilings(5, {"team-a": 9}), False), (Ceilings(0, {"team-b": 9}), True), (Ceilings(), True)],
)
def test_a_tenant_takes_the_gpus_of_another_only_where_its_namespace_may(
    worlds: list[World], ceilings: Ceilings, takes: bool
) -> None:
    world = a_world(ceilings)
    worlds.append(world)
    submit(world, "team-a", "first", priority=min(7, ceilings.of("team-a")))
    run(world, 3000, lambda: state(world, "team-a", "first", "Ready")[0] == "True")
    submit(world, "team-b", "greedy", priority=ALL)
    if takes:
        run(world, 3000, lambda: state(world, "team-b", "greedy", "Ready")[0] == "True")
        assert state(world, "team-a", "first", "Planned") == ("False", "Infeasible")
    else:
        run(world, 3000, lambda: state(world, "team-b", "greedy", "Planned") == ("False", "Infeasible"))
        run(world, 120)
        assert state(world, "team-a", "first", "Ready")[0] == "True"
    accepted = conditions(world, "team-b", "greedy")["Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("True", "Valid")
    assert f"counts as {ceilings.of('team-b')}" in accepted["message"]
    classes = world.api.request("GET", "/apis/scheduling.k8s.io/v1/priorityclasses")["items"]
    assert {one["value"] for one in classes} <= {7, 5, ceilings.of("team-b")}
