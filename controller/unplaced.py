"""Why no node takes a pod, by the words of the scheduler, old and new."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from controller.redact import shown

Object: TypeAlias = Mapping[str, Any]

GPU = "nvidia.com/gpu"
UNTRIED = "waits for the scheduler"


def unplaced(pod: Object, placed: Object, gpus: int) -> tuple[str, str] | None:
    """Reason and sentence; None where a pod has its node. `placed`: its condition PodScheduled; `gpus` it asks for."""
    if pod.get("spec", {}).get("nodeName") or placed.get("status") == "True":
        return None
    gates = pod.get("spec", {}).get("schedulingGates") or []
    if placed.get("reason") == "SchedulingGated" or gates:
        return "Queued", f"waits at gate {', '.join(one['name'] for one in gates) or 'of its queue'}"
    if placed.get("status") != "False":
        return "Starting", UNTRIED
    words = str(placed.get("message") or placed.get("reason") or "no reason given").partition(" preemption:")[0]
    if "persistentvolumeclaim" in words.lower():
        return "VolumeUnavailable", shown(_claims(words))
    few = re.search(rf"(\d+) Insufficient {re.escape(GPU)}", words)
    if few is not None:
        return "WaitingForGPU", f"needs {gpus} GPUs in one node; {_others(words)}"
    if "volume node affinity conflict" in words:
        return "VolumeUnavailable", f"its volume is in another zone than the nodes; {_others(words)}"
    return "Unschedulable", f"no node fits: {_others(words)}"


def _claims(words: str) -> str:
    """What the scheduler says of claims, without the count of nodes."""
    said = re.sub(r"^\d+/\d+ nodes are available: (\d+ )?", "", words).rstrip(". ")
    return f"no volume: {said}"


def _others(words: str) -> str:
    """The scheduler's `0/3 nodes are available: 1 node(s) had taint, 2 Insufficient x.`, shorter, most nodes first."""
    found = re.fullmatch(r"0/(\d+) nodes are available: (.*?)\.? *", shown(words))
    if found is None:
        return shown(words)
    said = found[2].replace("node(s) ", "").replace(", that the pod didn't tolerate", "").replace("untolerated ", "")
    said = re.sub(r"(\d+) Insufficient (\S+?)(?=[,.]|$)", r"\1 have too little free \2", said)
    said = re.sub(r"didn't match (Pod's )?node (affinity/)?(selector|affinity)(\(s\))?", "lack labels asked for", said)
    said = re.sub(r"\{(\S+?): \}", r"\1", said).replace(f"too little free {GPU}", "too few free GPUs")
    parts = sorted(re.split(r", (?=\d+ )", said), key=lambda part: -int((re.match(r"\d+", part) or ["0"])[0]))
    return f"{', '.join(parts)} (of {found[1]} nodes)"
