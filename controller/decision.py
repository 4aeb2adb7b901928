"""One decision about the fleet, from a snapshot of all that it depends on. Pure.

The same snapshot gives the same plan, to the last bit, here or offline. It is plain JSON: the GPUService objects to
plan, each with the rate to plan for, the hardware that they may use (what others hold is taken off), the replicas that
run now, prices of change, and how far to look. The search is bounded by nodes, not by time, so a slow machine decides
alike. Its digest is the id of the decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from controller.specs import service, sized
from planner.catalog import gpu, model
from planner.errors import BadInput
from planner.hardware import Inventory
from planner.options import Objective
from planner.plan import Plan
from planner.planning import plan
from planner.search import Search
from planner.service import ServiceSpec
from planner.spec.fields import Catalog, Context
from planner.spec.load import parse
from planner.technique import Parallelism
from planner.techniques import techniques
from planner.yaml_text import show_path

Object = Mapping[str, Any]
FORMAT = 1
_DIGITS = 12
CONTEXT = Context(Catalog(gpu, model, techniques), Path("/nonexistent"))


def snapshot(
    services: Sequence[tuple[Object, float | None, tuple[float, float]]],
    hardware: Object,
    current: Mapping[tuple[str, str, str, str], int],
    *,
    start_usd: float = 0.5,
    stop_usd: float = 0.0,
    horizon_s: float = 3600.0,
    gap_ratio: float = 0.005,
    nodes: int = 200,
) -> Object:
    """What a decision depends on. `current`: (service, recipe, pool, node group) -> replicas that run."""
    return {
        "format": FORMAT,
        "services": [
            {"object": _kept(obj), "ratePerSecond": rate_per_s, **_sizes(sizes)}
            for obj, rate_per_s, sizes in sorted(services, key=lambda row: _name(row[0]))
        ],
        "hardware": hardware,
        "current": [[*key, count] for key, count in sorted(current.items())],
        "startUsd": start_usd,
        "stopUsd": stop_usd,
        "horizonS": horizon_s,
        "gapRatio": gap_ratio,
        "nodes": nodes,
    }


def _sizes(sizes: tuple[float, float]) -> Object:
    """How many times as long prompts and answers are, where they are not as the spec says."""
    return {} if sizes == (1.0, 1.0) else {"inputRatio": sizes[0], "outputRatio": sizes[1]}


def _name(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", "default"), obj["metadata"]["name"]


def _kept(obj: Object) -> Object:
    """What a plan depends on: how the engines run is not of it, but for the weights that they are given.

    The published ones are in no format that somebody else must quantise a model to, so those are not searched unasked.
    """
    namespace, name = _name(obj)
    spec = {key: value for key, value in obj["spec"].items() if key != "serving"}
    limits = spec.get("constraints") or {}
    if limits.get("techniques") is None and (obj["spec"].get("serving") or {}).get("weights") is None:
        spec["constraints"] = {**limits, "techniques": _of_published_weights()}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, "spec": spec}


def _of_published_weights() -> list[str]:
    """Techniques that are searched unasked and need no checkpoint but the model's own."""
    return sorted(
        name
        for name, made in techniques().items()
        if made.searched and not made.quantised and not issubclass(made, Parallelism)
    )


def decision_id(taken: Object) -> str:
    """The name of the decision that follows from a snapshot."""
    return sha256(orjson.dumps(taken, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_DIGITS]


def decide(taken: Object) -> Plan:
    """The plan for a snapshot; raises BadInput for one that cannot be read."""
    if taken.get("format") != FORMAT:
        raise BadInput(f"snapshot: got format {taken.get('format')!r}, allowed: {FORMAT}")
    services, hardware = _services(taken["services"]), _hardware(taken["hardware"])
    current = {(row[0], row[1], row[2], row[3]): row[4] for row in taken["current"]}
    objective = Objective(
        usd_per_joule=hardware.usd_per_joule,
        start_usd=taken["startUsd"],
        stop_usd=taken["stopUsd"],
        horizon_s=taken["horizonS"],
    )
    search = Search(gap_ratio=taken["gapRatio"], nodes=taken["nodes"])
    return replace(
        plan(services, hardware, objective=objective, current=current, search=search, compare=False), solve_s=0.0
    )


def _services(rows: Sequence[Object]) -> list[ServiceSpec]:
    found = []
    for row in rows:
        read = service(row["object"], row["ratePerSecond"])
        if not isinstance(read, ServiceSpec):
            raise BadInput(f"snapshot: {_name(row['object'])}: {'; '.join(read)}")
        found.append(sized(read, (row.get("inputRatio", 1.0), row.get("outputRatio", 1.0))))
    return found


def _hardware(document: Object) -> Inventory:
    found, problems = parse(dict(document), CONTEXT)
    if problems or not isinstance(found, Inventory):
        raise BadInput("; ".join(f"hardware: {show_path(path)}: {text}" for path, text in problems))
    return found
