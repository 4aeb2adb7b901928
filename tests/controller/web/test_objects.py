"""Objects are made, read, replaced, patched and deleted, and no update is lost."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from planner.yaml_text import dump
from tests.controller.web.cluster import a_spec
from tests.controller.web.served import Served, served

CHAT = "/services/default/chat"


@pytest.fixture(scope="module")
def made() -> Iterator[Served]:
    with served() as one:
        yield one


@pytest.fixture
def client(made: Served) -> Iterator[httpx.Client]:
    """A cluster with the service `chat` alone."""
    with made.client() as found:
        for one in made.cluster.store.items("gpuservices"):
            made.cluster.api.gone(("gpuservices", one["metadata"]["namespace"], one["metadata"]["name"]))
        assert found.post("/services", json=a_spec()).status_code == 201
        yield found


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert set(found) == {"type", "title", "status", "detail", "instance", "errors"}
    return found


def test_what_was_made_is_there_under_its_location(client: httpx.Client) -> None:
    answer = client.post("/services", json=a_spec("other"))
    assert (answer.status_code, answer.headers["location"]) == (201, "/api/v1/services/default/other")
    again = client.get("/services/default/other")
    assert again.json() == answer.json()
    assert again.headers["etag"] == answer.headers["etag"]
    assert problem(client.post("/services", json=a_spec("other")), 409)["type"] == "urn:muster:problem:conflict"


def test_a_service_in_yaml_is_the_same_as_in_json(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/yaml"}
    answer = client.post("/services", content=dump(a_spec("written")), headers=headers)
    assert answer.status_code == 201
    assert answer.json()["spec"] == client.get(CHAT).json()["spec"]


def test_every_problem_is_told_with_its_path_and_line(client: httpx.Client) -> None:
    bad = a_spec("bad", slos=[{"name": "a", "ttft": "500"}], qualityFloor=2, colour="red")
    answer = client.post("/services", content=dump(bad), headers={"Content-Type": "application/yaml"})
    errors = {one["path"]: one for one in problem(answer, 422)["errors"]}
    assert set(errors) == {"spec.slos[0].ttft", "spec.qualityFloor", "spec.colour"}
    ttft = errors["spec.slos[0].ttft"]
    assert (ttft["got"], ttft["allowed"]) == ("'500'", "a duration such as 500ms, 2s, 1m")
    lines = dump(bad).splitlines()
    assert "ttft" in lines[ttft["line"] - 1]
    said = client.post("/services/validate", json=bad).json()
    assert (said["valid"], {one["path"] for one in said["errors"]}) == (False, set(errors))
    assert client.post("/services/validate", json=a_spec("bad")).json() == {"valid": True, "errors": []}
    assert client.get("/services/default/bad").status_code == 404


def test_an_update_names_the_version_that_it_was_decided_on(client: httpx.Client) -> None:
    first = client.get(CHAT)
    assert problem(client.put(CHAT, json=a_spec(priority=1)), 428)["detail"].startswith("If-Match: got nothing")
    seen = {"If-Match": first.headers["etag"]}
    second = client.put(CHAT, json=a_spec(priority=1), headers=seen)
    assert (second.status_code, second.json()["spec"]["priority"]) == (200, 1)
    problem(client.put(CHAT, json=a_spec(priority=2), headers=seen), 412)
    problem(client.patch(CHAT, json={"spec": {"priority": 2}}, headers=seen), 412)
    problem(client.delete(CHAT, headers=seen), 412)
    assert client.get(CHAT).json()["spec"]["priority"] == 1
    assert client.put(CHAT, json=a_spec(priority=2), headers={"If-Match": "*"}).status_code == 200


def test_who_has_the_version_is_not_sent_it_again(client: httpx.Client) -> None:
    first = client.get(CHAT)
    answer = client.get(CHAT, headers={"If-None-Match": first.headers["etag"]})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", first.headers["etag"])


def test_a_patch_changes_what_it_says_and_nothing_else(client: httpx.Client) -> None:
    old = client.get(CHAT)
    headers = {"If-Match": old.headers["etag"], "Content-Type": "application/merge-patch+json"}
    new = client.patch(CHAT, content=b'{"spec": {"priority": 7, "constraints": {"techniques": null}}}', headers=headers)
    wanted = {**old.json()["spec"], "priority": 7}
    wanted["constraints"] = {key: v for key, v in wanted["constraints"].items() if key != "techniques"}
    assert new.json()["spec"] == wanted
    for patch, path in (
        ({"status": {"why": "x"}}, "status"),
        ({"metadata": {"finalizers": []}}, "metadata.finalizers"),
    ):
        answer = client.patch(CHAT, json=patch, headers={"If-Match": "*"})
        assert problem(answer, 422)["errors"][0]["path"] == path
    bad = client.patch(CHAT, json={"spec": {"qualityFloor": 3}}, headers={"If-Match": "*"})
    assert problem(bad, 422)["errors"][0]["path"] == "spec.qualityFloor"


def test_what_is_applied_and_then_left_out_goes_and_what_others_wrote_stays(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    path = "/services/default/applied?fieldManager=me"
    wanted = a_spec("applied", priority=4)
    wanted["metadata"]["labels"] = {"mine": "1", "kept": "1"}
    assert client.patch(path, content=dump(wanted), headers=headers).status_code == 201
    theirs = {"metadata": {"labels": {"theirs": "2"}}}
    assert client.patch("/services/default/applied", json=theirs, headers={"If-Match": "*"}).status_code == 200
    del wanted["metadata"]["labels"]["mine"]
    again = client.patch(path, content=dump(wanted), headers=headers)
    assert (again.status_code, again.json()["metadata"]["labels"]) == (200, {"kept": "1", "theirs": "2"})
    same = client.patch(path, content=dump(wanted), headers=headers)
    assert same.headers["etag"] == again.headers["etag"]


def test_an_alternative_of_what_others_wrote_is_refused_and_says_which_is_whose(client: httpx.Client) -> None:
    made = a_spec("mixed")
    assert client.post("/services", json=made).status_code == 201
    load = {"ratePerSecond": 1, "distribution": {"input": _LENGTHS, "output": _LENGTHS}}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    wanted = dump(a_spec("mixed", workload=load))
    [error] = problem(client.patch("/services/default/mixed", content=wanted, headers=headers), 422)["errors"]
    assert error["path"] == "spec.workload"
    assert error["got"] == "distribution (applied) and buckets (live, which others wrote)"
    assert error["allowed"].startswith("one of buckets, distribution")


_LENGTHS: dict[str, Any] = {"name": "lognormal", "mean": 900, "spread": 1100, "max": 8192}


def test_what_is_deleted_is_gone(client: httpx.Client, made: Served) -> None:
    assert client.delete(CHAT).json() == {"said": "GPUService default/chat is deleted"}
    made.cluster.passes(30)
    problem(client.get(CHAT), 404)
    problem(client.delete(CHAT), 404)


def test_a_request_with_a_key_is_done_once(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "one"}
    first = client.post("/services", json=a_spec("keyed"), headers=headers)
    again = client.post("/services", json=a_spec("keyed"), headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/services", json=a_spec("another"), headers=headers)
    assert problem(other, 422)["errors"][0]["path"] == "Idempotency-Key"
    assert client.post("/services", json=a_spec("keyed"), headers={"Idempotency-Key": "two"}).status_code == 409


def test_pages_hold_everything_once_in_order(client: httpx.Client) -> None:
    for index in range(7):
        client.post("/services", json=a_spec(f"s{index}"))
    seen, after = [], ""
    while after is not None:
        page = client.get("/services", params={"limit": 3, "continue": after}).json()
        assert len(page["items"]) <= 3
        seen += [one["metadata"]["name"] for one in page["items"]]
        after = page["continue"]
        if after is not None and len(seen) == 3:  # what comes before the place of the next page shifts nothing
            client.post("/services", json=a_spec("aaa"))
    assert seen == ["chat", *(f"s{index}" for index in range(7))]
    problem(client.get("/services", params={"continue": "%%%"}), 422)
    problem(client.get("/services", params={"limit": 501}), 422)


def test_inventories_and_domains_are_checked_as_the_cluster_has_them(client: httpx.Client) -> None:
    spec = {"nodeGroups": [{"name": "big", "gpu": "H1000", "nodeSelector": {"pool": "big"}}]}
    head = {"apiVersion": "muster.dev/v1alpha1", "kind": "ClusterInventory", "metadata": {"name": "more"}}
    bad = problem(client.post("/inventories", json={**head, "spec": spec}), 422)
    assert bad["errors"][0]["path"] == "spec.nodeGroups[0].gpu"
    spec["nodeGroups"][0]["gpu"] = "H100-SXM"
    assert client.post("/inventories", json={**head, "spec": spec}).status_code == 201
    assert [one["metadata"]["name"] for one in client.get("/inventories").json()["items"]] == ["fleet", "more"]
    assert client.delete("/inventories/more").status_code == 200
    budget = client.put("/powerdomains/rack-1/budget", json={"budget": "6kW"}, headers={"If-Match": "*"})
    assert budget.json()["spec"] == {"budget": "6kW"}
    assert client.get("/powerdomains/rack-1/view").json()["budget_w"] == 6000.0
    wrong = client.put("/powerdomains/rack-1/budget", json={"budget": "6"}, headers={"If-Match": "*"})
    assert problem(wrong, 422)["errors"][0]["path"] == "spec.budget"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"a: [", "application/yaml", 422),
        (b"- 1", "application/yaml", 422),
        (b"a: 1\n---\nb: 2", "application/yaml", 422),
        (b"a: !!python/object 1", "application/yaml", 422),
        (b"", "application/json", 422),
        (b"[" * 900 + b"]" * 900, "application/json", 422),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "application/json", 422),
        (b"\xff\xfe", "application/json", 422),
        (b"{}", "text/html", 415),
        (b"{}", "application/json", 422),
    ],
)
def test_whatever_is_sent_is_read_or_refused(client: httpx.Client, body: bytes, content_type: str, status: int) -> None:
    problem(client.post("/services", content=body, headers={"Content-Type": content_type}), status)


def test_a_pod_template_of_another_form_is_refused_before_the_controller_reads_it(client: httpx.Client) -> None:
    for template, path in (
        ({"spec": {"containers": [1]}}, "spec.serving.podTemplate.spec.containers[0]"),
        ({"spec": []}, "spec.serving.podTemplate.spec"),
        ({"metadata": {"labels": 3}}, "spec.serving.podTemplate.metadata.labels"),
        ({"spec": {"nodeName": "n"}}, "spec.serving.podTemplate.spec.nodeName"),
    ):
        answer = client.post("/services", json=a_spec("t", serving={"podTemplate": template}))
        assert problem(answer, 422)["errors"][0]["path"] == path
