"""Examples in the OpenAPI: requests that can be sent as they are, and answers as they look."""

from typing import Any

SERVICE: dict[str, Any] = {
    "apiVersion": "muster.dev/v1alpha1",
    "kind": "GPUService",
    "metadata": {"name": "chat", "namespace": "default"},
    "spec": {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "workload": {
            "ratePerSecond": 8,
            "distribution": {
                "input": {"name": "lognormal", "mean": 900, "spread": 1100, "max": 8192},
                "output": {"name": "lognormal", "mean": 250, "spread": 220, "max": 2048},
            },
        },
        "slos": [{"name": "interactive", "ttft": "500ms", "tpot": "50ms", "percentile": "p95"}],
        "constraints": {"budgetPerHour": "$60"},
    },
}
INVENTORY: dict[str, Any] = {
    "apiVersion": "muster.dev/v1alpha1",
    "kind": "ClusterInventory",
    "metadata": {"name": "fleet"},
    "spec": {
        "energyPrice": "$0.12/kWh",
        "nodeGroups": [{"name": "big", "nodeSelector": {"muster.dev/pool": "big"}, "pricePerHour": "$2.50"}],
    },
}
DOMAIN: dict[str, Any] = {
    "apiVersion": "muster.dev/v1alpha1",
    "kind": "PowerDomain",
    "metadata": {"name": "rack-1"},
    "spec": {"budget": "8kW"},
}
PROBLEM_EXAMPLE: dict[str, Any] = {
    "type": "urn:muster:problem:invalid",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "the body: spec.slos[0].ttft: got '500', allowed: a duration such as 500ms, 2s, 1m",
    "instance": "/api/v1/services",
    "errors": [
        {
            "path": "spec.slos[0].ttft",
            "detail": "got '500', allowed: a duration such as 500ms, 2s, 1m",
            "got": "'500'",
            "allowed": "a duration such as 500ms, 2s, 1m",
            "line": 14,
        }
    ],
}
EXAMPLES: dict[str, Any] = {
    "GPUService": SERVICE,
    "ClusterInventory": INVENTORY,
    "PowerDomain": DOMAIN,
    "GPUServicePatch": {"spec": {"priority": 5}},
    "ClusterInventoryPatch": {"spec": {"energyPrice": "$0.15/kWh"}},
    "PowerDomainPatch": {"spec": {"budget": "6kW"}},
    "Budget": {"budget": "6kW"},
    "Fault": {"node": "big-0", "gpu": 1, "kind": "xid", "xid": 79},
    "Anything": SERVICE,
    "Traffic": {"factor": 2.0},
    "Simulation": {"service": "default/chat", "duration_s": 120, "seed": 1},
    "NewToken": {"name": "dashboard", "scopes": ["read"]},
    "Approval": {"decision": "1b42ebb885a9"},
    "Done": {"said": "default/chat is deleted"},
}
