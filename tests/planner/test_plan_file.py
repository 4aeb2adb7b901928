"""Kind Plan: what is written is what is read, and whatever else is in the file is refused in one line."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.decide import decide
from planner.errors import BadInput
from planner.options import Objective
from planner.plan import Plan, Refusal
from planner.spec.plan_file import load_plan, plan_text
from planner.yaml_text import Plain, dump, parse
from tests.planner.factories import SMALL, group, inventory, profile, service


def made() -> Plan:
    """A plan with two allocations, a refusal, a comparison and an idle service."""
    groups = inventory(group("a"), group("b", "G2", usd=0.2))
    offers = [profile(), profile(gpu_name="G2", load={SMALL: 0.2}), profile("idle")]
    both = [service(), service("idle", {SMALL: 0.0})]
    plan = decide(both, offers, groups, Objective(), {}, Search(), compare=True)
    return replace(plan, refused=(Refusal("chat", "2xG1 tp2", "too: [large]\n'really'"),), solve_s=1 / 3)


def test_a_plan_read_back_is_the_plan_written(tmp_path: Path) -> None:
    plan = made()
    (tmp_path / "plan.yaml").write_text(plan_text(plan, "chat"), encoding="utf-8")

    assert load_plan(tmp_path / "plan.yaml") == plan
    assert len(plan.allocations) == 2
    assert plan.idle_cold_start_s == {"idle": 60.0}


def refusal(tmp_path: Path, text: str) -> str:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as refused:
        load_plan(path)
    return str(refused.value)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    text = plan_text(made(), "chat").replace("kind: Plan", "kind: GPUService")
    assert "allowed: apiVersion: muster.dev/v1alpha1 and kind: Plan" in refusal(tmp_path, text)


def test_a_wrong_value_is_named_with_its_place(tmp_path: Path) -> None:
    said = refusal(tmp_path, plan_text(made(), "chat").replace("replicas: 1\n", "replicas: many\n"))
    assert "spec.allocations[0].replicas" in said
    assert "'many'" in said


def said_of(path: Path) -> str:
    try:
        load_plan(path)
    except BadInput as error:
        return str(error)
    return "a plan"


@given(st.data())
def test_a_damaged_plan_is_refused_or_read_never_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    top = parse(plan_text(made(), "chat").encode(), "plan")[0].root.plain()
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
    assert "\n" not in said_of(path)
