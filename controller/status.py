"""What conditions say of an object of a cluster: nodes, pods, and what is ours. Pure."""

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]


def condition(obj: Object | None, kind: str) -> Object:
    """A condition of an object by its type; empty where it has none of that type."""
    rows = ((obj or {}).get("status") or {}).get("conditions") or ()
    return next((row for row in rows if row.get("type") == kind), {})


def is_ready(obj: Object) -> bool:
    """Whether a node's kubelet answers and is well, or a pod serves."""
    return condition(obj, "Ready").get("status") == "True"
