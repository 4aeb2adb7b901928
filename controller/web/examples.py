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
_OUTCOME: dict[str, Any] = {
    "decision": "791bfeaa7c68", "at_s": 1.8e9, "cause": "first_plan", "reason": "the service has no plan",
    "rate_per_s": 8.0, "generation": 1, "usd_per_hour": 2.5, "power_w": 461.3, "replicas": 1, "gpus": 1,
    "allocations": [{
        "recipe": "H100-SXM fp8", "gpu": "H100-SXM", "pool": "serve", "node_group": "big", "zone": "a", "replicas": 1,
        "gpus_per_replica": 1, "gpus": 1, "usd_per_hour": 2.5, "power_w": 461.3, "power_cap_w": None,
        "busy_ratio": 0.11, "techniques": ["fp8"], "engine": "vllm", "max_batch": 512, "ttft_s": 0.474,
        "tpot_s": 0.056, "e2e_s": 7.61, "source": "modelled",
        "by_class": [{"slo_class": "interactive", "ttft_s": 0.474, "tpot_s": 0.056, "e2e_s": 7.61}],
    }],
}  # fmt: skip
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
    "Done": {"said": "GPUService default/chat is deleted"},
    "Validity": {"valid": False, "errors": PROBLEM_EXAMPLE["errors"]},
    "MadeToken": {"name": "dashboard", "scopes": ["read"], "token": "muster_..."},
    "Token": {"name": "dashboard", "scopes": ["read"], "made_s": 1.8e9},
    "Series": {
        "metric": "rate_per_s", "subject": "default/chat", "start_s": 1.8e9, "end_s": 1.8e9 + 3600,
        "points": [[1.8e9 + 15, 7.9], [1.8e9 + 30, 8.2]],
    },
    "Latest": {"metric": "rate_per_s", "values": {"default/chat": 8.2}},
    "EventRow": {
        "id": "fb2c5472-9ce8-4d32-8a44-216bbbbc55a9", "version": 42, "at_s": 1.8e9, "last_s": 1.8e9, "type": "Normal",
        "reason": "PlanSolved", "note": "decision 791bfeaa7c68 is for generation 1", "kind": "GPUService",
        "namespace": "default", "about": "default/chat", "count": 1,
    },
    "DomainRow": {
        "name": "rack-1", "budget_w": 8000.0, "drawn_w": 2450.0, "allowed_w": 4900.0, "granted_w": 4900.0,
        "planned_w": 461.0, "idle_w": 504.0, "idle_gpus": 7, "gpus": 8, "groups": ["big"], "version": "12",
        "caps": [{
            "service": "default/chat", "priority": 5, "recipe": "H100-SXM fp8", "node_group": "big", "gpus": 1,
            "cap_w": None, "planned_w": 461.0,
        }],
    },
    "PlanView": {
        "key": "default/chat", "namespace": "default", "name": "chat", "version": "14", "current": _OUTCOME,
        "infeasible": None, "proposal": None, "previous": None, "floor_per_s": None, "binding": [],
    },
    "PlanHistory": {"key": "default/chat", "complete": True, "outcomes": [_OUTCOME]},
    "Explained": {
        "key": "default/chat", "usd_per_hour": 2.4, "power_w": 141.2, "complete": True,
        "savings": [{
            "kind": "slo", "target": "default/chat", "words": "latency objectives 25% looser", "usd_per_hour": 1.6,
            "saves_usd_per_hour": 0.8, "power_w": 102.7,
        }],
    },
}  # fmt: skip
