"""The OpenAPI document: schemas of all that is sent and answered, made from the types that the code uses."""

import re
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from controller.crds.kinds import DomainSpec, InventorySpec
from controller.names import API_VERSION
from controller.web import model
from controller.web.examples import EXAMPLES
from controller.web.explore import Curves, DryRun, Explained
from controller.web.faults import PlayedFault
from controller.web.metrics_known import METRICS
from controller.web.objects import Done, Validity
from controller.web.problems import Problem
from controller.web.simulating import Simulated
from controller.web.tokens import SCOPES
from planner.spec.gpuservice import ServiceShape
from planner.spec.schema import Terse

_AT = "#/components/schemas/{model}"
_VIEWS: Mapping[str, type] = {
    "Problem": Problem, "Validity": Validity, "Done": Done, "DryRun": DryRun, "Curves": Curves, "Explained": Explained,
    "Overview": model.Overview, "ServiceDetail": model.ServiceDetail, "PlanView": model.PlanView,
    "PlanHistory": model.History, "PlanDiff": model.PlanDiff, "NodeRow": model.NodeRow, "GpuTile": model.GpuTile,
    "DomainRow": model.DomainRow, "Simulated": Simulated, "EventRow": model.EventRow,
    "PlayedFault": PlayedFault,
}  # fmt: skip
_SPECS: Mapping[str, tuple[type[BaseModel], bool]] = {
    "GPUService": (ServiceShape, True),
    "ClusterInventory": (InventorySpec, False),
    "PowerDomain": (DomainSpec, False),
}
Schema = dict[str, Any]


def openapi(app: FastAPI, secured: bool) -> Schema:
    """The document, made once and kept in the application."""
    if app.openapi_schema is None:
        made = get_openapi(
            title="Muster", version="1", summary="Plans and runs language models on GPUs.",
            description=_WORDS, routes=app.routes,
        )  # fmt: skip
        parts = made.setdefault("components", {})
        parts["schemas"] = _schemas()
        if secured:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"token": []}]
        for path in made["paths"].values():
            for operation in path.values():
                _tidy(operation, secured)
        app.openapi_schema = made
    return app.openapi_schema


_WORDS = (
    "Objects are those of Kubernetes (GPUService, ClusterInventory, PowerDomain), in JSON or YAML; views have "
    "snake_case keys that carry their units, and times are Unix seconds by the cluster's clock. Refusals are "
    "problem details (RFC 9457). Writes name the version that they were decided on (ETag, If-Match)."
)


def methods(app: FastAPI, path: str) -> list[str]:
    """The methods that a path knows, as the document has it; literal paths come before those with parameters."""
    for pattern, known in _patterns(app):
        if pattern.fullmatch(path):
            return known
    return []


def _patterns(app: FastAPI) -> list[tuple[re.Pattern[str], list[str]]]:
    if (found := getattr(app.state, "patterns", None)) is None:
        paths = app.openapi()["paths"]
        found = [
            (re.compile(re.sub(r"\\{[a-z]+\\}", "[^/]+", re.escape(path))), sorted(map(str.upper, operations)))
            for path, operations in sorted(paths.items(), key=lambda row: row[0].count("{"))
        ]
        app.state.patterns = found
    return cast(list[tuple[re.Pattern[str], list[str]]], found)


def _tidy(operation: Schema, secured: bool) -> None:
    """Our own statuses in the place of FastAPI's, and none that cannot be."""
    replies = operation["responses"]
    for status, reply in replies.items():
        wrong = reply.get("content", {}).get("application/json", {})
        if status.startswith("2") and wrong.get("schema") == {} and len(reply["content"]) > 1:
            del reply["content"]["application/json"]  # FastAPI's default beside the media type that is ours
    if not secured:
        replies.pop("401", None)
    for body in (operation.get("requestBody", {}), *replies.values()):
        for content in body.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in EXAMPLES:
                content["example"] = EXAMPLES[name]  # FastAPI leaves out what is null


def _schemas() -> Schema:
    found: Schema = {}
    for name, kind in _VIEWS.items():
        made = TypeAdapter[object](kind).json_schema(ref_template=_AT, mode="serialization")
        found |= made.pop("$defs", {})
        found[name] = made
    for name, (shape, namespaced) in _SPECS.items():
        made = shape.model_json_schema(by_alias=True, schema_generator=Terse, ref_template=_AT)
        found |= made.pop("$defs", {})
        found[f"{name}Spec"] = made
        found[name] = _object(name, namespaced, answered=False)
        found[f"{name}Object"] = _object(name, namespaced, answered=True)
        found[f"{name}Patch"] = _patch(name)
    return found | _OTHERS


