"""Prefill and decode in pools of their own: what their pods need to find each other, and the router before them. Pure.

Muster runs no router. One that knows both pools sends a request to a prefill replica and then, with where its KV cache
lies, to a decode replica; without it, prefill replicas would answer alone and decode replicas would idle, and all of
them be ready. So such a plan is refused until the service's owner says that a router is there.
"""

import re
from collections.abc import Mapping
from typing import Any

from controller import names
from planner.plan import Allocation
from planner.techniques.disaggregation import BOOTSTRAP_PORT

Object = Mapping[str, Any]
POOLS = ("prefill", "decode")
ROUTER = f"{names.GROUP}/router"  # annotation on a GPUService: the router's name; the same as a label on its pods
# Where the router of SGLang's makers reads the port at which a prefill replica introduces itself to decode replicas.
_BOOTSTRAP = "sglang.ai/bootstrap-port"
# vLLM's connector tells decode replicas, through the router, to ask for a cache at this address; its own is localhost.
_SIDE_HOST, _SIDE_PORT = "VLLM_NIXL_SIDE_CHANNEL_HOST", "VLLM_NIXL_SIDE_CHANNEL_PORT"
_PORT = "5600"  # vLLM's own; ranks of data-parallel attention take those after it
_ROUTERS = {
    "vllm": "vllm-router --vllm-pd-disaggregation",
    "sglang": "python -m sglang_router.launch_router --pd-disaggregation",
}


def router_of(service: Object) -> str:
    """The router that a service's owner says is there; empty for none, and for what no label could be."""
    name = _said(service)
    return name if re.fullmatch(r"[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?", name) else ""


def without_router(service: Object, allocation: Allocation) -> str:
    """Why a pool of an allocation would get no requests as they are meant, in words; empty for none."""
    if allocation.pool not in POOLS or router_of(service):
        return ""
    name = _said(service)
    got = f"metadata.annotations: got {ROUTER}={name!r}, allowed: a label's value; " if name else ""
    return (
        f"{got}disaggregation needs a router, which Muster does not run: it sends each request to a prefill and to a "
        f"decode replica ({_ROUTERS[allocation.engine]}); run one that finds pods by the labels {names.SERVICE} and "
        f"{names.ROLE}, label its own pods {ROUTER}: NAME, and annotate the service {ROUTER}: NAME; or leave the "
        "technique out of spec.constraints.techniques"
    )


def _said(service: Object) -> str:
    return str((service["metadata"].get("annotations") or {}).get(ROUTER, ""))


def environment(allocation: Allocation) -> list[Object]:
    """What an engine of one of two pools is told of where it is."""
    if allocation.pool not in POOLS or allocation.engine != "vllm":
        return []
    here = {"fieldRef": {"fieldPath": "status.podIP"}}
    return [{"name": _SIDE_HOST, "valueFrom": here}, {"name": _SIDE_PORT, "value": _PORT}]


def annotations(allocation: Allocation) -> dict[str, str]:
    """What a router reads of a pod."""
    first = allocation.pool == "prefill" and allocation.engine == "sglang"
    return {_BOOTSTRAP: BOOTSTRAP_PORT} if first else {}
