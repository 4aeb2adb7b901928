"""What no server does on demand: throttling, versions that are too old or too new, hours of bookmarks alone."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import orjson
import pytest

from controller.kube.backoff import Backoff
from controller.kube.discovery import Resource
from controller.kube.informer import Informer
from controller.kube.rest import Api, ApiError
from tests.controller.live import until

NODES = Resource("nodes", "v1", "Node", False)


def a_node(name: str, version: int) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, obj: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": kind, "object": obj})


class Watch:
    """A watch of given lines, then of nothing until it is ended."""

    def __init__(self, lines: list[bytes], then: ApiError | None = None) -> None:
        self._lines, self._then, self._over = lines, then, threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield from self._lines
        if self._then is not None:
            raise self._then
        self._over.wait(10)

    def end(self) -> None:
        self._over.set()


class Script:
    """An API server that answers in the order it was told to, and notes what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), cast(list[dict[str, str]], [])

    def _next(self, query: Mapping[str, str]) -> Any:
        self.asked.append(dict(query))
        found = self.answers.pop(0) if self.answers else Watch([])
        if isinstance(found, ApiError):
            raise found
        return found

    def request(self, method: str, path: str, *, query: Mapping[str, str], timeout_s: float) -> Any:
        return self._next(query)

    def stream(self, path: str, query: Mapping[str, str], read_timeout_s: float) -> Any:
        return self._next(query)


def listed(version: int, *nodes: dict[str, Any], token: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": token}, "items": list(nodes)}


def watching(script: Script) -> tuple[Informer, list[str]]:
    made = Informer(cast(Api, script), NODES, backoff=Backoff(first_s=0.001, most_s=0.01))
    told: list[str] = []
    made.on_change(lambda old, new: told.append(_words(old, new)))
    made.start()
    return made, told


def _words(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    sign = "-" if new is None else "+" if old is None else "~"
    return sign + str((new or old or {})["metadata"]["name"])


def names(cache: Informer) -> list[str]:
    return sorted(one["metadata"]["name"] for one in cache.items())


@pytest.fixture
def stop() -> Iterator[Callable[[Informer], None]]:
    made: list[Informer] = []
    yield made.append
    for one in made:
        one.stop()


def test_a_throttled_list_is_tried_until_it_comes_and_no_sooner_than_asked(stop: Callable[[Informer], None]) -> None:
    busy = ApiError(429, "TooManyRequests", "slow down", retry_after_s=0.2)
    cache, told = watching(Script(busy, busy, listed(5, a_node("a", 5))))
    stop(cache)
    assert not cache.wait(0.3)
    assert cache.wait(2)
    until(lambda: told == ["+a"])
    assert cache.counts.restarts == {"TooManyRequests": 2}


@pytest.mark.parametrize(
    "trouble",
    [
        Watch([event("ERROR", {"code": 410, "reason": "Expired", "message": "too old"})]),
        ApiError(410, "Expired", "too old"),
        ApiError(504, "Timeout", "Too large resource version"),
    ],
)
def test_a_version_that_the_server_does_not_have_is_listed_anew_and_compared(
    trouble: Any, stop: Callable[[Informer], None]
) -> None:
    again = listed(9, a_node("b", 9), a_node("c", 8))
    cache, told = watching(Script(listed(5, a_node("a", 4), a_node("b", 5)), trouble, again))
    stop(cache)
    until(lambda: names(cache) == ["b", "c"])
    until(lambda: sorted(told) == ["+a", "+b", "+c", "-a", "~b"])
    assert cache.counts.relists == 2


def test_bookmarks_move_the_version_that_a_watch_is_resumed_from(stop: Callable[[Informer], None]) -> None:
    """An hour of bookmarks alone, one a minute, each then followed by silence."""
    silence = ApiError(0, "Silent", "nothing came")
    hour = [Watch([event("BOOKMARK", a_node("", 100 + minute))], silence) for minute in range(60)]
    script = Script(listed(5, a_node("a", 5)), *hour)
    cache, told = watching(script)
    stop(cache)
    until(lambda: len(script.asked) == 62)
    assert [one["resourceVersion"] for one in script.asked[1:]] == ["5", *(str(100 + minute) for minute in range(60))]
    assert cache.counts.relists == 1
    assert told == ["+a"]


def test_pages_are_put_together_and_a_page_that_expires_begins_anew(stop: Callable[[Informer], None]) -> None:
    script = Script(
        listed(5, a_node("a", 5), token="more"), ApiError(410, "Expired", "the token is too old"),
        listed(7, a_node("a", 5), token="more"), listed(7, a_node("b", 6)),
    )  # fmt: skip
    cache, _ = watching(script)
    stop(cache)
    until(lambda: names(cache) == ["a", "b"])
    assert cache.version == "7"


def test_a_line_that_was_cut_off_and_a_callback_that_fails_do_not_end_the_watch(
    stop: Callable[[Informer], None],
) -> None:
    cut = Watch([event("ADDED", a_node("b", 6))[:-7]])
    script = Script(listed(5, a_node("a", 5)), cut, Watch([event("ADDED", a_node("b", 6))]))
    made = Informer(cast(Api, script), NODES, backoff=Backoff(first_s=0.001, most_s=0.01))
    stop(made)
    told: list[str] = []

    def once(old: Any, new: Any) -> None:
        told.append(_words(old, new))
        if len(told) == 2:
            raise RuntimeError("a defect")

    made.on_change(once)
    script.answers.append(listed(6, a_node("a", 5), a_node("b", 6)))
    made.start()
    until(lambda: names(made) == ["a", "b"] and made.counts.relists == 2)
    assert made.counts.restarts["Broken"] == 1
    assert made.counts.restarts["Failed"] == 1
