"""What is asked of a service before it is heard: how many replicas take its requests in."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from controller import names
from controller.cluster import Kind
from controller.kube.known import Known
from controller.kube.listening import Listening, missed, slo_met
from controller.kube.view import kind_text
from controller.rates import Heard, ServiceKey
from controller.specs import service
from controller.trigger import Sample
from planner.service import ServiceSpec
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


def a_spec(**slo: Any) -> ServiceSpec:
    found = service(a_service(slos=[{"name": "chat", **slo}]))
    assert isinstance(found, ServiceSpec), found
    return found


def test_a_miss_is_said_with_what_was_seen_what_is_asked_and_of_how_many_requests() -> None:
    spec = a_spec(ttft="500ms", tpot="50ms", percentile="p99")
    latency_s = {("ttft", 0.99): 0.812, ("tpot", 0.99): 0.0455}
    seen = Heard(2, 4.0, latency_s=latency_s, ended=240.0, attained_ratio=0.972)
    assert slo_met(spec, seen) is False
    assert missed(spec, seen) == (
        "p99 TTFT 812 ms over 500 ms in the last 60 s (97.2 % of 240 requests in time, 99 % asked)"
    )
    untold = Heard(2, 4.0, latency_s=latency_s)
    assert missed(spec, untold) == "p99 TTFT 812 ms over 500 ms in the last 60 s (of all requests)"


def test_where_every_request_is_in_time_nothing_is_missed() -> None:
    spec = a_spec(ttft="500ms", percentile="p99")
    seen = Heard(2, 4.0, latency_s={("ttft", 0.99): 0.7}, attained_ratio=1.0)  # a quantile is read off wide buckets
    assert slo_met(spec, seen) is True
