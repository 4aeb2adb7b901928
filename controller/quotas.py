"""ResourceQuotas as planning and the rollout take them: how many GPUs the pods of a namespace may ask for. Pure.

Read is `requests.nvidia.com/gpu`, the one resource by which pods ask for GPUs. Every quota of a namespace binds, so the
least does. Of the scopes, those on priority classes and on pods that end by themselves tell services apart. The rest is
left to the API server, whose refusal the status of a service names: quotas on other resources (pods, CPU, memory,
claims of devices); those with the scopes BestEffort, NotBestEffort or CrossNamespacePodAffinity, which depend on what a
pod template adds; and a class that the cluster gives to pods which name none.

What others hold is counted from their pods. The quota's own `status.used` would count the same, but comes later than
pods go, and so would take pods of ours that just left for others'.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any

import orjson

from controller.cluster import Allowance
from controller.hardware import GPU_RESOURCE, gpus_of
from controller.manifests.priority import class_used
from controller.specs import key_of, service_of

Object = Mapping[str, Any]
_HARD = f"requests.{GPU_RESOURCE}"
_MOST = 1_000_000  # that the planner takes; no namespace has so many
_BINARY = {unit: Decimal(1024**power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_DECIMAL = {
    unit: Decimal(10) ** power for unit, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
}
_UNITS = {**_BINARY, **_DECIMAL}
_CLASS, _ENDS, _STAYS = "PriorityClass", "Terminating", "NotTerminating"


@dataclass(frozen=True, slots=True)
class Limit:
    """What one ResourceQuota says of GPUs. `scopes`: (scope, operator, values), all of which a pod must meet."""

    name: str
    namespace: str
    gpus: int
    scopes: tuple[tuple[str, str, frozenset[str]], ...] = ()

    @property
    def label(self) -> str:
        """How it is called across namespaces."""
        return f"{self.namespace}/{self.name}"


def limits(quotas: Iterable[Object]) -> dict[str, tuple[Limit, ...]]:
    """Namespace -> what its quotas say of GPUs; namespaces of which none says anything are left out."""
    found: dict[str, list[Limit]] = {}
    for one in sorted(quotas, key=lambda quota: str(quota["metadata"]["name"])):
        spec, meta = one.get("spec") or {}, one["metadata"]
        gpus, scopes = _whole((spec.get("hard") or {}).get(_HARD)), _scopes(spec)
        if gpus is not None and all(scope in (_CLASS, _ENDS, _STAYS) for scope, _, _ in scopes):
            found.setdefault(meta["namespace"], []).append(Limit(meta["name"], meta["namespace"], gpus, scopes))
    return {space: tuple(mine) for space, mine in found.items()}


def _whole(quantity: object) -> int | None:
    """A quantity as Kubernetes writes them, without what is no whole GPU; None for none."""
    text = str(quantity or "")
    unit = next((one for one in _UNITS if text.endswith(one)), "")
    try:
        return min(int(Decimal(text.removesuffix(unit)) * _UNITS.get(unit, 1)), _MOST)
    except InvalidOperation:
        return None


def _scopes(spec: Object) -> tuple[tuple[str, str, frozenset[str]], ...]:
    rows = [(scope, "Exists", frozenset[str]()) for scope in spec.get("scopes") or ()]
    for row in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        rows.append((row["scopeName"], row["operator"], frozenset(row.get("values") or ())))
    return tuple(rows)


def on(limit: Limit, service: Object) -> bool:
    """Whether the pods of a service count: not where they ask for GPUs by claims, which is another resource.

    They never end by themselves, since nothing that keeps pods running lets them.
    """
    if (service["spec"].get("serving") or {}).get("deviceClass"):
        return False
    return key_of(service).partition("/")[0] == limit.namespace and _meets(limit, class_used(service), ends=False)


def _meets(limit: Limit, priority_class: str, *, ends: bool) -> bool:
    return all(
        ends if scope == _ENDS else not ends if scope == _STAYS else _selected(operator, values, priority_class)
        for scope, operator, values in limit.scopes
    )


def _selected(operator: str, values: Collection[str], priority_class: str) -> bool:
    """As label selectors do: whoever names no class is in none, and so not in some."""
    match operator:
        case "In":
            return priority_class in values
        case "NotIn":
            return priority_class not in values
        case _:
            return bool(priority_class) == (operator == "Exists")


def foreign(limit: Limit, pods: Iterable[Object]) -> int:
    """GPUs that pods of no service have asked for in the namespace, on a node or not."""
    return sum(
        gpus_of(pod)
        for pod in pods
        if pod["metadata"].get("namespace") == limit.namespace
        and not service_of(pod)
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        and _meets(limit, pod["spec"].get("priorityClassName", ""), ends="activeDeadlineSeconds" in pod["spec"])
    )


def left(limit: Limit, services: Iterable[Object], pods: Iterable[Object], taken: Mapping[str, int]) -> int:
    """What others leave of a quota; `services`: the others there are, `taken`: the GPUs of each, by its key."""
    return limit.gpus - foreign(limit, pods) - sum(taken.get(key_of(one), 0) for one in services if on(limit, one))


def rows(
    mine: Sequence[Limit],
    planned: Sequence[Object],
    others: Sequence[Object],
    pods: Sequence[Object],
    taken: Mapping[str, int],
) -> list[Object]:
    """Quotas as an inventory for planning has them. `planned`: the services to plan; the rest as for `left`."""
    found: list[Object] = []
    for limit in mine:
        names = sorted(key_of(one) for one in planned if on(limit, one))
        held = limit.gpus - left(limit, others, pods, taken)
        if names:
            row = {"name": limit.name, "namespace": limit.namespace, "gpus": limit.gpus, "services": names}
            found.append({**row, "heldGpus": min(held, _MOST)})
    return found


def allowances(
    by_space: Mapping[str, Sequence[Limit]], services: Iterable[Object], pods_of: Callable[[str], Iterable[Object]]
) -> tuple[Allowance, ...]:
    """What the services of each namespace may hold, as the rollout takes it. `pods_of`: a namespace's pods of none."""
    exempt: dict[str, set[str]] = {}
    for one in services:
        for limit in by_space.get(one["metadata"]["namespace"], ()):
            if not on(limit, one):
                exempt.setdefault(limit.label, set()).add(key_of(one))
    return tuple(
        Allowance(
            limit.label, space, limit.gpus - foreign(limit, pods_of(space)), frozenset(exempt.get(limit.label, ()))
        )
        for space, mine in sorted(by_space.items())
        for limit in mine
    )


def digest(mine: Sequence[Limit]) -> str:
    """Changes with what quotas allow."""
    said = [[one.name, one.gpus, [[scope, does, sorted(values)] for scope, does, values in one.scopes]] for one in mine]
    return sha256(orjson.dumps(said)).hexdigest()[:12]
