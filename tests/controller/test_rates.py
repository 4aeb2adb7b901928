"""What is heard of services, through a real Prometheus; silence is never zero."""

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from controller.prometheus import Point, Prometheus, PrometheusFault
from controller.rates import Heard, ServiceKey, heard
from tests.controller.loopback import sends, serving
from tests.controller.prometheus_server import engine, scraping, until

CHAT, CODE = ServiceKey("team-a", "chat"), ServiceKey("team-b", "code")


def page(
    prefix: str,
    per_s: float,
    running: Callable[[], float],
    ttft_s: float = 0.2,
    tpot_s: float = 0.02,
    output_tokens: int = 50,
    old_names: bool = False,
) -> str:
    """An engine's metrics, as if it had ended `per_s` requests of 100 tokens of prompt each second since 1970."""
    ended = per_s * (time.time() % 1e6)
    tpot = "time_per_output_token_seconds" if old_names else "request_time_per_output_token_seconds"
    lines = [f"{prefix}:num_requests_running {running()}", f"{prefix}:num_requests_waiting 0"]
    for name, value in (("time_to_first_token_seconds", ttft_s), (tpot, tpot_s), ("e2e_request_latency_seconds", 1.0)):
        for bound in (0.01, 0.1, 0.25, 0.5, 1.0, 2.5):
            lines.append(f'{prefix}:{name}_bucket{{le="{bound}"}} {ended if value <= bound else 0.0}')
        lines += [f'{prefix}:{name}_bucket{{le="+Inf"}} {ended}', f"{prefix}:{name}_count {ended}"]
        lines.append(f"{prefix}:{name}_sum {ended * value}")
    for name, tokens in (("request_prompt_tokens", 100), ("request_generation_tokens", output_tokens)):
        lines += [f"{prefix}:{name}_count {ended}", f"{prefix}:{name}_sum {ended * tokens}"]
    return "\n".join(lines) + "\n"


def both(url: str) -> tuple[Callable[[], dict[ServiceKey, Heard]], dict[ServiceKey, Heard]]:
    """How to listen for both services, and what was heard once a whole window of each was."""
    ask = Prometheus(url).ask

    def listen() -> dict[ServiceKey, Heard]:
        return heard(ask, {CHAT: 1, CODE: 1}, window_s=4.0)

    until(lambda: all(one.rate_per_s for one in listen().values()) and len(listen()) == 2, 30.0)
    time.sleep(4.0)
    return listen, listen()


@pytest.mark.slow
def test_arrivals_latencies_and_sizes_are_heard_and_a_silent_engine_is_none(tmp_path: Path) -> None:
    began_s = time.time()
    growing = engine(lambda: page("vllm", 20.0, lambda: 3.0 * (time.time() - began_s)))  # 3 a second more than end
    still = engine(lambda: page("vllm", 8.0, lambda: 4.0))
    with growing as (chat, _), still as (code, stop), scraping(tmp_path, {CHAT: chat, CODE: code}) as url:
        listen, found = both(url)
        assert found[CHAT].rate_per_s == pytest.approx(23.0, rel=0.1)
        assert found[CODE].rate_per_s == pytest.approx(8.0, rel=0.1)
        assert found[CODE].running == 4.0
        assert found[CODE].input_tokens == pytest.approx(100.0)
        assert found[CODE].output_tokens == pytest.approx(50.0)
        assert 0.1 <= found[CODE].latency_s["ttft", 0.95] <= 0.25
        assert 0.01 <= found[CODE].latency_s["tpot", 0.5] <= 0.1
        stop()
        until(lambda: CODE not in listen(), 30.0)
        assert CHAT in listen()


