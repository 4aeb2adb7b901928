"""A thousand broken specs: each is refused in words, with file and line, and never with a traceback."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from planner.errors import BadInput
from planner.hardware import Inventory
from planner.spec import load_inventory, load_services, schema, validate
from planner.yaml_text import NodePath, Plain, dump, read
from tests.planner.spec_factories import CATALOG, INVENTORY, SERVICE, changed, without

LINE = re.compile(r"spec\.yaml(:[0-9]+)(?:: [^ ].*?)?: (?:got .*, allowed: .+|unknown .+ \(known: .*\))")
NO_LINE = re.compile(r"spec\.yaml: got no document, allowed: .+")
VALIDATORS = {
    "GPUService": Draft202012Validator(schema("gpuservice")),
    "ClusterInventory": Draft202012Validator(schema("inventory")),
}
NESTED: list[Plain] = [[], [[]], [None], [1, 2], {}, {"a": 1}, {"name": "x"}, [{}], [{"share": 1}]]
WRONG: list[Plain] = [
    *(
        None,
        True,
        "",
        " ",
        "x",
        "tiny",
        "G1",
        "peak",
        "p0",
        "p100",
        "\n",
        "\0",
        "\u2028",
        "é" * 300,
        "../..",
        "5",
        "NaN",
        "-1s",
    ),
    *(0, -1, 1, 1.5, 10**17, -(10**17), 1e300, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("500ms", "0s", "999999999999999d", "$0", "$1", "$-1", "80GiB", "1kW", "100Gbps", "$0.12/kWh", "p95", "G9"),
    *NESTED,
]


def paths(value: Plain, before: NodePath = ()) -> list[NodePath]:
    """Every place of a document but its root."""
    steps: list[str | int] = []
    if isinstance(value, dict):
        steps = list(value)
    elif isinstance(value, list):
        steps = list(range(len(value)))
    below = [(step, value[step]) for step in steps]  # type: ignore[index]  # a step of its own
    return [path for step, child in below for path in [(*before, step), *paths(child, (*before, step))]]


def misspelt(document: Any, path: NodePath, key: str) -> Plain:
    """The document with one key written otherwise."""
    value = document
    for step in path:
        value = value[step]
    return changed(without(document, path), (*path[:-1], key), value)


@st.composite
def broken(draw: st.DrawFn) -> Plain:
    """A valid document with one to four mistakes."""
    document: Plain = draw(st.sampled_from([SERVICE, INVENTORY]))
    for _ in range(draw(st.integers(1, 4))):
        places = paths(document)
        if not places:
            break
        path = draw(st.sampled_from(places))
        mistake = draw(st.sampled_from(["wrong", "wrong", "wrong", "absent", "misspelt", "extra"]))
        if mistake == "absent":
            document = without(document, path)
        elif mistake == "misspelt" and isinstance(path[-1], str):
            at = draw(st.integers(0, len(path[-1])))
            document = misspelt(document, path, path[-1][:at] + draw(st.sampled_from("xS_ ")) + path[-1][at + 1 :])
        elif mistake == "extra" and isinstance(path[-1], str):
            document = changed(document, (*path[:-1], draw(st.text(max_size=8))), draw(st.sampled_from(WRONG)))
        else:
            document = changed(document, path, draw(st.sampled_from(WRONG)))
    return document


ANYTHING = st.recursive(
    st.sampled_from(WRONG),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
PIECES = ["---", "kind: GPUService", "spec:", "  - a", "  model: tiny", "? [a]", "&x", "*x", "!!int", "'", "{", "\t"]
RANDOM_YAML = st.text(max_size=200) | st.lists(st.sampled_from(PIECES)).map("\n".join)


@pytest.fixture(scope="module")
def folder() -> Any:
    """A folder for one file after another: hypothesis runs a test many times within one `tmp_path`."""
    with TemporaryDirectory() as name:
        yield Path(name)


def answers(path: Path, text: str) -> list[str]:
    """Every problem of a file with the text; the loaders say the same."""
    path.write_text(text, "utf-8", "surrogatepass")
    found = validate(path, CATALOG)
    for load in (load_services, load_inventory):
        try:
            load(path, CATALOG)
            said = []
        except BadInput as error:
            said = str(error).splitlines()
        if found:
            assert said[:20] == found[:20]
        else:  # a file without problems may still hold another kind
            assert not said or re.search(r"got no (?:GPUService|ClusterInventory), allowed: ", said[0])
    for line in found:
        assert line.isprintable()
        below = line.removeprefix(f"{path.parent}/")
        assert LINE.fullmatch(below) or NO_LINE.fullmatch(below)
    return found


SETTINGS = settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(st.lists(broken(), min_size=1, max_size=2).flatmap(st.permutations))
def test_a_broken_document_is_refused_in_words_and_never_with_a_traceback(folder: Path, documents: list[Plain]) -> None:
    path = folder / "spec.yaml"
    if not answers(path, "---\n".join(map(dump, documents))):
        _holds_what_was_asked(path)


def _holds_what_was_asked(path: Path) -> None:
    """Not every change is a mistake: what is accepted also satisfies the schema, and its figures make sense."""
    for document in read(path):
        top: Any = document.root.plain()
        assert list(VALIDATORS[top["kind"]].iter_errors(top)) == []
        if top["kind"] == "GPUService":
            for service in load_services(path, CATALOG):
                rates = service.workload.rates_per_s
                assert 0 <= service.workload.rate_per_s <= 1.001e9
                assert all(rate >= 0 for rate in rates.values())
                assert {bucket.slo_class for bucket in rates} == {slo.name for slo in service.slos}
        else:
            inventory = load_inventory(path, CATALOG)
            assert isinstance(inventory, Inventory)
            assert all(0 <= group.usd_per_gpu_hour < 1e6 and group.gpus >= 1 for group in inventory.node_groups)


@settings(max_examples=300)
@given(st.sampled_from(["GPUService", "ClusterInventory"]), ANYTHING)
def test_any_value_as_a_spec_is_refused_in_words(folder: Path, kind: str, spec: Plain) -> None:
    document: Plain = {**SERVICE, "kind": kind, "spec": spec}
    assert answers(folder / "spec.yaml", dump(document))


@settings(max_examples=200)
@given(RANDOM_YAML)
@example("\ud800")
@example("a: &a [*a]")
@example("kind: GPUService\nkind: GPUService")
def test_any_text_is_refused_in_words(folder: Path, text: str) -> None:
    assert answers(folder / "spec.yaml", text)
