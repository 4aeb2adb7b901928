"""Kind Plan: what is written is what is read, and whatever else is in the file is refused in one line a problem."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from planner.decide import decide
from planner.errors import BadInput
from planner.options import Objective
from planner.plan import Plan, Refusal
from planner.search import Search
from planner.spec import schema, validate
from planner.spec.plan_file import load_plan, plan_text
from planner.yaml_text import NodePath, Plain, dump, parse
from tests.planner.factories import SMALL, group, inventory, profile, service
from tests.planner.spec_factories import changed, without

SCHEMA = Path(__file__).parents[2] / "deploy" / "schemas" / "plan.json"


def made() -> Plan:
    """A plan with two allocations, a refusal, a comparison and an idle service."""
    groups = inventory(group("a"), group("b", "G2", usd=0.2))
    offers = [profile(), profile(gpu_name="G2", load={SMALL: 0.2}), profile("idle")]
    both = [service(), service("idle", {SMALL: 0.0})]
    plan = decide(both, offers, groups, Objective(), {}, Search(), compare=True)
    return replace(plan, refused=(Refusal("chat", "2xG1 tp2", "too: [large]\n'really'"),), solve_s=1 / 3)


def document() -> Plain:
    """The same plan as plain values."""
    return parse(plan_text(made(), "chat").encode(), "plan")[0].root.plain()


def saved(folder: Path, document: Plain) -> Path:
    path = folder / "plan.yaml"
    path.write_text(dump(document), encoding="utf-8")
    return path


def test_a_plan_read_back_is_the_plan_written(tmp_path: Path) -> None:
    plan = made()
    (tmp_path / "plan.yaml").write_text(plan_text(plan, "chat"), encoding="utf-8")

    assert load_plan(tmp_path / "plan.yaml") == plan
    assert validate(tmp_path / "plan.yaml") == []
    assert len(plan.allocations) == 2
    assert plan.idle_cold_start_s == {"idle": 60.0}


def test_a_plan_of_before_is_read_with_defaults_for_what_it_does_not_say(tmp_path: Path) -> None:
    older = without(document(), ("spec", "oneTypeUnknown"))
    for index in range(2):
        older = without(older, ("spec", "allocations", index, "busyRatio"))
    plan = load_plan(saved(tmp_path, older))
    assert plan.one_type_unknown == ()
    assert [allocation.busy_ratio for allocation in plan.allocations] == [1.0, 1.0]


def test_a_plan_without_replicas_is_a_plan(tmp_path: Path) -> None:
    plan = load_plan(saved(tmp_path, changed(document(), ("spec", "allocations"), [])))
    assert plan.allocations == ()


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as refused:
        load_plan(path)
    assert validate(path) == str(refused.value).splitlines()
    return str(refused.value)


def test_a_file_of_another_kind_holds_no_plan(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"chat\.yaml: got no Plan, allowed: a file with one, as `muster plan -o` writes"
    ):
        load_plan(SCHEMA.parents[1] / "examples" / "chat.yaml")


def test_two_plans_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(plan_text(made(), "chat") + "---\n" + plan_text(made(), "code"), encoding="utf-8")
    assert "kind: got a second Plan, allowed: one in a file" in refusal(path)


def test_a_wrong_value_is_named_with_its_line_and_place(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    text = plan_text(made(), "chat").replace("replicas: 1\n", "replicas: many\n", 1)
    path.write_text(text, encoding="utf-8")
    line = text.splitlines().index("    replicas: many") + 1
    assert refusal(path) == f"{path}:{line}: spec.allocations[0].replicas: got 'many', allowed: a whole number"


FIRST: NodePath = ("allocations", 0)
RANGES: list[tuple[NodePath, Plain, str]] = [
    ((*FIRST, "replicas"), -5, "got -5, allowed: at least 0"),
    ((*FIRST, "replicas"), True, "got True, allowed: a whole number"),
    ((*FIRST, "gpusPerReplica"), 0, "got 0, allowed: at least 1"),
    ((*FIRST, "tp"), 0, "got 0, allowed: at least 1"),
    ((*FIRST, "powerCapW"), 0, "got 0, allowed: more than 0"),
    ((*FIRST, "usdPerHour"), -0.5, "got -0.5, allowed: at least 0"),
    ((*FIRST, "powerW"), float("inf"), "got inf, allowed: a finite number"),
    ((*FIRST, "busyRatio"), 1.5, "got 1.5, allowed: at most 1"),
    ((*FIRST, "predicted", "ttftS"), float("nan"), "got nan, allowed: a finite number"),
    ((*FIRST, "predicted", "e2eS"), -1, "got -1, allowed: at least 0"),
    ((*FIRST, "predicted", "utilisationRatio"), 2, "got 2, allowed: at most 1"),
    ((*FIRST, "shares", 0), ["a", 1, 1, 1.5], "allowed: [SLO class, input tokens, output tokens, share from 0 to 1]"),
    ((*FIRST, "shares", 0), ["a", 1, 1, -0.1], "allowed: [SLO class,"),
    ((*FIRST, "shares", 0), ["a", 1, 1, float("nan")], "allowed: [SLO class,"),
    ((*FIRST, "shares", 0), ["a", 0, 1, 1], "allowed: [SLO class,"),
    ((*FIRST, "shares", 0), ["a", 1, 1, True], "allowed: [SLO class,"),
    ((*FIRST, "shares", 0), ["a", 1], "got a list of 2, allowed: [SLO class,"),
    ((*FIRST, "shares"), [["a", 1, 1, 0.5], ["a", 1, 1, 0.5]], "got a request size a second time, allowed: every size"),
    (("usdPerHour",), float("inf"), "got inf, allowed: a finite number"),
    (("status",), "good", "got 'good', allowed: 'optimal', 'feasible', 'infeasible' or 'unknown'"),
    (("idleColdStartS",), {"idle": -1}, "got -1, allowed: at least 0"),
    (("oneTypeUsdPerHour",), [], "got an empty list, allowed: a mapping"),
    (("allocation",), [], "got the key 'allocation', allowed: status, usdPerHour,"),
]


@pytest.mark.parametrize(("path", "value", "text"), RANGES)
def test_a_figure_out_of_its_range_is_refused(tmp_path: Path, path: NodePath, value: Plain, text: str) -> None:
    assert text in refusal(saved(tmp_path, changed(document(), ("spec", *path), value)))


@pytest.mark.parametrize("path", [("allocations",), (*FIRST, "replicas"), (*FIRST, "predicted", "ttftS"), ("status",)])
def test_what_is_missing_is_named(tmp_path: Path, path: NodePath) -> None:
    said = refusal(saved(tmp_path, without(document(), ("spec", *path))))
    assert f"got nothing, allowed: {path[-1]}, which is required: " in said


def test_an_allocation_that_stands_twice_is_refused(tmp_path: Path) -> None:
    top: Any = document()
    twice = changed(top, ("spec", "allocations"), [*top["spec"]["allocations"], top["spec"]["allocations"][0]])
    said = refusal(saved(tmp_path, twice))
    assert "spec.allocations[2]: got the service, recipe, pool and node group of allocations[0] again" in said


def test_the_shipped_schema_is_that_of_the_type_and_describes_every_key() -> None:
    """To write it anew: `muster schema plan > deploy/schemas/plan.json`."""
    made_schema = schema("plan")
    assert SCHEMA.read_text("utf-8") == json.dumps(made_schema, indent=2) + "\n"
    Draft202012Validator.check_schema(made_schema)
    shapes = [made_schema, *made_schema["$defs"].values()]
    fields = {f"{shape['title']}.{key}": field for shape in shapes for key, field in shape["properties"].items()}
    assert [name for name, field in fields.items() if not field.get("description", "").endswith((".", "share]"))] == []


def test_a_plan_satisfies_its_schema_and_a_wrong_one_does_not() -> None:
    judge = Draft202012Validator(schema("plan"))
    assert list(judge.iter_errors(document())) == []
    beyond_json = ("finite", "second time", "nan")  # rules that a schema has no words for
    for path, value, text in RANGES:
        if not any(word in f"{text} {value}" for word in beyond_json):
            assert list(judge.iter_errors(changed(document(), ("spec", *path), value))), path


def said_of(path: Path) -> list[str]:
    try:
        load_plan(path)
    except BadInput as error:
        return str(error).splitlines()
    return []


@given(st.data())
def test_a_damaged_plan_is_refused_or_read_never_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    top = document()
    value: Plain = top
    for _ in range(data.draw(st.integers(1, 6))):
        inner = value if isinstance(value, dict | list) else None
        if not inner:
            break
        key = data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        if data.draw(st.booleans()) or not isinstance(inner[key], dict | list):  # type: ignore[call-overload, index]  # key fits
            inner[key] = data.draw(st.none() | st.text(max_size=3) | st.floats() | st.just([]) | st.just({}))  # type: ignore[call-overload, index]  # key fits
            break
        value = inner[key]  # type: ignore[call-overload, index]  # key fits
    path = tmp_path_factory.mktemp("plans") / "plan.yaml"
    path.write_text(dump(top), encoding="utf-8")
    assert all(line.isprintable() and ("allowed: " in line or "known: " in line) for line in said_of(path))


def test_a_mapping_from_service_to_nothing_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(dump(changed(document(), ("spec", "efficiency", "chat"), None)), encoding="utf-8")
    said = said_of(path)
    assert len(said) == 1
    assert "spec.efficiency.chat: got nothing, allowed: a mapping with memoryUtilisationRatio" in said[0]
