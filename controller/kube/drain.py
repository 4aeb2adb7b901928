"""Replicas leave nodes that are out: by eviction, which disruption budgets may refuse, after others serve for them."""

from collections.abc import Collection, Mapping
from typing import Any

from controller import names
from controller.cluster import Running
from controller.kube.applier import Leader, NotLeading
from controller.kube.discovery import Served
from controller.kube.known import Known
from controller.kube.rest import ApiError, Requests
from controller.pods import is_ready
from controller.specs import key_of, service_of

Object = Mapping[str, Any]
_WRITE_S = 2.0


def drained(known: Known, api: Requests, served: Served, leader: Leader, out: Collection[str]) -> dict[str, str]:
    """Evict what may go from nodes that are out. Gives what has to stay, by `namespace/pod`, with why.

    One that serves goes only when another was told to run beside it, so that a budget for disruptions, which counts
    both, keeps it until the other serves. One that does not serve goes at once: nothing is lost with it.
    """
    if not out:
        return {}
    stay: dict[str, str] = {}
    told: dict[str, Mapping[str, Running]] = {}
    for pod in known.items("pods"):
        meta = pod["metadata"]
        ours = names.SERVICE in (meta.get("labels") or {})
        if not ours or pod["spec"].get("nodeName") not in out or meta.get("deletionTimestamp"):
            continue
        key = service_of(pod)
        if key not in told:
            told[key] = {one.kind.name: one for one in known.running(key, out)}
        why = _waits(known, pod, key, told[key]) or _evicted(api, served, leader, pod)
        if why:
            stay[key_of(pod)] = f"{why} (pod {meta['name']} on {pod['spec']['nodeName']})"
    return stay


def _waits(known: Known, pod: Object, key: str, told: Mapping[str, Running]) -> str:
    """Why a replica that serves may not go yet; empty where it may."""
    service = known.service(key)
    kind = f"{pod['metadata']['namespace']}/{(pod['metadata'].get('labels') or {}).get(names.KIND, '')}"
    one = told.get(kind)
    if service is None or one is None:
        return ""
    made = next((made for made in known.made(service, known.plan(key)) if made.kind.name == kind), None)
    wanted, wide = (0, False) if made is None else (made.replicas, made.pod.size > 1)
    if not (is_ready(pod) or (wide and one.stranded)):  # a replica of several pods serves by its first
        return ""
    if names.PAUSED in (service["metadata"].get("annotations") or {}):
        return f"annotation {names.PAUSED} stops changes"
    if not wanted:
        return "serves until the replicas that follow it do"
    if one.replicas < wanted + one.stranded or (wide and one.ready - one.stranded < wanted):
        held = known.held.get(key)
        return f"serves until there is another: {held}" if held else "serves until there is another"
    return ""


def _evicted(api: Requests, served: Served, leader: Leader, pod: Object) -> str:
    """Ask for a pod's eviction; gives why it was refused, if it was."""
    if not leader.may_write():
        raise NotLeading("drain: got a process that does not lead, allowed: the holder of the lease")
    meta = pod["metadata"]
    where = {"name": meta["name"], "namespace": meta["namespace"]}
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
    body = {
        "apiVersion": served.need("poddisruptionbudgets").version,
        "kind": "Eviction",
        "metadata": where,
        "deleteOptions": {"preconditions": {"uid": meta["uid"]}},  # not another that has its name by now
    }
    try:
        api.request("POST", path, body, timeout_s=_WRITE_S)
    except ApiError as error:
        if error.status == 0:
            raise
        return "" if error.status in (404, 409) else f"eviction is refused: {error}"
    return ""
