"""YAML text to plain values with the line of each, and values to text: the one module that imports YAML.

Only data is read: no tags, no merge keys. Plain scalars follow the core schema of YAML 1.2, so `no` is a word and
not a falsehood. Whatever the bytes, the outcome is documents or BadInput: size, depth and the growth of aliases
are bounded.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import yaml

from planner.errors import BadInput
from planner.units import got

Scalar: TypeAlias = str | int | float | bool | None
Plain: TypeAlias = "Scalar | list[Plain] | dict[str, Plain]"
NodePath: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 64
MAX_NODES = 400_000  # after aliases are expanded
_MAX_INTEGER_DIGITS = 18

_NULL = {"", "~", "null", "Null", "NULL"}
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]{1,9})\]|\['([^']*)'\]")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Node:
    """One value and where it stands (lines and columns from 1); `nodes` counts it and all below it."""

    line: int
    column: int
    value: Scalar | tuple["Node", ...] | Mapping[str, "Node"]
    nodes: int = 1

    def child(self, step: str | int) -> "Node | None":
        """What a key or an index leads to."""
        if isinstance(self.value, tuple) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        if isinstance(self.value, Mapping) and isinstance(step, str):
            return self.value.get(step)
        return None

    def plain(self) -> Plain:
        """The value without positions."""
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        return self.value


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    file: str
    root: Node

    def where(self, path: NodePath) -> str:
        """`chat.yaml:14: spec.slo[0].ttft`; the line is that of the nearest value there is."""
        place, shown = f"{self.file}:{self.line(path)}", show_path(path)
        return f"{place}: {shown}" if shown else place

    def line(self, path: NodePath) -> int:
        """The line of the nearest value there is."""
        node = self.root
        for step in path:
            child = node.child(step)
            if child is None and step == 0 and isinstance(node.value, Mapping):
                continue  # one mapping where a list may stand: read as a list of one
            if child is None:
                break
            node = child
        return node.line


def show_path(path: NodePath) -> str:
    """A path as people write it: `spec.slo[0].ttft`, `metadata.labels['a/b']`."""
    text = ""
    for step in path:
        if isinstance(step, str) and _PLAIN_KEY.fullmatch(step) and len(step) <= 60:
            text += f".{step}"
        else:
            text += f"[{got(step)}]"
    return text.removeprefix(".")


def read_path(text: str) -> NodePath:
    """The path that `show_path` wrote, as far as it can be told."""
    steps: list[str | int] = []
    for word, index, quoted in _STEP.findall(text):
        steps.append(int(index) if index else quoted or word)
    return tuple(steps)


def read(path: Path) -> tuple[Document, ...]:
    """All documents of a file that are not empty, at least one; raises BadInput."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{path}: cannot be read ({reason}), allowed: a readable YAML file") from error
    return parse(data, str(path))


def parse(data: bytes, file: str, most_nodes: int = MAX_NODES) -> tuple[Document, ...]:
    """All documents in `data` that are not empty, at least one; raises BadInput, which names `file` and the line."""
    if len(data) > MAX_BYTES:
        raise BadInput(f"{file}: got more than {MAX_BYTES >> 20} MiB, allowed: at most that")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{file}:{line}: got bytes that are no UTF-8 text, allowed: YAML in UTF-8") from error
    try:
        documents = tuple(_Composer(file, text, most_nodes).documents())
    except yaml.YAMLError as error:
        raise BadInput(_syntax_message(error, text, file)) from error
    if not documents:
        raise BadInput(f"{file}: got no document, allowed: at least one YAML document with apiVersion, kind and spec")
    return documents


def dump(value: Plain) -> str:
    """The value as YAML that `parse` reads back as the same value, keys in their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Dumper(yaml.CSafeDumper):
    """Writes every value out in full, and quotes each text that a reader of YAML 1.2 would take for something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    quoted = _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if quoted else None)


_Dumper.add_representer(str, _represent_text)


def _syntax_message(error: yaml.YAMLError, text: str, file: str) -> str:
    """Where and why a text is no YAML, on one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        place = f"{file}:{error.problem_mark.line + 1}"
        what = f"{error.problem} in column {error.problem_mark.column + 1}"
    else:
        what = str(error).splitlines()[0]
        at = text.encode()[: getattr(error, "position", 0)]  # a control character is told by its byte
        place = f"{file}:{at.count(10) + 1}"
    return f"{place}: got text that is no YAML ({what}), allowed: YAML, indented with spaces"


def _position(event: yaml.Event) -> tuple[int, int]:
    """Line and column, from 1."""
    assert event.start_mark is not None  # only events that are made by hand have none
    return event.start_mark.line + 1, event.start_mark.column + 1


def _is_plain(event: yaml.ScalarEvent) -> bool:
    """Whether a scalar stands without quotes."""
    return bool(event.implicit[0])


class _Composer:
    """Events of the parser to nodes, one document after the other; the anchors of a document end with it."""

    def __init__(self, file: str, text: str, most_nodes: int) -> None:
        self._file, self._most_nodes = file, most_nodes
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                root = self._node(next(self._events), 0)
                if root.value is not None:
                    yield Document(self._file, root)

    def _refuse(self, event: yaml.Event, what: str, allowed: str) -> BadInput:
        return BadInput(f"{self._file}:{_position(event)[0]}: got {what}, allowed: {allowed}")

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._refuse(event, "deeper nesting", f"{MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            node = self._anchors.get(str(event.anchor))
            if node is None:
                raise self._refuse(event, f"the alias {got(event.anchor)}", "aliases of an anchor above")
            self._count(event, node.nodes)
            return node
        assert isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent))  # all that is left where a value stands
        self._count(event, 1)
        if event.tag is not None:
            raise self._refuse(event, f"the tag {got(event.tag)}", "plain values without tags")
        node = self._untagged(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > self._most_nodes:
            raise self._refuse(event, "more values (aliases expanded)", f"{self._most_nodes} in a file")

    def _untagged(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, depth: int) -> Node:
        line, column = _position(event)
        if isinstance(event, yaml.ScalarEvent):
            return Node(line, column, self._scalar(event) if _is_plain(event) else event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            items = tuple(self._items(depth + 1))
            return Node(line, column, items, 1 + sum(item.nodes for item in items))
        entries = self._entries(depth + 1)
        return Node(line, column, MappingProxyType(entries), 1 + sum(node.nodes for node in entries.values()))

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth)

    def _entries(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self._refuse(event, "a key that is no word", "words as keys")
            if event.value == "<<" and _is_plain(event):
                raise self._refuse(event, "the merge key <<", "each key written out")
            key = event.value
            if key in entries:
                first = entries[key].line
                raise self._refuse(event, f"the key {got(key)} again (first in line {first})", "each key once")
            child = self._node(next(self._events), depth)
            line, column = _position(event)
            entries[key] = replace(child, line=line, column=column)
        return entries

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text = event.value
        if text in _NULL:
            return None
        if text in _TRUTH:
            return _TRUTH[text]
        if _INTEGER.fullmatch(text):
            if len(text.lstrip("+-")) > _MAX_INTEGER_DIGITS:
                raise self._refuse(event, f"the number {got(text)}", f"integers of {_MAX_INTEGER_DIGITS} digits")
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _NOT_FINITE.fullmatch(text):
            return float(text.replace(".", ""))
        return str(text)
