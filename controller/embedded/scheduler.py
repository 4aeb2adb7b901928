"""Gives pods a node and GPUs of it: the tightest fit, so that room for large replicas stays. Pure but for `bind`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller import names
from controller.embedded.api import EmbeddedApi
from controller.embedded.paths import SERVED
from controller.hardware import gpus_of, holds, is_open, node_size
from controller.kube.rest import MERGE
from controller.when import text

Object = Mapping[str, Any]
GPUS = f"{names.GROUP}/gpus"  # annotation on a pod: the indices of its GPUs on its node


@dataclass(frozen=True, slots=True)
class Seat:
    """A node for a pod, and GPUs of it by index."""

    pod: Object
    node: str
    gpus: tuple[int, ...]


def seats(pods: Sequence[Object], nodes: Sequence[Object], broken: Mapping[str, frozenset[int]]) -> list[Seat]:
    """Where pods that wait may go, those that wait longest first; those that fit nowhere are left out.

    `broken`: node -> GPUs that its device plugin has withdrawn.
    """
    taken: dict[str, set[int]] = {}
    for pod in pods:
        if holds(pod):
            taken.setdefault(pod["spec"]["nodeName"], set()).update(indices(pod))
    found = []
    waiting = [pod for pod in pods if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp")]
    for pod in sorted(waiting, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"])):
        wanted, best = gpus_of(pod), list[tuple[int, str, tuple[int, ...]]]()
        for node in nodes:
            name = node["metadata"]["name"]
            out = taken.get(name, set()) | broken.get(name, frozenset())
            free = [index for index in range(node_size(node)) if index not in out]
            if len(free) >= wanted and _takes(node, pod):
                best.append((len(free) - wanted, name, tuple(free[:wanted])))
        if best:
            _, name, gpus = min(best)
            taken.setdefault(name, set()).update(gpus)
            found.append(Seat(pod, name, gpus))
    return found


def bind(api: EmbeddedApi, seat: Seat, now_s: float) -> None:
    """Write a seat down."""
    meta = seat.pod["metadata"]
    path = SERVED.need("pods").path(meta["namespace"], meta["name"])
    notes = {GPUS: ",".join(map(str, seat.gpus))}
    body = {"metadata": {"annotations": notes}, "spec": {"nodeName": seat.node}}
    api.request("PATCH", path, body, content_type=MERGE)
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": text(now_s)}
    api.request("PUT", f"{path}/status", {"status": {"phase": "Pending", "conditions": [placed]}})


def indices(pod: Object) -> tuple[int, ...]:
    """The GPUs of a pod on its node."""
    said = (pod["metadata"].get("annotations") or {}).get(GPUS, "")
    return tuple(int(one) for one in said.split(",") if one)


def _takes(node: Object, pod: Object) -> bool:
    """Whether a node may have a pod: it is open, has no taint that the pod does not bear, and the labels asked for."""
    bears = pod["spec"].get("tolerations") or ()
    taints = (node.get("spec") or {}).get("taints") or ()
    if not is_open(node) or not all(any(_tolerates(one, taint) for one in bears) for taint in taints):
        return False
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    labels = node["metadata"].get("labels") or {}
    plain = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in plain.items()):
        return False
    terms = (affinity or {}).get("nodeSelectorTerms")
    return terms is None or any(_meets(labels, term.get("matchExpressions") or ()) for term in terms)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if not toleration.get("key"):
        return bool(toleration.get("operator") == "Exists")
    if toleration["key"] != taint["key"]:
        return False
    return bool(toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""))


def _meets(labels: Mapping[str, str], terms: Iterable[Object]) -> bool:
    for term in terms:
        value, wanted = labels.get(term["key"]), term.get("values") or ()
        held = {
            "In": value in wanted,
            "NotIn": value not in wanted,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }.get(term["operator"])
        if not held:
            return False
    return True
