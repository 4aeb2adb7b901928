"""Whether disruption budgets let a pod go. Pure. (Kubernetes: policy/v1 Eviction with IfHealthyBudget.)"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from controller.status import is_ready

Object = Mapping[str, Any]


def keeps(pod: Object, pods: Sequence[Object], budgets: Sequence[Object]) -> str:
    """Why a pod must stay, in words; empty where it may go."""
    for budget in budgets:
        wanted = (budget["spec"].get("selector") or {}).get("matchLabels") or {}
        if not wanted or not _has(pod, wanted):
            continue
        mine = [one for one in pods if _has(one, wanted) and not _over(one)]
        healthy = sum(is_ready(one) and not one["metadata"].get("deletionTimestamp") for one in mine)
        least = _least(budget["spec"], len(mine))
        if not is_ready(pod) and healthy >= least:
            continue
        if healthy - 1 < least:
            name = budget["metadata"]["name"]
            return f"the disruption budget {name} needs {least} healthy pods and has {healthy} currently"
    return ""


def _least(spec: Object, count: int) -> int:
    """Pods that must stay healthy. Parts of a hundred are rounded up, as Kubernetes does."""
    if "minAvailable" in spec:
        return _number(spec["minAvailable"], count)
    return count - _number(spec.get("maxUnavailable", 0), count)


def _number(value: int | str, count: int) -> int:
    text = str(value)
    return math.ceil(count * int(text[:-1]) / 100) if text.endswith("%") else int(text)


def _has(pod: Object, wanted: Mapping[str, str]) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
