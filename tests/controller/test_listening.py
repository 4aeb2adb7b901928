"""What is asked of a service before it is heard: how many replicas take its requests in."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from controller import names
from controller.cluster import Kind
from controller.kube.known import Known
from controller.kube.listening import Listening
from controller.kube.view import kind_text
from controller.rates import Heard, ServiceKey
from controller.specs import service
from controller.trigger import Sample
from tests.controller.objects import a_pod, a_service


def a_workload(name: str, pool: str) -> dict[str, Any]:
    kind = Kind(name, "team-a/chat", "", pool, "h100", 1, 4.0)
    notes = {names.KIND_SPEC: kind_text(kind)}
    return {"kind": "Deployment", "metadata": {"name": name, "annotations": notes}, "spec": {"replicas": 3}}


def test_replicas_that_decode_are_not_among_those_that_requests_come_in_by() -> None:
    pods = [a_pod(f"p{i}", "p", "n", ready=True) for i in range(2)] + [
        a_pod(f"d{i}", "d", "n", ready=True) for i in range(3)
    ]
    told: list[Sample] = []
    known = SimpleNamespace(
        items=lambda plural: [a_service()],
        spec=service,
        clock=lambda: 1.8e9,
        cache=SimpleNamespace(
            of=lambda key, *plurals: (
                pods if plurals == ("pods",) else [a_workload("p", "prefill"), a_workload("d", "decode")]
            )
        ),
        hear=lambda key, sample: told.append(sample),
    )
    asked: list[Mapping[ServiceKey, int]] = []

    def hear(ready: Mapping[ServiceKey, int], quantiles: Sequence[float]) -> Mapping[ServiceKey, Heard]:
        asked.append(ready)
        return {ServiceKey("team-a", "chat"): Heard(2, 7.0)}

    Listening(cast(Known, known), hear).listen()
    assert asked == [{ServiceKey("team-a", "chat"): 2}]
    assert told[0].rate_per_s == 7.0
