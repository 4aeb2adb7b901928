"""Plans on disk: kind `Plan`, the one format that planning writes and that re-planning, simulation and manifests read.

Keys are camelCase; figures are plain numbers in the unit that the key names, so that a plan read back is the plan
written, to the last bit.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from planner.errors import BadInput
from planner.plan import Plan
from planner.view import JSON, plan_json
from planner.yaml_text import Document, Plain, dump, read, show_path

API_VERSION = "muster.dev/v1alpha1"
_AS_WRITTEN = {"one_type_usd_per_hour", "idle_cold_start_s", "usable_gpus"}  # keys are names of GPUs and services
_RECIPE = ("gpu", "tp", "pp", "ep", "max_batch", "techniques", "power_cap_w")
_PLAN = TypeAdapter(Plan)


def plan_text(plan: Plan, name: str) -> str:
    """The plan as YAML."""
    spec = _camel(plan_json(plan))
    return dump({"apiVersion": API_VERSION, "kind": "Plan", "metadata": {"name": name}, "spec": spec})


def load_plan(path: Path) -> Plan:
    """Read a plan; raises BadInput with file, line, what, got and allowed."""
    documents = read(path)
    if len(documents) != 1:
        raise BadInput(f"{path}: got {len(documents)} documents, allowed: one Plan")
    document = documents[0]
    top = document.root.plain()
    if not isinstance(top, dict) or top.get("kind") != "Plan" or top.get("apiVersion") != API_VERSION:
        raise BadInput(f"{path}: got something else, allowed: apiVersion: {API_VERSION} and kind: Plan")
    spec = top.get("spec")
    if not isinstance(spec, dict):
        raise BadInput(f"{path}: spec: got {type(spec).__name__}, allowed: what `muster plan -o` writes")
    try:
        return _PLAN.validate_python(_shape(spec))
    except ValidationError as error:
        raise BadInput(_said(error, document)) from None
    except (TypeError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: spec: not a plan that `muster plan -o` wrote: {error}") from None


def _said(error: ValidationError, document: Document) -> str:
    first = error.errors(include_url=False)[0]
    path = ("spec", *(_camel_key(step) if isinstance(step, str) else step for step in first["loc"]))
    return f"{document.file}: {show_path(path)}: {first['msg']}, got {str(first['input'])[:60]!r}"


def _camel_key(key: str) -> str:
    head, *tail = key.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _snake_key(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", key)


def _camel(value: JSON) -> Plain:
    if isinstance(value, Mapping):
        return {_camel_key(k): _plain(v) if k in _AS_WRITTEN else _camel(v) for k, v in value.items()}
    return [_camel(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _plain(value: JSON) -> Plain:
    return {k: _camel(v) for k, v in value.items()} if isinstance(value, Mapping) else _camel(value)


def _snake(value: Plain) -> Plain:
    if isinstance(value, dict):
        keyed = {_snake_key(k): v for k, v in value.items()}
        return {k: v if k in _AS_WRITTEN else _snake(v) for k, v in keyed.items()}
    return [_snake(item) for item in value] if isinstance(value, list) else value


def _shape(spec: dict[str, Plain]) -> dict[str, object]:
    """The view turned back into the fields of `Plan`."""
    snake = _snake(spec)
    assert isinstance(snake, dict)
    fields: dict[str, object] = dict(snake)
    fields["one_type"] = fields.pop("one_type_usd_per_hour", {})
    rows = fields.get("allocations")
    if not isinstance(rows, list):
        raise ValueError("allocations is not a list")
    fields["allocations"] = [_allocation(dict(row)) for row in rows]
    return fields


def _allocation(row: dict[str, object]) -> dict[str, object]:
    row["recipe"] = {key: row.pop(key) for key in _RECIPE if key in row}
    shares = row.get("shares")
    if not isinstance(shares, list) or not all(isinstance(s, list) and len(s) == 4 for s in shares):
        raise ValueError("shares is not a list of [SLO class, input tokens, output tokens, share]")
    row["shares"] = {(name, inputs, outputs): share for name, inputs, outputs, share in shares}
    return row