def _object(name: str, namespaced: bool, answered: bool) -> Schema:
    """An object as it is sent, or as it is answered: then the cluster has said things of it too."""
    dns = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
    words = {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 256}
    meta: Schema = {"name": dns, "labels": words, "annotations": words}
    if namespaced:
        meta["namespace"] = dns
    required = ["apiVersion", "kind", "metadata", "spec"]
    made: Schema = {
        "type": "object",
        "required": required,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": name},
            "metadata": {"type": "object", "required": ["name"], "properties": meta},
            "spec": {"$ref": _AT.format(model=f"{name}Spec")},
        },
    }
    if answered:
        meta |= {"resourceVersion": {"type": "string"}, "uid": {"type": "string"}}
        made["properties"]["status"] = {"type": "object", "description": "What Muster last saw and did."}
    else:
        made["additionalProperties"] = False
        made["properties"]["metadata"]["additionalProperties"] = False
    return made


def _patch(name: str) -> Schema:
    words = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}}
    return {
        "type": "object",
        "description": f"What changes of a {name}; null takes a key away. To apply, the whole object as you want it.",
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": name},
            "metadata": {"type": "object", "properties": {"labels": words, "annotations": words}},
            "spec": {"type": "object"},
        },
    }


_NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
_SCOPES = {"type": "array", "items": {"enum": list(SCOPES)}, "minItems": 1, "maxItems": 8}
_NUMBER = {"type": "number", "minimum": 0}


def _closed(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_OTHERS: Schema = {
    "Anything": {"type": "object", "description": "Any mapping: whether it is a good object is what is asked."},
    "Budget": _closed(["budget"], budget={"type": "string", "description": "Watts with a unit, such as 6kW."}),
    "Approval": _closed(["decision"], decision={"type": "string", "minLength": 1, "maxLength": 63}),
    "Fault": _closed(
        ["node", "gpu", "kind"],
        node={"type": "string", "minLength": 1, "maxLength": 253},
        gpu={"type": "integer", "minimum": 0, "maximum": 255},
        kind={"enum": ["xid", "slow", "lost", "clear"]},
        xid={"type": ["integer", "null"], "minimum": 1, "maximum": 1000, "description": "With kind xid."},
        factor={
            "type": ["number", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 1,
            "description": "With kind slow: the share of its speed that is left.",
        },
    ),
    "Traffic": _closed(
        [],
        rate_per_s={**_NUMBER, "type": ["number", "null"], "description": "Null: the rate of the spec."},
        factor={**_NUMBER, "description": "Times the rate."},
        swing_ratio={**_NUMBER, "maximum": 1, "description": "How far a day's peak is above its mean."},
        peak_s={**_NUMBER, "description": "Seconds into the day of its peak."},
        burst_cv={**_NUMBER, "description": "Coefficient of variation of the time between requests; 1: Poisson."},
    ),
    "Simulation": _closed(
        ["service"],
        service={"type": "string", "pattern": "^[a-z0-9-]{1,63}/[a-z0-9-]{1,63}$", "description": "NAMESPACE/NAME."},
        outcome={"enum": ["current", "proposal", "previous"], "description": "Of the plan; current if left out."},
        rate_per_s={"type": ["number", "null"], "minimum": 0, "maximum": 1e6, "description": "Left out: as planned."},
        duration_s={"type": "number", "minimum": 1, "maximum": 86_400, "description": "Simulated seconds; 600."},
        seed={"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    ),
    "NewToken": _closed(["name", "scopes"], name=_NAME, scopes=_SCOPES),
    "MadeToken": _closed(["name", "scopes", "token"], name=_NAME, scopes=_SCOPES, token={"type": "string"}),
    "Token": _closed(["name", "scopes", "made_s"], name=_NAME, scopes=_SCOPES, made_s={"type": "number"}),
    "Series": _closed(
        ["metric", "subject", "start_s", "end_s", "points"],
        metric={"enum": list(METRICS)}, subject={"type": "string"}, start_s={"type": "number"},
        end_s={"type": "number"},
        points={
            "type": "array", "description": "Unix time and value.",
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        },
    ),
    "Latest": _closed(
        ["metric", "values"], metric={"enum": list(METRICS)},
        values={"type": "object", "additionalProperties": {"type": "number"}},
    ),
}  # fmt: skip
