"""Who may ask what: tokens, scopes, namespaces, and browsers that speak for somebody else."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.web.access import Access, NoTokens, Unknown
from controller.web.limits import Limits
from controller.web.reviews import Reviews
from controller.web.tokens import StoredTokens
from planner.errors import BadInput
from tests.controller.web.cluster import a_spec
from tests.controller.web.served import served, served_with_tokens

WRITES = (
    ("POST", "/services", a_spec()),
    ("PUT", "/services/default/chat", a_spec()),
    ("PATCH", "/services/default/chat", {"spec": {"priority": 1}}),
    ("DELETE", "/services/default/chat", None),
    ("POST", "/services/default/chat/approve", {"decision": "x"}),
    ("POST", "/faults", {"node": "big-0", "gpu": 0, "kind": "lost"}),
    ("PUT", "/powerdomains/rack-1/budget", {"budget": "1kW"}),
    ("DELETE", "/inventories/fleet", None),
    ("POST", "/tokens", {"name": "more", "scopes": ["write"]}),
    ("GET", "/tokens", None),
)


def test_the_first_token_is_made_once_and_kept_as_a_digest_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "state" / "tokens.json"
    token = StoredTokens(file).first(1.0)
    assert token is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text("utf-8")
    again = StoredTokens(file)
    assert again.first(2.0) is None
    assert again.caller(token).scopes == {"read", "write"}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"tokens": [{"name": 1}]}', "\xff"])
def test_a_file_that_holds_no_tokens_is_refused_and_not_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(content, "latin-1")
    with pytest.raises(BadInput, match="got no file of tokens"):
        StoredTokens(file)
    assert file.read_text("latin-1") == content


def test_the_last_token_that_may_write_stays(tmp_path: Path) -> None:
    tokens = StoredTokens(tmp_path / "tokens.json")
    tokens.first(0.0)
    tokens.make("reader", ("read",), 0.0)
    with pytest.raises(BadInput, match="the last token with scope write"):
        tokens.remove("admin")
    assert tokens.remove("reader")
    assert not tokens.remove("reader")


def test_without_a_good_token_nothing_is_answered_but_the_schema(tmp_path: Path) -> None:
    with served_with_tokens(tmp_path) as (made, token):
        for given in ("", "wrong", token[:-1], token + "x", "muster_" + "a" * 600):
            with made.client(given) as client:
                answer = client.get("/services")
                assert (answer.status_code, answer.json()["type"]) == (401, "urn:muster:problem:unauthorized")
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert given[:20] not in answer.text or not given
        with made.client() as client:
            assert client.get("/openapi.json").status_code == 200
            assert client.get("/services", headers={"Authorization": f"Basic {token}"}).status_code == 401
            assert client.get("/nothing").status_code == 401
            assert httpx.get(f"{made.url}/metrics").status_code == 401
            assert httpx.get(f"{made.url}/healthz").status_code == 200
        with made.client(token) as client:
            assert client.get("/services").status_code == 200


def test_a_token_that_may_read_changes_nothing(tmp_path: Path) -> None:
    with served_with_tokens(tmp_path) as (made, admin):
        with made.client(admin) as client:
            assert client.post("/services", json=a_spec()).status_code == 201
            answer = client.post("/tokens", json={"name": "reader", "scopes": ["read"]})
            reader = answer.json()["token"]
            assert [one["name"] for one in client.get("/tokens").json()["items"]] == ["admin", "reader"]
        before = made.cluster.store.version
        with made.client(reader) as client:
            for path in ("/services", "/nodes", "/overview", "/events", "/plans", "/gpus", "/powerdomains"):
                assert client.get(path).status_code == 200, path
            assert client.post("/services/validate", json=a_spec()).status_code == 200
            for method, path, body in WRITES:
                answer = client.request(method, path, json=body, headers={"If-Match": "*"})
                assert (answer.status_code, answer.json()["status"]) == (403, 403), path
        assert made.cluster.store.version == before
        with made.client(admin) as client:
            assert client.delete("/tokens/reader").status_code == 200
        with made.client(reader) as client:
            assert client.get("/services").status_code == 401


def test_no_token_is_asked_for_on_the_loopback_alone() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        NoTokens(host)
    for host in ("0.0.0.0", "192.168.1.4", "example.com", ""):
        with pytest.raises(BadInput, match="allowed: 127"):
            NoTokens(host)


def test_a_page_of_another_site_speaks_for_nobody() -> None:
    with served() as made, made.client() as client:
        assert client.get("/services").status_code == 200
        ours = {"Origin": f"http://127.0.0.1:{made.port}"}
        assert client.post("/services", json=a_spec(), headers=ours).status_code == 201
        for headers in (
            {"Host": f"evil.example:{made.port}"},
            {"Host": "evil.example", "Origin": "http://evil.example"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://127.0.0.1:{made.port + 1}"},
        ):
            assert client.post("/services", json=a_spec("other"), headers=headers).status_code == 403, headers
        assert client.get("/services/default/other").status_code == 404


def test_who_guesses_tokens_is_slowed_down_and_others_are_not(tmp_path: Path) -> None:
    limits = Limits(unknown_per_s=0.01, unknown_burst=3)
    with served_with_tokens(tmp_path, limits=limits) as (made, _):
        with made.client("wrong") as client:
            answers = [client.get("/services") for _ in range(5)]
        assert [one.status_code for one in answers] == [401, 401, 401, 429, 429]
        assert int(answers[-1].headers["retry-after"]) > 30


class Cluster:
    """Answers reviews as an API server does: tokens are names, and `ann` is of namespace `team-a`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "",
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        self.asked.append(path.rpartition("/")[2])
        spec = body["spec"]
        if path.endswith("tokenreviews"):
            name = spec["token"]
            known = name in ("ann", "root")
            return {"status": {"authenticated": known, "user": {"username": name, "groups": ["people"]}}}
        what = spec.get("resourceAttributes") or {}
        allowed = spec["user"] == "root" or what.get("namespace") == "team-a"
        return {"status": {"allowed": allowed}}


