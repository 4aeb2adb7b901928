"""Objects in files, as people give them to commands: one or several documents, YAML or JSON (which is YAML)."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.web.checks import checked
from controller.web.tables import Resource, of_kind
from planner.errors import BadInput, UnknownName
from planner.yaml_text import MAX_BYTES, Document, parse, read, read_path

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Given:
    """An object of a file, and how it is called in a cluster."""

    obj: dict[str, Any]
    resource: Resource
    namespace: str
    name: str
    document: Document

    @property
    def path(self) -> str:
        """Where the API has it."""
        space = f"{self.namespace}/" if self.resource.namespaced else ""
        return f"/{self.resource.path}/{space}{self.name}"

    def at(self, path: str) -> str:
        """File, line and path of a value; `path` as the API writes it."""
        place = f"{self.document.file}:{self.document.line(read_path(path))}"
        return f"{place}: {path}" if path else place

    def problems(self) -> list[str]:
        """All that is wrong with it, as the server would say it, with file and line."""
        found = checked(self.resource.kind, self.obj, namespace=self.namespace, name=self.name).problems
        return [f"{self.at(one.path)}: {one.detail}" for one in found]

    def __str__(self) -> str:
        return f"{self.resource.kind.lower()}/{self.name}"


def given(files: Sequence[str], namespace: str) -> list[Given]:
    """All objects of some files, in their order; raises BadInput. `namespace`: of those that name none."""
    if not files:
        raise BadInput("-f: got no file, allowed: -f FILE, or -f - for standard input")
    documents = [one for file in files for one in _documents(file)]
    return [_given(one, namespace) for one in documents]


def _documents(file: str) -> Sequence[Document]:
    if file == STANDARD_INPUT:
        return parse(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    return read(Path(file))


def _given(document: Document, namespace: str) -> Given:
    obj = document.root.plain()
    if not isinstance(obj, dict):
        raise BadInput(
            f"{document.where(())}: got no mapping, allowed: an object with apiVersion, kind, metadata and spec"
        )
    kind, meta = obj.get("kind"), obj.get("metadata")
    try:
        resource = of_kind(str(kind))
    except UnknownName as error:
        raise BadInput(f"{document.where(('kind',))}: {error}") from None
    name = meta.get("name") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(name, str) or not name:
        raise BadInput(f"{document.where(('metadata', 'name'))}: got no name, allowed: a name")
    said = str(meta.get("namespace") or namespace or "default")
    if namespace and meta.get("namespace") not in (None, namespace):
        raise BadInput(f"{document.where(('metadata', 'namespace'))}: got {said!r}, allowed: {namespace}, as -n says")
    return Given(dict(obj), resource, said if resource.namespaced else "", name, document)
