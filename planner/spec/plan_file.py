"""Plans on disk: kind `Plan`, the one format that planning writes and that re-planning, simulation and manifests read.

Keys are camelCase; figures are plain numbers in the unit that the key names, so that a plan read back is the plan
written, to the last bit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.errors import BadInput
from planner.plan import Plan
from planner.spec.fields import camel
from planner.spec.load import load_objects
from planner.view import JSON, plan_json
from planner.yaml_text import Plain, dump

API_VERSION = "muster.dev/v1alpha1"
_AS_WRITTEN = {
    "one_type_usd_per_hour",
    "idle_cold_start_s",
    "usable_gpus",
    "efficiency",
    "flags",
}  # keys are names of GPUs, services and flags


def plan_document(plan: Plan, name: str) -> dict[str, Plain]:
    """The plan as an object of kind Plan."""
    return {"apiVersion": API_VERSION, "kind": "Plan", "metadata": {"name": name}, "spec": _camel(plan_json(plan))}


def plan_text(plan: Plan, name: str) -> str:
    """The plan as YAML."""
    return dump(plan_document(plan, name))


def load_plan(path: Path) -> Plan:
    """The one plan of a file; raises BadInput with a line for each problem of the file."""
    plans = [found for found in load_objects(path) if isinstance(found, Plan)]
    if not plans:
        raise BadInput(f"{path}: got no Plan, allowed: a file with one, as `muster plan -o` writes it")
    return plans[0]


def _camel(value: JSON) -> Plain:
    if isinstance(value, Mapping):
        return {camel(k): _plain(v) if k in _AS_WRITTEN else _camel(v) for k, v in value.items()}
    return [_camel(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _plain(value: JSON) -> Plain:
    return {k: _camel(v) for k, v in value.items()} if isinstance(value, Mapping) else _camel(value)
