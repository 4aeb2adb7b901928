"""CustomResourceDefinitions from the kinds: `python -m controller.crds.generate FOLDER...` writes them."""

import sys
from pathlib import Path
from typing import Any

from controller.crds.kinds import GROUP, KINDS, VERSION, Kind
from controller.crds.rules import RULES, Rule
from controller.crds.structural import Schema, structural
from planner.yaml_text import dump

FOLDERS = ("deploy/crds", "deploy/chart/muster/files/crds")  # for people and kubectl; a chart reads its own files alone
_HEAD = f"# Generated from controller/crds by: python -m controller.crds.generate {' '.join(FOLDERS)}\n"


_NAMES: Schema = {
    "name": {"type": "string", "description": "Name of the object.", "maxLength": 63},
    "generateName": {"type": "string", "description": "Beginning of a name that the server ends.", "maxLength": 63},
}


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema(kind)},
        "subresources": {"status": {}, **({"scale": kind.scale} if kind.scale else {})},
        "additionalPrinterColumns": [
            *({"name": row.name, "type": row.type, "jsonPath": row.path} | ({"priority": 1} if row.priority else {})
              for row in kind.columns),
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }  # fmt: skip
    names = {
        "kind": kind.name, "listKind": f"{kind.name}List", "plural": kind.plural, "singular": kind.name.lower(),
        "shortNames": [kind.short], "categories": ["all", "muster"],
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }


def schema(kind: Kind) -> Schema:
    """The structural schema of a kind, with its rules in CEL."""
    made: Schema = {
        "type": "object",
        "description": structural(kind.spec)["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this format."},
            "kind": {"type": "string", "description": "What this object is."},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": structural(kind.status),
        },
    }
    for rule in RULES:
        if rule.kind == kind.name:
            if not rule.at:  # of the metadata a schema may bound the names alone, and CEL's cost wants a bound
                made["properties"]["metadata"] = {"type": "object", "properties": _NAMES}
            _at(made, rule.at).setdefault("x-kubernetes-validations", []).append(_validation(rule))
    return made


def _at(node: Schema, path: tuple[str, ...]) -> Schema:
    for step in path:
        node = node["items"] if step == "*" else node["properties"][step]
    return node


def _validation(rule: Rule) -> dict[str, str]:
    said = {"rule": rule.cel, "message": rule.message, "reason": rule.reason}
    return said | ({"fieldPath": rule.field} if rule.field else {})


def text(kind: Kind) -> str:
    """The file of a kind."""
    return _HEAD + dump(crd(kind))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        for kind in KINDS:
            (Path(folder) / f"{kind.plural}.yaml").write_text(text(kind), encoding="utf-8")
