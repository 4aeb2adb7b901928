"""What a kind of replicas is called, which priority it has, and what makes another kind of it."""

import re
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.kube.discovery import Resource
from controller.manifests.priority import class_of, priority_class
from controller.manifests.service import table, table_name, weights_of
from controller.manifests.workload import kinds, templates, workload
from planner.plan import Recipe
from planner.spec.fields import SERVICE_NAME
from tests.controller.manifests.factories import (
    DEEPSEEK,
    GROUPS,
    H100,
    NEW,
    OLD,
    SMALL,
    an_allocation,
    everything,
    made,
)
from tests.controller.objects import a_service


def the_class(**spec: Any) -> str | None:
    pod: dict[str, Any] = made(a_service(**spec), an_allocation(Recipe(H100))).pod.template["spec"]
    return pod.get("priorityClassName")


def test_pods_have_the_class_of_their_services_priority_and_none_at_priority_zero() -> None:
    assert the_class() is None
    assert the_class(priority=7) == "muster-7"
    assert the_class(priority=-1_000_000_000) == "muster-minus-1000000000"
    assert the_class(priority=7, serving={"priorityClass": "gold"}) == "gold"
    own = {"spec": {"priorityClassName": "mine"}}
    assert the_class(priority=7, serving={"podTemplate": own}) == "mine"
    assert class_of(a_service(priority=7, serving={"podTemplate": own})) == ""


@pytest.mark.parametrize("priority", [1, -1, 1_000_000_000, -1_000_000_000])
def test_a_class_ranks_pods_and_preempts_none_and_is_nobodys(priority: int) -> None:
    resource = Resource("priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", False)
    obj = priority_class(a_service(priority=priority), resource)
    kubernetes_validate.validate(obj, "1.34", strict=True)
    assert (obj["value"], obj["preemptionPolicy"], obj["globalDefault"]) == (priority, "Never", False)
    assert "ownerReferences" not in obj["metadata"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", obj["metadata"]["name"])


def test_a_slightly_other_prediction_of_a_cold_start_restarts_nothing() -> None:
    slow, slower = (an_allocation(Recipe(H100), cold_start_s=seconds) for seconds in (203.0, 204.0))
    one, other = made(a_service(), slow), made(a_service(), slower)
    assert one.name == other.name == made(a_service(), an_allocation(Recipe(H100))).name
    assert one.pod.deadline_s == 610.0
    assert other.pod.deadline_s == 620.0
    (engine,) = workload(other, 1, a_service(), NEW)["spec"]["template"]["spec"]["containers"]
    assert engine["startupProbe"]["failureThreshold"] == 62
    own = {"spec": {"containers": [{"name": "engine", "startupProbe": {"failureThreshold": 7}}]}}
    mine = a_service(serving={"podTemplate": own})
    (engine,) = workload(made(mine, slow), 1, mine, NEW)["spec"]["template"]["spec"]["containers"]
    assert engine["startupProbe"]["failureThreshold"] == 7
    assert made(mine, slow).name != one.name


def test_a_kind_changes_its_name_with_what_would_restart_it_and_with_nothing_else() -> None:
    base = an_allocation(Recipe(H100, techniques=("fp8",)))
    name = made(a_service(), base).name
    same = [replace(base, replicas=7), replace(base, usd_per_hour=9.0), replace(base, busy_ratio=0.1)]
    assert {made(a_service(), one).name for one in same} == {name}
    assert made(a_service(workload={"ratePerSecond": 99, "buckets": []}), base).name == name
    cap = replace(base, recipe=replace(base.recipe, power_cap_w=400.0), replicas=3)
    assert made(a_service(), cap).name == name
    (both,) = kinds(a_service(), [base, cap], {SMALL: 8.0}, GROUPS, {"h100": 8})
    assert (both.name, both.replicas) == (name, base.replicas + 3)
    other = [
        made(a_service(serving={"image": "other:1"}), base),
        made(a_service(serving={"tolerations": [{"key": "x"}]}), base),
        made(a_service(), an_allocation(Recipe(H100))),
        made(a_service(), replace(base, node_group="l4")),
        made(a_service(), replace(base, flags={**base.flags, "max-model-len": "4096"})),
    ]
    assert name not in {one.name for one in other}
    assert len({one.name for one in other}) == len(other)


@settings(max_examples=100)
@given(
    name=st.one_of(
        st.from_regex(SERVICE_NAME, fullmatch=True), st.integers(50, 63).map(lambda size: "a" * (size - 2) + "-9")
    ),
    pool=st.sampled_from(["serve", "prefill"]),
)
def test_names_are_short_enough_for_any_service(name: str, pool: str) -> None:
    for serving, recipe in (({"deviceClass": "gpu.dev"}, Recipe(H100)), ({}, Recipe(H100, tp=8, pp=2))):
        service = a_service(name, serving=serving)
        for served in (OLD, NEW):
            names_are_valid(everything(service, an_allocation(recipe, pool=pool, model=DEEPSEEK), served=served))


def test_long_names_that_begin_alike_have_tables_of_their_own() -> None:
    assert table_name("a" * 60 + "b") != table_name("a" * 60 + "c")
    assert table_name("a" * 55) == "a" * 55 + "-routing"


def names_are_valid(found: list[Any]) -> None:
    for one in found:
        assert len(one["metadata"]["name"]) <= 63
        begins = "[a-z]" if one["kind"] == "Service" else "[a-z0-9]"
        assert re.fullmatch(rf"{begins}([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
        for value in one["metadata"]["labels"].values():
            assert len(value) <= 63


def test_weights_are_read_back_from_their_table() -> None:
    weights = {SMALL: {"team-a/a": 0.25, "team-a/b": 0.75}}
    assert weights_of(table(a_service(), weights)) == weights
    broken = {"metadata": {"namespace": "x"}, "data": {"weights.json": "{nonsense"}}
    assert weights_of(broken) == {}


def test_kueue_is_told_the_queue_on_the_workload_and_finds_it_on_its_pods() -> None:
    """Where Kueue looks: metadata.labels of Deployment and LeaderWorkerSet (its documentation, Run Deployment)."""
    service, label = a_service(serving={"queue": "team"}), "kueue.x-k8s.io/queue-name"
    for allocation in (an_allocation(Recipe(H100)), an_allocation(Recipe(H100, tp=8, pp=2), model=DEEPSEEK)):
        one = workload(made(service, allocation), 1, service, NEW)
        assert one["metadata"]["labels"][label] == "team"
        assert {each["metadata"]["labels"][label] for each in templates(one)} == {"team"}
        plain = workload(made(a_service(), allocation), 1, a_service(), NEW)
        assert label not in str(plain)
