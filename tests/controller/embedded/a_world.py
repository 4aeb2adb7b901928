"""Small embedded clusters for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.brake import Brake
from controller.embedded.hardware import furnish
from controller.embedded.store import Store
from controller.embedded.world import Rules, World
from controller.kube.node_round import NodeSettings
from planner.hardware import Inventory
from planner.spec.fields import Context
from planner.spec.load import CATALOG, parse
from tests.controller.running import a_body

START_S = 1_800_000_000.0 - 1_800_000_000.0 % 86_400
SERVICES = "/apis/muster.dev/v1alpha1/namespaces/default/gpuservices"
NODES = NodeSettings(Brake(share_ratio=0.5, probation_s=300.0, burn_in=False), out_for=frozenset(("slow_clock",)))


def inventory(*groups: dict[str, Any], **spec: Any) -> dict[str, Any]:
    usual = (
        {"name": "h100", "gpu": "H100-SXM", "gpusPerNode": 4, "nodes": 3, "zone": "a", "pricePerHour": "$2.60"},
        {"name": "l40s", "gpu": "L40S", "gpusPerNode": 4, "nodes": 2, "zone": "b", "pricePerHour": "$0.90"},
    )
    head = {"apiVersion": "muster.dev/v1alpha1", "kind": "ClusterInventory", "metadata": {"name": "small"}}
    return {**head, "spec": {"nodeGroups": list(groups or usual), **spec}}


def a_world(
    file: Path | None = None, *groups: dict[str, Any], seed: int = 0, nodes: NodeSettings = NODES, **spec: Any
) -> World:
    """A cluster that is kept in a file, or in memory."""
    made = World(Store(file), Rules(START_S, seed=seed, nodes=nodes))
    document = inventory(*groups, **spec)
    found, problems = parse(dict(document), Context(CATALOG, Path("/nonexistent")))
    assert isinstance(found, Inventory), problems
    furnish(made.api, found, document, made.clock())
    return made


def submit(world: World, name: str, rate: float = 10.0, **spec: Any) -> None:
    world.api.request("POST", SERVICES, a_body(name, rate, **spec))


def status(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.api.request("GET", f"{SERVICES}/{name}").get("status") or {}
    return found


def ready(world: World, name: str) -> bool:
    rows = status(world, name).get("conditions") or ()
    return any(row["type"] == "Ready" and row["status"] == "True" for row in rows)


def run(world: World, seconds: float, until: Callable[[], bool] | None = None) -> float:
    """Let time pass, or until something holds; gives how long that took. Fails where it never did."""
    start_s = world.now_s
    while world.now_s - start_s < seconds:
        world.step()
        if until is not None and until():
            return world.now_s - start_s
    assert until is None, f"not within {seconds:g} s: {world.loop.troubles}"
    return seconds


def told(world: World, reason: str) -> list[str]:
    """What was told with a reason."""
    return [one["note"] for one in world.store.items("events") if one["reason"] == reason]
