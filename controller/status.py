"""What conditions say of an object of a cluster: nodes, pods, and what is ours. Pure."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from controller.when import seconds

Object = Mapping[str, Any]


def condition(obj: Object | None, kind: str) -> Object:
    """A condition of an object by its type; empty where it has none of that type."""
    rows = ((obj or {}).get("status") or {}).get("conditions") or ()
    return next((row for row in rows if row.get("type") == kind), {})


def is_ready(obj: Object) -> bool:
    """Whether a node's kubelet answers and is well, or a pod serves."""
    return condition(obj, "Ready").get("status") == "True"


def ready_since_s(pods: Iterable[Object]) -> float:
    """Since when some of the pods serve; infinity where none does."""
    rows = [condition(pod, "Ready") for pod in pods]
    return min((_since_s(row) for row in rows if row.get("status") == "True"), default=math.inf)


def _since_s(row: Object) -> float:
    return seconds(row["lastTransitionTime"]) if row.get("lastTransitionTime") else -math.inf
