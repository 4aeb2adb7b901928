"""Objects as an API server hands them out, for tests of what reads them."""

from typing import Any

H100, L4 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"


def a_service(name: str = "chat", namespace: str = "team-a", **spec: Any) -> dict[str, Any]:
    """A GPUService with its defaults filled in, that an H100 or a few L4 carry."""
    return {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "GPUService",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "generation": 1},
        "spec": {
            "model": "meta-llama/Llama-3.1-8B-Instruct",
            "workload": {
                "ratePerSecond": 8,
                "prefixHitRatio": 0,
                "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}],
            },
            "slos": [{"name": "chat", "ttft": "1s", "tpot": "60ms", "percentile": "p95"}],
            "constraints": {"techniques": ["fp8"], "minReplicas": 0, "maxSpotShare": 1},
            "deployment": "online",
            "engine": "vllm",
            "approval": "Auto",
            "priority": 0,
            "qualityFloor": 0,
            **spec,
        },
    }


def routed(service: dict[str, Any], router: str = "edge-router") -> dict[str, Any]:
    """A service whose owner says that a router stands before its two pools."""
    return {**service, "metadata": {**service["metadata"], "annotations": {"muster.dev/router": router}}}


def a_node(name: str, pool: str = "big", gpus: int = 8, product: str = H100, **spec: Any) -> dict[str, Any]:
    """A node that is ready; `spec` adds taints and the like."""
    labels = {"pool": pool, "nvidia.com/gpu.product": product, "topology.kubernetes.io/zone": "a"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "uid": f"uid-{name}", "resourceVersion": "1"},
        "spec": spec,
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"nvidia.com/gpu": str(gpus)},
        },
    }


def an_inventory(*groups: dict[str, Any], name: str = "fleet", **spec: Any) -> dict[str, Any]:
    """A ClusterInventory; by default H100 nodes labelled pool=big and L4 nodes labelled pool=small."""
    usual = (
        {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50"},
        {"name": "l4", "nodeSelector": {"pool": "small"}, "pricePerHour": "$0.80"},
    )
    return {"metadata": {"name": name}, "spec": {"nodeGroups": list(groups or usual), **spec}}


def a_pod(
    name: str, kind: str = "k", node: str = "", gpus: int = 1, ready: bool = False, leaves: bool = False, **meta: Any
) -> dict[str, Any]:
    """A pod of a workload."""
    labels = {"muster.dev/kind": kind, **meta.pop("labels", {})}
    meta = {"name": name, "namespace": "team-a", "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z", **meta}
    if leaves:
        meta["deletionTimestamp"] = "2026-01-01T00:10:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    container = {"name": "engine", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": node, "containers": [container]},
        "status": {"phase": "Running" if node else "Pending", "conditions": conditions},
    }
