"""Reads large bodies in a process of its own: Python reads YAML slowly, and would keep everyone else waiting."""

from dataclasses import asdict
from typing import Any

import orjson

from controller.web.child import Child, serve
from controller.web.problems import FieldError, Refused

_LONGEST_S = 10.0


class ReaderChild:
    """The process."""

    def __init__(self, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = longest_s
        self._child = Child("controller.web.reader_child", longest_s)

    def read(self, data: bytes, kind: str) -> dict[str, Any]:
        """The object in a body; raises Refused."""
        line = self._child.ask(kind.encode() + b"\n" + data)
        if line is None:
            raise Refused(422, "invalid", f"the body: cannot be read in {self._longest_s:g} s, allowed: a smaller one")
        said = orjson.loads(line)
        if (refused := said.get("refused")) is not None:
            errors = tuple(FieldError(**one) for one in refused["errors"])
            raise Refused(refused["status"], refused["kind"], refused["detail"], errors)
        found: dict[str, Any] = said["plain"]
        return found

    def stop(self) -> None:
        """End the process."""
        self._child.stop()


def answer(question: bytes) -> bytes:
    """What to say to one body."""
    from controller.web.documents import read

    kind, _, data = question.partition(b"\n")
    try:
        return orjson.dumps({"plain": read(data, kind.decode()).plain})
    except Refused as refused:
        said = {"status": refused.status, "kind": refused.kind, "detail": refused.detail}
        return orjson.dumps({"refused": {**said, "errors": [asdict(one) for one in refused.errors]}})


if __name__ == "__main__":
    serve(answer)
