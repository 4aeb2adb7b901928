"""Bodies of requests to plain values: JSON or YAML, bounded in depth and number of values, whatever the bytes.

YAML is read by `planner.yaml_text`: no tags, no merge keys, and the growth of aliases is counted before anything grows.
Large bodies, by bytes or by what separates values, are read and checked one at a time, in a process of their own, so
that a few of them cannot keep everyone else from being answered; the lines of their values are then not known.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from controller.web.checks import Checked, checked
from controller.web.problems import Refused, invalid, said
from controller.web.reader_child import ReaderChild
from planner.errors import BadInput
from planner.yaml_text import Document, NodePath, parse

JSON_TYPES = ("application/json", "application/merge-patch+json")
YAML_TYPES = ("application/yaml", "application/apply-patch+yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
MOST_VALUES, MOST_YAML_VALUES = 100_000, 20_000  # YAML takes a hundred times as long to read
_MOST_DEPTH = 64  # what the YAML reader allows
_LARGE_BYTES, _LARGE_VALUES = 32 * 2**10, 2000
_MOST_WAITING = 4
_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Body:
    """An object as sent, and where its values stand if it was YAML. `large`: it is checked as it was read, apart."""

    plain: dict[str, Any]
    document: Document | None = None
    large: bool = False

    def line(self, path: NodePath) -> int | None:
        """The line of the nearest value there is."""
        return None if self.document is None else self.document.line(path)


class Reader:
    """Reads bodies. Thread-safe."""

    def __init__(self) -> None:
        self._child = ReaderChild()
        self._one = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)

    def read(self, data: bytes, content_type: str) -> Body:
        """The object in a body; raises Refused."""
        kind = content_type.partition(";")[0].strip().lower() or YAML_TYPES[0]
        if kind not in (*JSON_TYPES, *YAML_TYPES):
            allowed = ", ".join((JSON_TYPES[0], YAML_TYPES[0]))
            raise Refused(415, "unsupported-media-type", f"Content-Type: got {kind[:100]!r}, allowed: {allowed}")
        if not _large(data):
            return read(data, kind)
        with self._turn():
            return Body(self._child.read(data, kind), large=True)

    def checked(self, kind: str, body: Body, namespace: str = "", name: str = "") -> Checked:
        """`controller.web.checks.checked`; raises Refused where it takes too long."""
        if not body.large:
            return checked(kind, body.plain, body.line, namespace, name)
        with self._turn():
            return self._child.check(kind, body.plain, namespace, name)

    def stop(self) -> None:
        """End the process that reads large bodies, if there is one."""
        with self._one:
            self._child.stop()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._waiting.acquire(blocking=False):
            raise _busy()
        try:
            if not self._one.acquire(timeout=_WAIT_S):
                raise _busy()
            try:
                yield
            finally:
                self._one.release()
        finally:
            self._waiting.release()


def read(data: bytes, kind: str) -> Body:
    """The object in a body of a type that is known; raises Refused."""
    return _json(data) if kind in JSON_TYPES else _yaml(data)


def _large(data: bytes) -> bool:
    """Whether a body has so many values that others would wait for it, before a single one is read."""
    return len(data) > _LARGE_BYTES or sum(map(data.count, (b",", b":", b"\n"))) > _LARGE_VALUES


def _busy() -> Refused:
    return Refused(429, "too-many-requests", "too many large bodies at once", headers={"Retry-After": "1"})


def _json(data: bytes) -> Body:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise invalid([said("", f"got text that is no JSON ({error}), allowed: one JSON object")]) from None
    _bounded(found)
    return Body(_object(found))


def _yaml(data: bytes) -> Body:
    try:
        documents = parse(data, "body", MOST_YAML_VALUES)
    except BadInput as error:
        place, _, words = str(error).partition(": ")
        line = place.partition(":")[2]
        raise invalid([said("", words, int(line) if line.isdecimal() else None)]) from None
    if len(documents) > 1:
        raise invalid([said("", f"got {len(documents)} documents, allowed: one at a time")])
    return Body(_object(documents[0].root.plain()), documents[0])


def _object(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        what = "a list" if isinstance(found, list) else repr(found)[:60]
        raise invalid([said("", f"got {what}, allowed: a mapping")])
    return found


def _bounded(found: object) -> None:
    """Raises Refused for what is too deep or too much. Level by level: nothing recurses on what others sent."""
    level: list[object] = [found]
    values = 0
    for _ in range(_MOST_DEPTH + 1):
        values += len(level)
        if values > MOST_VALUES:
            raise invalid([said("", f"got more values, allowed: {MOST_VALUES:,} in a body")])
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        if not below:
            return
        level = below
    raise invalid([said("", f"got deeper nesting, allowed: {_MOST_DEPTH} levels")])