@pytest.mark.slow
def test_a_request_that_passes_two_pools_is_counted_once_and_each_latency_where_it_is_seen(tmp_path: Path) -> None:
    """Prefill ends a request after its prompt; decode has the same prompt again, and its tokens are there at once."""
    prefill = engine(lambda: page("vllm", 12.0, lambda: 1.0, ttft_s=0.4, tpot_s=0.0, output_tokens=1))
    decode = engine(lambda: page("vllm", 12.0, lambda: 7.0, ttft_s=0.005))
    plain = engine(lambda: page("vllm", 8.0, lambda: 4.0))
    with prefill as (first, _), decode as (second, _), plain as (third, _):
        targets: dict[tuple[str, ...], str] = {
            (*CHAT, "prefill"): first,
            (*CHAT, "decode"): second,
            (*CODE, "serve"): third,
        }
        with scraping(tmp_path, targets) as url:
            _, found = both(url)
    chat, code = found[CHAT], found[CODE]
    assert chat.rate_per_s == pytest.approx(12.0, rel=0.1)
    assert (chat.replicas, chat.running) == (1, 8.0)
    assert 0.25 <= chat.latency_s["ttft", 0.5] <= 0.5
    assert 0.01 <= chat.latency_s["tpot", 0.5] <= 0.1
    assert chat.input_tokens == pytest.approx(100.0)
    assert chat.output_tokens == pytest.approx(50.0)
    assert ("e2e", 0.5) not in chat.latency_s, "neither engine sees a whole request"
    assert code.rate_per_s == pytest.approx(8.0, rel=0.1)
    assert 0.5 <= code.latency_s["e2e", 0.5] <= 1.0


ENDED = {"sum by (namespace, muster_dev_service) (rate(vllm:e2e": 30.0}


def replicas(count: int) -> dict[str, float]:
    return {"count by": count}


class Scripted:
    """Answers queries by what they contain."""

    def __init__(self, **answers: float) -> None:
        self.answers, self.asked = answers, 0

    def __call__(self, query: str) -> list[Point]:
        self.asked += 1
        for part, value in self.answers.items():
            if part in query:
                return [
                    Point({"namespace": key.namespace, "muster_dev_service": key.name}, value, 0.0) for key in (CHAT,)
                ]
        return []


def test_of_three_replicas_in_four_all_four_are_reckoned() -> None:
    ask = Scripted(**replicas(3), **ENDED)
    assert heard(ask, {CHAT: 4}, ["vllm"])[CHAT].rate_per_s == 40.0


def test_of_fewer_than_half_the_replicas_nothing_is_said() -> None:
    assert heard(Scripted(**replicas(1), **ENDED), {CHAT: 4}, ["vllm"]) == {}


def test_a_replica_that_ended_no_request_yet_has_no_rate() -> None:
    assert heard(Scripted(**replicas(1)), {CHAT: 1}, ["vllm"])[CHAT].rate_per_s is None


def test_services_that_nobody_asked_for_are_passed_over() -> None:
    assert heard(Scripted(**replicas(1), **ENDED), {CODE: 1}, ["vllm"]) == {}


def test_the_number_of_queries_does_not_grow_with_the_services() -> None:
    few, many = Scripted(**replicas(1)), Scripted(**replicas(1))
    heard(few, {CHAT: 1}, ["vllm"])
    heard(many, {CHAT: 1} | {ServiceKey("team", f"s{i}"): 1 for i in range(200)}, ["vllm"])
    assert few.asked == many.asked


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"<html>", 200, "no JSON"),
        (b"[" * 100_000, 200, "no JSON"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[]}}', 200, "got a matrix"),
        (b'{"status":"success","data":[]}', 200, "none of Prometheus' API"),
        (b'{"status":"error","error":"unknown function"}', 422, "status 422: unknown function"),
        (b"", 503, "status 503"),
    ],
)
def test_an_answer_that_is_no_vector_is_refused_in_words(body: bytes, status: int, said: str) -> None:
    with serving(sends(body, status)) as url, pytest.raises(PrometheusFault, match=said):
        Prometheus(url, 5.0, lambda: "secret-token").ask("up")


def test_a_server_that_is_not_there_is_told_without_the_token() -> None:
    with pytest.raises(PrometheusFault) as told:
        Prometheus("http://127.0.0.1:9", 2.0, lambda: "secret-token").ask("up")
    assert "secret-token" not in str(told.value)


def test_a_redirect_does_not_take_the_token_along() -> None:
    asked: list[str] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        sends(b"", 307, Location="/other")(request)

    with serving(elsewhere) as url, pytest.raises(PrometheusFault, match="307"):
        Prometheus(url, 5.0, lambda: "secret-token").ask("up")
    assert len(asked) == 1


def test_numbers_that_are_none_are_left_out() -> None:
    body = b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}'
    with serving(sends(body)) as url:
        assert Prometheus(url).ask("up") == []
