"""Specs for tests: valid documents as plain values, a small catalogue, and what loading makes of them."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from planner.errors import UnknownName
from planner.hardware import GPUType, Inventory
from planner.model import Model
from planner.service import ServiceSpec
from planner.spec import load_inventory, load_services, validate
from planner.spec.fields import Catalog
from planner.yaml_text import NodePath, Plain, dump
from tests.planner import factories

PRICES = {"G1": 1.0, "G2": 2.0, "Unpriced": None}
ALIASES = {"NVIDIA-G1": "G1", **{name: name for name in PRICES}}


def find_gpu(name: str) -> GPUType:
    if name not in ALIASES:
        raise UnknownName("GPU", name, ALIASES)
    return factories.gpu(ALIASES[name], usd_per_hour=PRICES[ALIASES[name]])


def find_model(name: str, folder: Path | None) -> Model:
    if name != "tiny":
        raise UnknownName("model", name, ["tiny"])
    return replace(factories.model(), max_context=8192)


CATALOG = Catalog(find_gpu, find_model, lambda: ["fp8", "w4a16"])

WORKLOAD: dict[str, Plain] = {
    "ratePerSecond": 10,
    "buckets": [
        {"inputTokens": 512, "outputTokens": 128, "share": 0.75},
        {"inputTokens": 4096, "outputTokens": 512, "share": 0.25},
    ],
}
SERVICE: dict[str, Plain] = {
    "apiVersion": "muster.dev/v1alpha1",
    "kind": "GPUService",
    "metadata": {"name": "chat", "labels": {"team": "a"}},
    "spec": {
        "model": "tiny",
        "workload": WORKLOAD,
        "slos": [
            {"name": "fast", "ttft": "500ms", "tpot": "50ms", "percentile": "p95", "share": 0.8},
            {"name": "slow", "e2e": "30s", "percentile": "p90", "share": 0.2},
        ],
        "qualityFloor": 0.98,
        "priority": 1,
        "constraints": {
            "gpuTypes": {"allowed": ["G1", "G2"], "excluded": ["Unpriced"]},
            "budgetPerHour": "$40",
            "redundancy": {"replicas": 1, "nodes": 1},
            "zones": {"min": 2, "maxShare": 0.7},
            "maxSpotShare": 0.5,
            "minReplicas": 1,
            "maxReplicas": 9,
            "techniques": ["fp8"],
        },
        "engine": "sglang",
        "approval": "Manual",
    },
}
GROUP: dict[str, Plain] = {"name": "plain", "gpu": "G1", "gpusPerNode": 1, "nodes": 2, "zone": "a"}
INVENTORY: dict[str, Plain] = {
    "apiVersion": "muster.dev/v1alpha1",
    "kind": "ClusterInventory",
    "metadata": {"name": "lab"},
    "spec": {
        "energyPrice": "$0.36/kWh",
        "powerDomains": [{"name": "rack", "budget": "40kW"}],
        "nodeGroups": [
            {**GROUP, "name": "own", "gpusPerNode": 8, "owned": True, "powerDomain": "rack"},
            {
                "name": "rent",
                "gpu": "G2",
                "gpusPerNode": 4,
                "nodes": 3,
                "zone": "b",
                "commitment": {"gpus": 4, "pricePerHour": "$0.90"},
                "networkBandwidth": "100Gbps",
            },
            {**GROUP, "name": "cheap", "zone": "b", "spot": True, "pricePerHour": "$0.30"},
        ],
        "links": [{"between": ["a", "b"], "bandwidth": "10Gbps", "latency": "1ms"}],
    },
}


def changed(document: Plain, path: NodePath, value: Plain) -> Plain:
    """A copy of a document with the value at a path set."""
    copy = deepcopy(document)
    _place(copy, path[:-1])[path[-1]] = value
    return copy


def without(document: Plain, path: NodePath) -> Plain:
    """A copy of a document with one key or entry left out."""
    copy = deepcopy(document)
    del _place(copy, path[:-1])[path[-1]]
    return copy


def _place(value: Any, path: NodePath) -> Any:
    """The mapping or list at a path."""
    for step in path:
        value = value[step]
    return value


def service_with(changes: Mapping[NodePath, Plain]) -> Plain:
    """The service document with values below `spec` set."""
    document: Plain = SERVICE
    for path, value in changes.items():
        document = changed(document, ("spec", *path), value)
    return document


def written(folder: Path, *documents: Plain, name: str = "spec.yaml") -> Path:
    """A file with the documents."""
    path = folder / name
    path.write_text("---\n".join(map(dump, documents)), "utf-8")
    return path


def service_of(folder: Path, document: Plain) -> ServiceSpec:
    """The one service that a document describes."""
    [service] = load_services(written(folder, document), CATALOG)
    return service


def inventory_of(folder: Path, document: Plain) -> Inventory:
    """The inventory that a document describes."""
    return load_inventory(written(folder, document), CATALOG)


def problems(folder: Path, *documents: Plain) -> list[str]:
    """Every problem of a file with the documents, less the folder it stands in."""
    return [line.removeprefix(f"{folder}/") for line in validate(written(folder, *documents), CATALOG)]
