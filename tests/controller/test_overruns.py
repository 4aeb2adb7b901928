"""What agents are told that a GPU's replica may do, and which of their finds are worth planning again."""

import orjson
import pytest

from controller.cluster import Kind
from controller.overruns import allotments, lasting, longest_s
from controller.reports import Kept, Report, parse
from controller.specs import service
from planner.service import ServiceSpec
from tests.controller.objects import a_service

KIND = Kind("team-a/k", "team-a/chat", "1xH100", "serve", "h100", 1, 7.5)


def a_spec(**slo: object) -> ServiceSpec:
    found = service(a_service(slos=[{"name": "chat", "percentile": "p95", **slo}]))
    assert isinstance(found, ServiceSpec)
    return found


def a_report(pods: list[list[str]], *overruns: dict[str, object]) -> Report:
    gpus = [{"gpu": 0, "uuid": "GPU-0", "pods": pods}, {"gpu": 1, "uuid": "GPU-1"}]
    row = {"schema": 1, "node": "n", "boot_id": "b", "sequence": 1, "sent_s": 0.0, "gpus": gpus, "overruns": overruns}
    return parse(orjson.dumps(row))


def test_the_longest_that_a_request_may_take_is_that_of_the_largest() -> None:
    assert longest_s(a_spec(e2e="9s")) == 9.0
    assert longest_s(a_spec(ttft="1s", tpot="60ms")) == pytest.approx(1.0 + 0.06 * 127)
    assert longest_s(a_spec(ttft="1s")) is None


def test_a_gpu_is_given_what_its_replica_carries_and_one_of_nobody_nothing() -> None:
    mine = a_report([["team-a", "k-1", "engine"]])
    spec = a_spec(e2e="9s")
    rows = allotments(mine, lambda space, pod: KIND if (space, pod) == ("team-a", "k-1") else None, lambda _: spec)
    assert rows == [{"uuid": "GPU-0", "latency_s": 9.0}]
    assert allotments(mine, lambda *_: None, lambda _: spec) == []
    assert allotments(mine, lambda *_: KIND, lambda _: None) == []


@pytest.mark.parametrize(
    ("kind", "for_s", "age_s", "told"),
    [
        ("latency_over_slo", 300.0, 0.0, True),
        ("latency_over_slo", 290.0, 10.0, True),
        ("latency_over_slo", 200.0, 0.0, False),  # not for long enough
        ("latency_over_slo", 900.0, 61.0, False),  # nobody heard of the node since
        ("rate_over_plan", 900.0, 0.0, False),  # rates have laws of their own
        ("power_over_share", 900.0, 0.0, False),  # no other plan mends that
    ],
)
def test_what_lasts_is_told_of_the_service_that_has_the_gpu(kind: str, for_s: float, age_s: float, told: bool) -> None:
    report = a_report([["team-a", "k-1", "engine"]], {"kind": kind, "gpu": 0, "for_s": for_s, "ratio": 2.0})
    found = lasting([Kept(report, 1000.0)], lambda *_: "team-a/chat", 1000.0 + age_s, 300.0)
    assert bool(found) is told
    if told:
        assert next(iter(found["team-a/chat"])).startswith("GPU 0 of n ")


def test_reports_of_agents_that_tell_no_pods_are_taken() -> None:
    report = a_report([], {"kind": "latency_over_slo", "gpu": 0, "for_s": 900.0})
    assert lasting([Kept(report, 1000.0)], lambda *_: "team-a/chat", 1000.0, 300.0) == {}
