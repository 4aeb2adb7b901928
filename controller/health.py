"""Between nodes of a cluster and the brake: what a node carries, and what is written on it for an order. Pure.

A node remembers by itself since when it is out and when it came back, so a controller that restarts knows it too.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from controller import names
from controller.brake import BurnIn, NodeState
from controller.hardware import GPU_RESOURCE
from controller.reports import Kept, state
from controller.status import condition as condition_of
from controller.when import seconds, text

Object = Mapping[str, Any]
OUT_SINCE = f"{names.GROUP}/out-since"
WHY = f"{names.GROUP}/out-because"
RETURNS = f"{names.GROUP}/returned-at"
BURN_IN = f"{names.GROUP}/burn-in"
CORDONED = f"{names.GROUP}/was-cordoned"  # a person had cordoned it before: it stays so
_MOST_RETURNS = 10
_MOST_WORDS = 256
_MOST_NODE = 38  # of a Job's 63 characters, which are a label of its pods


def has_gpus(node: Object) -> bool:
    """Whether a node is of the fleet: it has GPUs, or had before they were withdrawn."""
    status = node.get("status") or {}
    return any(GPU_RESOURCE in (status.get(part) or {}) for part in ("capacity", "allocatable"))


def node_state(node: Object, kept: Kept | None) -> NodeState:
    """A node for the brake: what it carries, and what its agent tells."""
    notes = node["metadata"].get("annotations") or {}
    told = notes.get(BURN_IN, "none")
    burn_in: BurnIn = told if told in ("running", "passed", "failed") else "none"
    carried = NodeState(
        node["metadata"]["name"],
        out_since_s=seconds(notes[OUT_SINCE]) if OUT_SINCE in notes else None,
        burn_in=burn_in,
        returns_s=tuple(seconds(one) for one in notes.get(RETURNS, "").split(",") if one),
    )
    return state(carried.name, kept, carried)


def approved(nodes: Sequence[Object]) -> set[str]:
    """Nodes that a person said may go or come back: by an annotation on them."""
    return {one["metadata"]["name"] for one in nodes if names.APPROVED in (one["metadata"].get("annotations") or {})}


def quarantined(node: Object, why: str, now_s: float) -> Object:
    """The patch that takes a node out: cordon and taint, and since when.

    Taints are one value to a server, so the patch names the version of the node that it was made for.
    """
    notes = {OUT_SINCE: text(now_s), WHY: why[:_MOST_WORDS], BURN_IN: None, names.APPROVED: None}
    if (node.get("spec") or {}).get("unschedulable"):
        notes[CORDONED] = "true"
    taints = [*_other_taints(node), {"key": names.TAINT, "value": "faulty", "effect": "NoSchedule"}]
    meta = {"annotations": notes, "resourceVersion": node["metadata"]["resourceVersion"]}
    return {"metadata": meta, "spec": {"unschedulable": True, "taints": taints}}


def _other_taints(node: Object) -> list[Object]:
    return [one for one in (node.get("spec") or {}).get("taints") or () if one["key"] != names.TAINT]


def given_back(node: Object, now_s: float) -> Object:
    """The patch that lets a node take replicas again; one that a person cordoned before stays cordoned."""
    notes = node["metadata"].get("annotations") or {}
    before = [one for one in notes.get(RETURNS, "").split(",") if one]
    back = ",".join([*before, text(now_s)][-_MOST_RETURNS:])
    kept = dict.fromkeys((OUT_SINCE, WHY, BURN_IN, CORDONED, names.APPROVED)) | {RETURNS: back}
    spec: dict[str, Any] = {"taints": _other_taints(node)}
    if CORDONED not in notes:
        spec["unschedulable"] = None
    return {"metadata": {"annotations": kept, "resourceVersion": node["metadata"]["resourceVersion"]}, "spec": spec}


def tested(verdict: BurnIn) -> Object:
    """The patch that notes how far a burn-in is; what was found before a new fault says nothing any more."""
    return {"metadata": {"annotations": {BURN_IN: None if verdict == "none" else verdict}}}


def condition(node: Object, known: NodeState, held: str, now_s: float) -> Object | None:
    """The patch of a node's status that says whether its GPUs are well; None where it says so already."""
    healthy = "False" if known.fault else "True"
    reason = "GPUFault" if known.fault else "NoFault"
    message = (held if held.startswith(known.fault) else known.fault) or "the agent reports no fault"
    if known.out_since_s is not None and not known.fault:
        message = held or "out, and without a fault now"
    old = condition_of(node, names.CONDITION)
    said = {"type": names.CONDITION, "status": healthy, "reason": reason, "message": steady(message)}
    if all(old.get(key) == value for key, value in said.items()):
        return None
    since = old["lastTransitionTime"] if old.get("status") == healthy else text(now_s)
    row = {**said, "lastTransitionTime": since, "lastHeartbeatTime": text(now_s)}
    return {"status": {"conditions": [row]}}


def steady(message: str) -> str:
    """A message without the seconds that run in it: it is written when something changes, not as time passes."""
    words = message[:_MOST_WORDS].split(" for another ")
    return words[0].split(" for ")[0] if "not heard of" in words[0] else words[0]


def burn_in_name(node: Object) -> str:
    """The name of a node's burn-in, another one each time that the node is taken out."""
    meta = node["metadata"]
    mark = sha256(f"{meta['name']} {(meta.get('annotations') or {}).get(OUT_SINCE)}".encode()).hexdigest()[:8]
    return f"muster-burn-in-{meta['name'][:_MOST_NODE].rstrip('-.')}-{mark}"


def burn_in_job(
    node: Object,
    namespace: str,
    image: str,
    command: Sequence[str],
    runtime_class: str = "",
    pull_secrets: Sequence[str] = (),
) -> Object:
    """The Job that proves a node's GPUs before it takes replicas again; it goes with the node."""
    meta = node["metadata"]
    gpus = int((node["status"].get("allocatable") or {}).get(GPU_RESOURCE, 0))
    container = {
        "name": "burn-in",
        "image": image,
        "command": list(command),
        "resources": {"limits": {GPU_RESOURCE: str(gpus)}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "nodeName": meta["name"],  # past the scheduler: the node is cordoned
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    if runtime_class:
        spec["runtimeClassName"] = runtime_class
    if pull_secrets:
        spec["imagePullSecrets"] = [{"name": one} for one in pull_secrets]
    owner = {"apiVersion": "v1", "kind": "Node", "name": meta["name"], "uid": meta["uid"]}
    labels = {"app.kubernetes.io/managed-by": "muster", "app.kubernetes.io/component": "burn-in"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": burn_in_name(node),
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 3600,
            "ttlSecondsAfterFinished": 86_400,  # for servers that sweep; the Job also goes when the node comes back
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def verdict(job: Object) -> BurnIn:
    """What a burn-in came to."""
    status = job.get("status") or {}
    if status.get("succeeded"):
        return "passed"
    return "failed" if status.get("failed") else "running"
