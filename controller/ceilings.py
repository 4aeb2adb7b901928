"""The highest priority that the services of a namespace may have. Pure.

Priority works across namespaces: a service takes the places of all of lower priority. Whoever may write services in one
namespace would rule the fleet by it, so a priority counts up to what an administrator set.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.errors import BadInput

Object = Mapping[str, Any]
_SAID = re.compile(r"(?:([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)=)?(-?[0-9]{1,10})", re.ASCII)
_LEAST, _MOST = -1_000_000_000, 1_000_000_000  # as in the spec of a GPUService


@dataclass(frozen=True, slots=True)
class Ceilings:
    """`most`: of namespaces that `by_namespace` does not name."""

    most: int = 1000
    by_namespace: Mapping[str, int] = field(default_factory=dict)

    def of(self, namespace: str) -> int:
        """The highest priority that counts in a namespace."""
        return self.by_namespace.get(namespace, self.most)


def parsed(texts: Iterable[str]) -> Ceilings:
    """`N` for all namespaces, `NAMESPACE=N` for one. Raises BadInput."""
    most, named = Ceilings().most, {}
    for text in texts:
        found = _SAID.fullmatch(text)
        if found is None or not _LEAST <= int(found[2]) <= _MOST:
            raise BadInput(
                f"--max-priority: got {text!r}, allowed: N or NAMESPACE=N, where N is from {_LEAST:,} to {_MOST:,}"
            )
        if found[1]:
            named[found[1]] = int(found[2])
        else:
            most = int(found[2])
    return Ceilings(most, named)


def ranked(service: Object, ceilings: Ceilings) -> Object:
    """The service with the priority that counts."""
    most = ceilings.of(service["metadata"].get("namespace", "default"))
    if int(service["spec"].get("priority", 0)) <= most:
        return service
    return {**service, "spec": {**service["spec"], "priority": most}}


def priority(service: Object, ceilings: Ceilings) -> int:
    """The priority that counts."""
    return int(ranked(service, ceilings)["spec"].get("priority", 0))


def words(service: Object, ceilings: Ceilings) -> str:
    """What a service is told whose priority is above the ceiling; empty for others."""
    asked, counts = int(service["spec"].get("priority", 0)), priority(service, ceilings)
    if counts == asked:
        return ""
    space = service["metadata"].get("namespace", "default")
    return f"priority {asked} counts as {counts}, the most that services of namespace {space} may have"
