"""The API server's audit log: who wrote what, when. The oracle of the controller's tests."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Write:
    """One write that the API server answered. `manager`: the field manager; `body`: what was sent, where it is kept."""

    at: str
    user: str
    agent: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    manager: str
    body: dict[str, object]

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300


def writes(path: Path, since: int = 0) -> Iterator[Write]:
    """Every write in the log's order, from a byte on (`mark`)."""
    with path.open("rb") as log:
        log.seek(since)
        for line in log:
            if line.endswith(b"\n"):
                yield _write(json.loads(line))


def mark(path: Path) -> int:
    """Where the log ends now."""
    return path.stat().st_size if path.exists() else 0


def _write(event: dict[str, object]) -> Write:
    def inner(key: str) -> dict[str, object]:
        found = event.get(key)
        return found if isinstance(found, dict) else {}

    at, what = inner("objectRef"), inner("requestObject")
    query = parse_qs(urlsplit(str(event.get("requestURI", ""))).query)
    code = inner("responseStatus").get("code", 0)
    return Write(
        at=str(event.get("requestReceivedTimestamp", "")),
        user=str(inner("user").get("username", "")),
        agent=str(event.get("userAgent", "")),
        verb=str(event.get("verb", "")),
        group=str(at.get("apiGroup", "")),
        resource=str(at.get("resource", "")),
        subresource=str(at.get("subresource", "")),
        namespace=str(at.get("namespace", "")),
        name=str(at.get("name", "")),
        code=code if isinstance(code, int) else 0,
        manager=next(iter(query.get("fieldManager", [])), ""),
        body=what,
    )
