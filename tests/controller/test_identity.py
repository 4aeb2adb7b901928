"""Tokens are asked about once in a while, be the answer yes or no, and what is kept of them is bounded."""

from collections.abc import Mapping
from typing import Any

import pytest

from controller.identity import Identities, NotKnown
from controller.kube.rest import ApiError

ACCOUNT = "muster-agents:muster-agent"
USER = f"system:serviceaccount:{ACCOUNT}"


class Server:
    """An API server that vouches for tokens `ok.N.x`, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None, **_: Any) -> Mapping[str, Any]:
        assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
        self.asked += 1
        if self.down:
            raise ApiError(503, "ServiceUnavailable", "down")
        assert body is not None
        word, number, _sign = body["spec"]["token"].split(".")
        if word == "bad":
            return {"status": {"authenticated": False}}
        user = USER if word == "ok" else "system:serviceaccount:default:default"
        extra = {"authentication.kubernetes.io/node-name": [f"node-{number}"]}
        return {"status": {"authenticated": True, "audiences": ["muster"], "user": {"username": user, "extra": extra}}}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def identities(server: Server, clock: Clock, most: int = 100) -> Identities:
    return Identities(server, (ACCOUNT,), "muster", most=most, clock=clock)  # type: ignore[arg-type]


def test_a_token_that_was_refused_is_asked_about_again_after_ten_seconds_and_not_before() -> None:
    server, clock = Server(), Clock()
    known = identities(server, clock)
    for _ in range(1000):
        with pytest.raises(NotKnown, match="not valid"):
            known.node("bad.1.x")
    assert server.asked == 1
    with pytest.raises(NotKnown, match="not valid"):
        known.remembered("bad.1.x")
    clock.now_s = 10.0
    assert known.remembered("bad.1.x") is None
    with pytest.raises(NotKnown):
        known.node("bad.1.x")
    assert server.asked == 2


def test_a_refusal_says_again_whether_the_token_was_somebody_elses() -> None:
    known = identities(Server(), Clock())
    for _ in range(2):
        with pytest.raises(NotKnown, match="allowed: an agent's") as refusal:
            known.node("other.1.x")
        assert refusal.value.known


def test_made_up_tokens_drive_nobody_out_and_fill_no_memory() -> None:
    server, clock = Server(), Clock()
    known = identities(server, clock, most=50)
    assert known.node("ok.7.x") == "node-7"
    for number in range(1000):
        with pytest.raises(NotKnown):
            known.node(f"bad.{number}.x")
    asked = server.asked
    assert known.node("ok.7.x") == "node-7"
    assert server.asked == asked
    assert len(known._refused) == 50


def test_what_is_no_token_of_a_pod_is_refused_without_asking() -> None:
    server = Server()
    for token in ("", "nonsense", "a.b", "a b.c.d", "x" * 20_000, "a.b.c\n"):
        with pytest.raises(NotKnown):
            identities(server, Clock()).node(token)
    assert server.asked == 0


def test_a_server_that_cannot_be_asked_refuses_nobody() -> None:
    server, clock = Server(), Clock()
    known = identities(server, clock)
    server.down = True
    with pytest.raises(ApiError):
        known.node("ok.1.x")
    server.down = False
    assert known.node("ok.1.x") == "node-1"
