"""What is planned and cannot be started as it is, in words."""

from typing import Any

import pytest

from controller.manifests.pod import unservable
from controller.manifests.service import claimed
from planner.plan import Recipe
from planner.techniques import techniques
from tests.controller.manifests.factories import H100, HF, NEW, OLD, an_allocation, everything
from tests.controller.objects import a_service


def test_a_checkpoint_that_somebody_must_quantise_is_asked_for() -> None:
    wants = next(name for name, one in techniques().items() if one.quantised)
    allocation = an_allocation(Recipe(H100, techniques=(wants,)))
    assert "spec.serving.weights" in unservable(a_service(), allocation, 8, NEW)
    assert unservable(a_service(serving=HF), allocation, 8, NEW) == ""


def test_a_replica_that_cannot_be_split_evenly_over_nodes_is_refused() -> None:
    assert unservable(a_service(), an_allocation(Recipe(H100, tp=3, pp=3)), 8, NEW) == (
        "a replica of 9 GPUs does not fit into a node of group h100, which has 8 GPUs, "
        "and cannot be split evenly over 2 nodes"
    )
    for good in (Recipe(H100, tp=8, pp=2), Recipe(H100, tp=8), Recipe(H100)):
        assert unservable(a_service(), an_allocation(good), 8, NEW) == ""
    assert unservable(a_service(), an_allocation(Recipe(H100, tp=8)), 0, NEW) == "", "no node of the group is there"


def test_claims_are_refused_where_the_server_knows_none() -> None:
    service = a_service(serving={"deviceClass": "gpu.nvidia.com"})
    said = unservable(service, an_allocation(Recipe(H100)), 8, OLD)
    assert said.startswith("spec.serving.deviceClass: got gpu.nvidia.com, but this API server serves no ResourceClaim")
    assert unservable(service, an_allocation(Recipe(H100)), 8, NEW) == ""


@pytest.mark.parametrize(
    "given",
    [{"hostNetwork": True}, {"containers": [{"name": "proxy", "ports": [{"containerPort": 80, "hostPort": 80}]}]}],
    ids=["hostNetwork", "hostPort"],
)
def test_ports_of_nodes_are_for_replicas_of_whole_nodes(given: dict[str, Any]) -> None:
    service = a_service(serving={"podTemplate": {"spec": given}})
    part, one, two = (an_allocation(Recipe(H100, *degrees)) for degrees in ((4,), (8,), (8, 2)))
    assert "pods with 4 of 8 GPUs share nodes; allowed: none, or a plan of whole" in unservable(service, part, 8, NEW)
    assert unservable(service, one, 8, OLD) == unservable(service, two, 8, NEW) == ""
    said = unservable(service, two, 8, OLD)
    assert ("a cluster with LeaderWorkerSets" in said) == ("hostNetwork" in given)


def test_another_device_class_is_another_template_and_the_old_replicas_keep_theirs() -> None:
    old, new = (
        everything(a_service(serving={"deviceClass": name}), an_allocation(Recipe(H100))) for name in ("a.dev", "b.dev")
    )
    names = [
        {one["metadata"]["name"] for one in found if one["kind"] == "ResourceClaimTemplate"} for found in (old, new)
    ]
    assert not names[0] & names[1]
    assert claimed(old) == names[0]
    assert claimed(new) == names[1]


def test_a_queue_is_refused_where_kueue_would_not_let_its_workload_be_scaled() -> None:
    """Kueue's webhook refuses other replicas of a StatefulSet (kubernetes-sigs/kueue, issue 13641)."""
    service, wide = a_service(serving={"queue": "team"}), an_allocation(Recipe(H100, tp=8, pp=2))
    assert unservable(service, wide, 8, OLD).startswith("spec.serving.queue: got team, but a replica over 2 nodes is")
    assert unservable(service, wide, 8, NEW) == unservable(service, an_allocation(Recipe(H100)), 8, OLD) == ""
