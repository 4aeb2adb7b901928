"""Whatever is sent and however often, the API goes on answering."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.web.documents import JSON_TYPES, MOST_VALUES, MOST_YAML_VALUES, Reader
from controller.web.glance import Glance
from controller.web.limits import MAX_BODY_BYTES, Answers, Buckets, Limits, Said
from controller.web.problems import Refused
from controller.web.reader_child import ReaderChild
from planner.yaml_text import dump
from tests.controller.web.cluster import a_spec
from tests.controller.web.served import served

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)  # fmt: skip


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = Buckets(per_s=2.0, burst=3.0)
    assert [bucket.wait_s("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.wait_s("b", 0.0) == 0.0
    assert bucket.wait_s("a", 0.5) == 0.0
    assert bucket.wait_s("a", 0.5) == 0.5
    assert [bucket.wait_s("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_callers_without_end_take_no_memory_without_end() -> None:
    bucket = Buckets(per_s=1.0, burst=1.0, most=10)
    for caller in range(1000):
        bucket.wait_s(str(caller), 0.0)
    assert bucket.wait_s("999", 0.0) == 1.0
    assert bucket.wait_s("0", 0.0) == 0.0


def test_answers_are_kept_by_key_for_a_while_and_few_at_a_time() -> None:
    answers = Answers(most=2, keep_s=10.0)
    assert answers.begin("a", "x", 0.0) is None
    pending = answers.begin("a", "x", 0.0)
    assert pending is not None
    assert pending.pending
    answers.end("a", Said("x", 201, b"made"), 1.0)
    assert answers.begin("a", "y", 2.0) == Said("x", 201, b"made")
    assert answers.begin("a", "x", 12.0) is None
    answers.begin("b", "x", 12.0)
    answers.begin("c", "x", 12.0)
    assert answers.begin("a", "x", 12.0) is None


def test_a_body_of_10_mb_is_refused_before_it_is_read() -> None:
    with served() as made, made.client() as client:
        answer = client.post("/services", content=b" " * 10_000_000)
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:muster:problem:too-large")

        def chunks() -> object:
            for _ in range(160):
                yield b" " * 65_536

        assert client.post("/services", content=chunks()).status_code == 413  # type: ignore[arg-type]
        assert client.get("/services").status_code == 200


def test_a_body_that_fits_exactly_is_read() -> None:
    with served() as made, made.client() as client:
        for size, status in ((MAX_BODY_BYTES, 422), (MAX_BODY_BYTES + 1, 413)):
            body = b'{"a": "' + b"x" * (size - 9) + b'"}'
            headers = {"Content-Type": "application/json"}
            assert client.post("/services", content=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (BOMB.encode(), "application/yaml"),
        (b"[" + b"1," * (MOST_VALUES + 1) + b"1]", "application/json"),
        (b"[" + b"1," * (MOST_YAML_VALUES + 1) + b"1]", "application/yaml"),
        (b"[" * 500_000, "application/yaml"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "application/json"),
    ],
)
def test_what_would_grow_without_end_is_refused(body: bytes, kind: str) -> None:
    reader = Reader()
    try:
        with pytest.raises(Refused) as refused:
            reader.read(body, kind)
        assert refused.value.status == 422
    finally:
        reader.stop()


def test_a_large_body_reads_as_a_small_one_does() -> None:
    wanted: dict[str, Any] = {"rows": [{"input": index, "name": f"n{index}"} for index in range(2000)]}
    reader = Reader()
    try:
        for body, kind in ((dump(wanted).encode(), "application/yaml"), (json.dumps(wanted).encode(), JSON_TYPES[0])):
            assert len(body) > 32 * 2**10
            assert reader.read(body, kind).plain == wanted
    finally:
        reader.stop()


def test_a_large_object_is_checked_as_a_small_one_is() -> None:
    keys: dict[str, Any] = {f"k{index}": 1 for index in range(3000)}
    with served() as made, made.client() as client:
        wrong = client.post("/services/validate", json=a_spec(**keys)).json()
        assert (wrong["valid"], len(wrong["errors"])) == (False, 200)
        assert wrong["errors"][0]["path"] == "spec.k0"
        buckets = [{"inputTokens": 16 + index, "outputTokens": 16, "share": 1 / 800} for index in range(800)]
        large = a_spec(workload={"ratePerSecond": 8, "buckets": buckets})
        answer = client.post("/services", params={"dryRun": True}, json=large)
        assert answer.status_code == 200, answer.text
        assert answer.json()["spec"]["workload"]["buckets"] == buckets
        assert answer.json()["spec"]["approval"]  # defaults are filled in


def test_a_body_that_takes_too_long_is_refused_and_the_next_is_read() -> None:
    child = ReaderChild(longest_s=0.001)
    with pytest.raises(Refused, match="cannot be read in"):
        child.read(b'{"a": 1}', JSON_TYPES[0])
    child.stop()
    again = ReaderChild()
    assert again.read(b'{"a": 1}', JSON_TYPES[0]) == {"a": 1}
    again.stop()


def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    with served(limits=Limits(per_s=0.1, burst=3.0)) as made, made.client() as client:
        answers = [client.get("/services") for _ in range(5)]
        assert [one.status_code for one in answers[:3]] == [200, 200, 200]
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert httpx.get(f"{made.url}/healthz").status_code == 200


def test_streams_are_counted_and_bounded(tmp_path: Path) -> None:
    with served(limits=Limits(streams=1)) as made, made.client() as client:
        with client.stream("GET", "/events/stream") as first:
            lines = first.iter_lines()
            assert next(lines) == "retry: 2000"
            with made.client() as other:
                assert other.get("/events/stream").status_code == 429
        with client.stream("GET", "/events/stream", params={"timeout_s": 0.1}) as again:
            assert again.status_code in (200, 429)  # the server learns a little later that the first has left


def test_a_view_is_made_once_for_all_who_look_at_the_same_moment() -> None:
    now, made = [0.0], list[float]()

    def make() -> float:
        made.append(now[0])
        return now[0]

    glance = Glance(0.25, lambda: now[0])
    assert [glance.of("a", make), glance.of("a", make), glance.of("b", lambda: 7.0)] == [0.0, 0.0, 7.0]
    now[0] = 0.2
    assert glance.of("a", make) == 0.0
    glance.forget()
    assert glance.of("a", make) == 0.2
    now[0] = 0.46
    assert glance.of("a", make) == 0.46
    assert made == [0.0, 0.2, 0.46]
