"""Views, events, series, faults and what-ifs over the network."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from controller.web.access import Access, Caller, NoTokens
from controller.web.explore import Explorer
from tests.controller.web.cluster import START_S, a_spec
from tests.controller.web.served import Served, dry_run, served


@pytest.fixture(scope="module")
def made() -> Iterator[Served]:
    with served() as one:
        one.cluster.service()
        one.cluster.passes(60)
        one.cluster.history.add("rate_per_s", "default/chat", START_S + 30, 8.5)
        yield one


@pytest.fixture(scope="module")
def client(made: Served) -> Iterator[httpx.Client]:
    with made.client() as found:
        yield found


def test_a_dry_run_plans_and_leaves_everything_as_it_is(client: httpx.Client, made: Served) -> None:
    before = made.cluster.store.version
    answer = dry_run(client, a_spec("other"))
    assert (answer["status"], answer["infeasible"], answer["diff"]) == ("optimal", None, None)
    assert answer["outcome"]["usd_per_hour"] == pytest.approx(answer["bound_usd_per_hour"], rel=0.01)
    assert any("L4" in row["recipe"] for row in answer["refused"] + answer["outcome"]["allocations"])
    assert made.cluster.store.version == before


def test_a_dry_run_of_what_fits_nowhere_names_the_way_out(client: httpx.Client) -> None:
    load = {"ratePerSecond": 5000, "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}]}
    answer = dry_run(client, a_spec("huge", workload=load))
    assert (answer["status"], answer["outcome"]) == ("infeasible", None)
    assert answer["infeasible"]["why"]
    assert answer["infeasible"]["changes"]


class _OneSpace(NoTokens):
    """Everyone may do everything, but list the services of one namespace alone."""

    open = False

    def may(self, caller: Caller, access: Access) -> bool:
        return access.verb != "list" or access.namespace == "theirs"


def test_services_that_are_displaced_are_named_to_those_alone_who_may_know_of_them() -> None:
    tight = {"techniques": ["fp8"], "gpuTypes": {"allowed": ["L4"]}, "minReplicas": 4}
    slo = [{"name": "chat", "ttft": "2s", "tpot": "80ms"}]
    with served(_OneSpace("127.0.0.1")) as other:
        other.cluster.service(constraints={"techniques": ["fp8"], "gpuTypes": {"allowed": ["L4"]}})
        other.cluster.passes(60)
        vip = a_spec("vip", namespace="theirs", priority=9, constraints=tight, slos=slo)
        with other.client("any") as client:
            answer = dry_run(client, vip)
    assert answer["outcome"]["gpus"] == 4
    assert (answer["displaces"], answer["displaces_unseen"]) == ([], 1)


def test_a_service_of_higher_priority_takes_the_places_of_others(client: httpx.Client) -> None:
    tight = {"techniques": ["fp8"], "gpuTypes": {"allowed": ["L4"]}, "minReplicas": 4}
    slo = [{"name": "chat", "ttft": "2s", "tpot": "80ms"}]
    answer = dry_run(client, a_spec("vip", priority=9, constraints=tight, slos=slo))
    plan = client.get("/plans/default/chat").json()
    on_l4 = sum(row["gpus"] for row in plan["current"]["allocations"] if row["gpu"] == "L4")
    assert (answer["displaces"] == ["default/chat"]) == (on_l4 > 0)
    assert answer["outcome"]["gpus"] == 4


def complete(client: httpx.Client, path: str) -> Any:
    """An answer that had the time it takes: a busy machine gives a part of it at first."""
    for _ in range(12):
        answer = client.get(path)
        if answer.status_code == 200 and answer.json()["complete"]:
            return answer.json()
        assert answer.status_code in (200, 503)
    raise AssertionError("never complete")


def test_curves_never_cost_less_for_more_or_for_stricter(client: httpx.Client) -> None:
    found = complete(client, "/services/default/chat/curves")
    rates = [row["usd_per_hour"] for row in found["by_rate"]]
    slos = [row["usd_per_hour"] for row in found["by_slo"]]
    slack = 1.005  # each plan is within half a percent of its own best
    assert all(a <= b * slack for a, b in pairwise(rates))
    assert all(b <= a * slack for a, b in pairwise(slos))


def test_a_loosened_limit_saves_the_difference_of_two_plans(client: httpx.Client) -> None:
    found = complete(client, "/plans/default/chat/explain")
    assert {row["kind"] for row in found["savings"]} == {"gpu", "slo", "power"}
    for row in found["savings"]:
        assert row["saves_usd_per_hour"] == pytest.approx(found["usd_per_hour"] - row["usd_per_hour"])


def test_a_planner_that_takes_too_long_is_said_to() -> None:
    class Slow:
        def decide(self, snapshot: Any) -> Any:
            from controller.plan_child import PlanningFailed

            raise PlanningFailed("planning ended with exit code -9; allowed are 0.1 s")

        def stop(self) -> None: ...

    with served(explorer=Explorer(Slow())) as made, made.client() as client:
        answer = client.post("/services/plan", json=a_spec())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_few_questions_to_the_planner_wait_and_more_are_sent_away() -> None:
    go = threading.Event()

    class Held:
        def decide(self, snapshot: Any) -> Any:
            from controller.plan_child import PlanningFailed

            go.wait(10)
            raise PlanningFailed("held")

        def stop(self) -> None: ...

    with served(explorer=Explorer(Held())) as made:
        found: list[int] = []

        def ask() -> None:
            with made.client() as client:
                found.append(client.post("/services/plan", json=a_spec()).status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for one in threads:
            one.start()
        end_s = time.monotonic() + 10
        while len(found) < 2 and time.monotonic() < end_s:
            time.sleep(0.02)
        go.set()
        for one in threads:
            one.join()
        assert sorted(found) == [429, 429, 503, 503, 503, 503]


def test_a_diff_of_a_plan_with_itself_is_nothing(client: httpx.Client) -> None:
    found = client.get("/plans/default/chat/diff", params={"before": "current", "after": "current"}).json()
    assert (found["moves"], found["usd_per_hour"], found["gpus"]) == ([], 0.0, 0)
    assert client.get("/plans/default/chat/diff", params={"before": "nothing"}).status_code == 404


def test_a_stream_goes_on_after_the_last_event_that_a_client_has(client: httpx.Client, made: Served) -> None:
    def read(**headers: str) -> list[dict[str, Any]]:
        text = client.get("/events/stream", params={"after": 0, "timeout_s": 0.3}, headers=headers).text
        return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]

    everything = read()
    assert [one["version"] for one in everything] == sorted(one["version"] for one in everything)
    middle = everything[0]["version"]
    assert read(**{"Last-Event-ID": str(middle)}) == everything[1:]
    assert client.get("/events/stream", headers={"Last-Event-ID": "x"}).status_code == 422
    with client.stream("GET", "/events/stream", params={"timeout_s": 10}) as stream:
        lines = stream.iter_lines()
        next(lines)
        made.cluster.service("late", workload={
            "ratePerSecond": 1, "buckets": [{"inputTokens": 64, "outputTokens": 16, "share": 1}]
        })  # fmt: skip
        made.cluster.passes(30)
        told = next(line for line in lines if line.startswith("data: "))
    assert json.loads(told.removeprefix("data: "))["about"] == "default/late"


def test_series_are_told_as_the_history_has_them(client: httpx.Client) -> None:
    asked: dict[str, str | float] = {
        "metric": "rate_per_s",
        "subject": "default/chat",
        "start": START_S,
        "end": START_S + 60,
    }
    assert client.get("/series", params=asked).json()["points"] == [[START_S + 30, 8.5]]
    assert client.get("/series/latest", params={"metric": "rate_per_s"}).json()["values"] == {"default/chat": 8.5}
    wrong = client.get("/series", params={"metric": "beauty"})
    assert wrong.json()["errors"][0]["path"] == "metric"
    assert client.get("/series", params={**asked, "end": 0}).status_code == 422


def test_a_plan_meets_its_objectives_below_its_rate_and_misses_them_far_above(client: httpx.Client) -> None:
    asked = {"service": "default/chat", "duration_s": 120, "seed": 3, "rate_per_s": 6}
    good = client.post("/simulate", json=asked).json()
    assert (good["met"], good["left"], good["refused"]) == (True, 0, 0)
    assert good["submitted"] == good["finished"] == pytest.approx(6 * 120, rel=0.15)
    [chat] = good["classes"]
    ttft, tpot, _ = chat["latencies"]
    assert ttft["p50_s"] <= ttft["p95_s"] <= ttft["objective_s"] == 1.0
    assert tpot["p95_s"] <= tpot["objective_s"] == 0.06
    assert client.post("/simulate", json=asked).json() == good
    much = client.post("/simulate", json={**asked, "rate_per_s": 40}).json()
    assert not much["met"]
    assert much["submitted"] == much["finished"] + much["refused"] + much["left"]
    assert client.post("/simulate", json={**asked, "outcome": "proposal"}).status_code == 404
    assert client.post("/simulate", json={**asked, "duration_s": 1e9}).json()["errors"][0]["path"] == "duration_s"
    assert client.post("/simulate", json={**asked, "service": "default/none"}).status_code == 404


def test_faults_are_played_on_an_embedded_cluster_alone(client: httpx.Client, made: Served) -> None:
    good = {"node": "big-1", "gpu": 3, "kind": "xid", "xid": 79}
    assert client.post("/faults", json=good).json() == {"said": "GPU 3 of big-1: xid"}
    made.cluster.passes(30)
    assert client.get("/nodes/big-1").json()["tiles"][3]["health"] == "lost"
    assert client.post("/faults", json={**good, "kind": "clear"}).status_code == 200
    for change, path in (({"gpu": "3"}, "gpu"), ({"kind": "fire"}, "kind"), ({"when": 1}, "when")):
        assert client.post("/faults", json={**good, **change}).json()["errors"][0]["path"] == path
    assert client.post("/faults", json={**good, "node": "nowhere"}).status_code == 422
    with served(site={"faults": None}) as real, real.client() as other:
        assert other.post("/faults", json=good).json()["type"] == "urn:muster:problem:not-embedded"


def test_a_path_that_leads_nowhere_and_a_method_that_nobody_knows_are_problems(client: httpx.Client) -> None:
    assert client.get("/nothing").json()["type"] == "urn:muster:problem:not-found"
    answer = client.delete("/services")
    assert (answer.status_code, answer.json()["type"]) == (405, "urn:muster:problem:method-not-allowed")
    assert answer.headers["allow"]


def test_the_document_describes_every_route_with_every_answer(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            replies = operation["responses"]
            assert {"403", "413", "422", "429", "503"} <= set(replies), (path, method)
            assert all("Retry-After" in replies[status]["headers"] for status in ("429", "503")), (path, method)
            for status, reply in replies.items():
                for media, content in reply.get("content", {}).items():
                    assert content["schema"], (path, method, status)
                    assert media == "application/problem+json" or status.startswith("2")
            if "requestBody" in operation:
                assert all("example" in one for one in operation["requestBody"]["content"].values()), path
    text = json.dumps(document)
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used <= set(schemas)


def test_every_example_is_what_its_schema_says(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    seen = 0
    for path, methods in document["paths"].items():
        for operation in methods.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in (one for body in bodies for one in body.get("content", {}).values() if "example" in one):
                schema = {**content["schema"], "components": document["components"]}
                problems = [error.message for error in Draft202012Validator(schema).iter_errors(content["example"])]
                assert problems == [], path
                seen += 1
    assert seen > 100


def test_probes_and_metrics_are_answered(made: Served, client: httpx.Client) -> None:
    client.get("/services")
    assert httpx.get(f"{made.url}/healthz").text == "ok\n"
    assert httpx.get(f"{made.url}/readyz").text == "ok\n"
    text = httpx.get(f"{made.url}/metrics").text
    assert 'muster_api_requests_total{method="GET",route="/services",status="200"}' in text
    with served(ready=lambda: False) as other:
        assert httpx.get(f"{other.url}/readyz").status_code == 503