def test_reviews_are_asked_for_once_in_a_while() -> None:
    now = [0.0]
    cluster = Cluster()
    reviews = Reviews(cluster, keep_s=30.0, clock=lambda: now[0])
    ann = reviews.caller("ann")
    assert (ann.name, ann.groups) == ("ann", ("people",))
    assert reviews.caller("ann") == ann
    assert reviews.may(ann, Access("get", "gpuservices", "team-a"))
    assert not reviews.may(ann, Access("get", "gpuservices", "team-b"))
    assert not reviews.may(ann, Access("get", "gpuservices", "team-b"))
    assert cluster.asked == ["tokenreviews", "subjectaccessreviews", "subjectaccessreviews"]
    now[0] = 31.0
    reviews.caller("ann")
    assert cluster.asked[-1] == "tokenreviews"
    with pytest.raises(Unknown):
        reviews.caller("bob")


def test_a_tenant_sees_and_changes_its_own_namespace_alone() -> None:
    with served(Reviews(Cluster())) as made:
        with made.client("root") as root:
            for space in ("team-a", "team-b"):
                assert root.post("/services", json=a_spec("chat", space)).status_code == 201
            made.cluster.passes(30)
            assert len(root.get("/services").json()["items"]) == 2
            assert len(root.get("/plans").json()["items"]) == 2
        with made.client("ann") as ann:
            for path in ("/services", "/plans", "/services?namespace=team-a"):
                spaces = [one.get("namespace") or one["metadata"]["namespace"] for one in ann.get(path).json()["items"]]
                assert spaces == ["team-a"], path
            events = ann.get("/events").json()["items"]
            assert {one["namespace"] for one in events} == {"team-a"}
            stream = ann.get("/events/stream", params={"after": 0, "timeout_s": 0.2}).text
            assert "team-a/chat" in stream
            assert "team-b" not in stream
            assert ann.get("/services/team-a/chat/view").status_code == 200
            assert ann.post("/services", json=a_spec("more", "team-a")).status_code == 201
            for method, path, body in (
                ("GET", "/services/team-b/chat", None),
                ("GET", "/services/team-b/nothing", None),  # whether it is there is nobody's business either
                ("GET", "/services?namespace=team-b", None),
                ("GET", "/plans/team-b/chat/history", None),
                ("GET", "/series?metric=rate_per_s&subject=team-b/chat", None),
                ("GET", "/events/stream?namespace=team-b&timeout_s=0.1", None),
                ("GET", "/nodes", None),
                ("GET", "/overview", None),
                ("POST", "/services", a_spec("chat2", "team-b")),
                ("POST", "/services/plan", a_spec("chat2", "team-b")),
                ("DELETE", "/services/team-b/chat", None),
                ("PUT", "/powerdomains/rack-1/budget", {"budget": "1kW"}),
            ):
                assert ann.request(method, path, json=body).status_code == 403, path
