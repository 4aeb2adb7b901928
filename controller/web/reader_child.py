"""Reads and checks large bodies in a process of its own: it takes Python long, and would keep everyone else waiting."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from controller.web.checks import Checked, checked
from controller.web.child import Child, serve
from controller.web.problems import FieldError, Refused

_LONGEST_S = 10.0
_CHECK = "check"
_MOST_SAID = 200


class ReaderChild:
    """The process."""

    def __init__(self, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = longest_s
        self._child = Child("controller.web.reader_child", longest_s)

    def read(self, data: bytes, kind: str) -> dict[str, Any]:
        """The object in a body; raises Refused."""
        said = self._said(kind, data)
        if (refused := said.get("refused")) is not None:
            errors = tuple(FieldError(**one) for one in refused["errors"])
            raise Refused(refused["status"], refused["kind"], refused["detail"], errors)
        found: dict[str, Any] = said["plain"]
        return found

    def check(self, kind: str, plain: Mapping[str, Any], namespace: str, name: str) -> Checked:
        """`controller.web.checks.checked`; raises Refused."""
        said = self._said(" ".join((_CHECK, kind, namespace or "-", name or "-")), orjson.dumps(plain))
        return Checked(said["obj"], tuple(FieldError(**one) for one in said["problems"]))

    def _said(self, head: str, data: bytes) -> Any:
        line = self._child.ask(head.encode() + b"\n" + data)
        if line is None:
            raise Refused(422, "invalid", f"the body: cannot be read in {self._longest_s:g} s, allowed: a smaller one")
        return orjson.loads(line)

    def stop(self) -> None:
        """End the process."""
        self._child.stop()


def answer(question: bytes) -> bytes:
    """What to say to one body."""
    from controller.web.documents import read

    head, _, data = question.partition(b"\n")
    kind, *about = head.decode().split(" ")
    if kind == _CHECK:
        found = checked(about[0], orjson.loads(data), namespace=about[1].strip("-"), name=about[2].strip("-"))
        problems = [asdict(one) for one in found.problems[:_MOST_SAID]]
        return orjson.dumps({"obj": {} if problems else found.obj, "problems": problems})
    try:
        return orjson.dumps({"plain": read(data, kind).plain})
    except Refused as refused:
        said = {"status": refused.status, "kind": refused.kind, "detail": refused.detail}
        return orjson.dumps({"refused": {**said, "errors": [asdict(one) for one in refused.errors]}})


if __name__ == "__main__":
    serve(answer)
