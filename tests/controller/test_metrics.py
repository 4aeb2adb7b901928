"""Reading metrics from files and over the loopback: several scrapes, and whatever else may be sent."""

import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.metrics import MAX_BYTES, parse, read, shown
from planner.errors import BadInput
from planner.perf.observed import Scrape, observe
from tests.controller.engine_text import steady, vllm
from tests.controller.loopback import sends, serving


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def refused(source: str, timeout_s: float = 2.0) -> str:
    with pytest.raises(BadInput) as caught:
        read([source], timeout_s=timeout_s)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_url_is_scraped_once_or_at_both_ends_of_a_window() -> None:
    with serving(sends(vllm(steady(5)).encode())) as url:
        one, two = read([url]), read([url], window_s=0.05)
    assert (len(one.scrapes), len(two.scrapes)) == (1, 2)
    assert one.scrapes[0].samples == two.scrapes[1].samples
    first, last = (scrape.at_s for scrape in two.scrapes)
    assert first is not None
    assert last is not None
    assert last - first >= 0.05


def test_a_token_is_sent_and_never_shown() -> None:
    seen: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        sends(b"denied", 403)(request)

    with serving(answer) as url, pytest.raises(BadInput) as caught:
        read([f"{url}?key=hidden"], token="secret")
    assert seen == ["Bearer secret"]
    assert "got HTTP status 403" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert shown("https://host:9/metrics?key=x#y") == "https://host:9/metrics"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<!DOCTYPE html><html></html>", "got a page of HTML"),
        (b'{"status": "ok"}', "got JSON"),
        (b"", "got no metrics"),
        (b"\n\n", "got no metrics"),
        (b"\x1f\x8b\x08\x00\xff\xfe", "no UTF-8 text"),
        (b"a\x00b 1\n", "binary data"),
        (b"this is no metric at all\n", "no Prometheus text exposition"),
        (b'broken{le="1" 7\n', "no Prometheus text exposition"),
        (b"a" * (MAX_BYTES + 10), "bytes, which is no page of metrics"),
    ],
)
def test_what_is_no_page_of_metrics_is_refused_in_one_line(body: bytes, said: str) -> None:
    with serving(sends(body)) as url:
        assert said in refused(url, 20.0)


def test_a_closed_port_a_slow_server_and_another_host_are_refused() -> None:
    with serving(sends(b"")) as url:
        closed = url
    assert "cannot be reached" in refused(closed)

    def drips(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with suppress(OSError):
            for _ in range(40):
                request.wfile.write(b"# drip\n")
                request.wfile.flush()
                time.sleep(0.05)

    with serving(drips) as url:
        assert "no answer in time" in refused(url, 0.3)
    with serving(sends(b"", 302, Location="http://localhost:1/else")) as url:
        assert "redirects to another host" in refused(url)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ftp://host/metrics", "got a ftp address"),
        ("http://", "without a host"),
        ("http://host:port/metrics", "an address that is none"),
        ("http://user:pass@host/metrics", "put a bearer token into --token-env"),
        ("none.prom", "got no regular file"),
        ("no\0ne", "got no regular file"),
    ],
)
def test_wrong_addresses_are_refused_without_a_secret(source: str, said: str) -> None:
    words = refused(source)
    assert said in words
    assert "pass@" not in words


def test_metrics_of_two_engines_are_not_taken_for_two_moments_of_one() -> None:
    with pytest.raises(BadInput, match="got several addresses"):
        read(["http://a/metrics", "http://b/metrics"])


def test_a_recorded_file_holds_scrapes_with_and_without_times(tmp_path: Path) -> None:
    one, two = vllm(steady(5)), vllm(steady(9))
    marked = parse(f"# scrape 10.5\n{one}# scrape 70.5\n{two}".encode(), "file")
    assert [scrape.at_s for scrape in marked] == [10.5, 70.5]
    bare = parse((one + two).encode(), "file")
    assert [scrape.samples for scrape in bare] == [scrape.samples for scrape in marked]
    path = tmp_path / "day.prom"
    path.write_text(one + two)
    assert len(read([str(path)]).scrapes) == 2
    assert read([str(path)]).sha256 != read([str(path), str(path)]).sha256


def test_times_of_samples_are_those_of_the_scrape() -> None:
    [scrape] = parse(
        b"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1.0 1700000000000\n", "federated"
    )
    assert scrape.at_s == 1.7e9


DAMAGE = ["", "{", "}", '"', "\n", " ", "9e999", "NaN", "#"]


def read_or_refused(data: bytes) -> list[Scrape] | str:
    try:
        return parse(data, "any")
    except BadInput as error:
        return str(error)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_whatever_the_bytes_the_outcome_is_scrapes_or_one_line(data: bytes) -> None:
    found = read_or_refused(data)
    assert "\n" not in found if isinstance(found, str) else all(scrape.samples for scrape in found)


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(DAMAGE)), max_size=4))
def test_a_damaged_exposition_is_read_refused_or_found_silent(cuts: list[tuple[int, str]]) -> None:
    text = vllm(steady(3), running=1.0)
    for at, put in cuts:
        text = text[:at] + put + text[at + 1 :]
    scrapes = read_or_refused(text.encode())
    if not isinstance(scrapes, str):
        answer = observe(scrapes)
        assert isinstance(answer, str) or answer.requests > 0
