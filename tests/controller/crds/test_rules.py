"""Each rule says the same in CEL, as the generated files carry it, and in Python."""

from typing import Any

import celpy
import pytest
import re2
from celpy.adapter import json_to_cel

from controller.crds.generate import schema
from controller.crds.kinds import KINDS
from controller.crds.rules import RULES, Broken, Rule, broken
from tests.controller.crds.test_crds import nodes_of

# Values at a path, some that hold and some that break each rule there.
RATE = {"ratePerSecond": 1.0}
TABLE = {"buckets": [{"inputTokens": 1, "outputTokens": 1, "share": 1.0}]}
DRAWN: dict[str, Any] = {"distribution": {}}
A, B = {"name": "a", "ttft": "1s", "share": 0.5}, {"name": "b", "tpot": "1s"}
PLAIN = {"name": "g", "owned": False, "spot": False, "gpu": "L4"}
NAMES = ("chat", "c", "9chat", "a.b", "-chat", "chat-", "Chat", "chat-9", "a" * 63, "a" * 64, "")
VALUES: dict[tuple[str, ...], list[dict[str, Any]]] = {
    (): [{"metadata": {"name": name}} for name in NAMES],
    ("spec", "workload"): [
        {}, RATE, {"rates": {}}, {**RATE, "rates": {}}, TABLE, DRAWN, {**TABLE, **DRAWN}, {**RATE, "trace": "a.csv"},
    ],
    ("spec", "workload", "rates"): [{}, {"perSecond": [1.0]}],
    ("spec",): [
        {"deployment": "online"}, {"deployment": "batch"}, {"deployment": "online", "slos": [B]},
        {"deployment": "batch", "slos": [A]}, {"deployment": "online", "slos": [A, B]},
        {"deployment": "online", "slos": [A, {**B, "share": 0.5}]},
    ],
    ("spec", "slos", "*"): [{"name": "a"}, A, B, {"name": "a", "e2e": "1s"}],
    ("spec", "constraints"): [
        {"minReplicas": 2}, {"minReplicas": 2, "maxReplicas": 2}, {"minReplicas": 3, "maxReplicas": 2},
        {"minReplicas": 0, "maxReplicas": 2, "redundancy": {"replicas": 2}},
        {"minReplicas": 0, "maxReplicas": 2, "redundancy": {"replicas": 1}},
        {"minReplicas": 0, "redundancy": {"replicas": 9}},
    ],
    ("spec", "constraints", "gpuTypes"): [
        {"excluded": []}, {"allowed": ["H100"], "excluded": ["L4"]}, {"allowed": ["L4", "H100"], "excluded": ["L4"]},
    ],
    ("spec", "serving", "weights"): [{}, {"pvc": {}}, {"image": {}}, {"pvc": {}, "huggingFace": {}}],
    ("spec", "nodeGroups", "*"): [
        PLAIN, {**PLAIN, "owned": True}, {**PLAIN, "owned": True, "pricePerHour": "$1"}, {**PLAIN, "spot": True},
        {**PLAIN, "spot": True, "pricePerHour": "$1"}, {**PLAIN, "owned": True, "spot": True},
        {**PLAIN, "commitment": {}}, {**PLAIN, "owned": True, "commitment": {}},
        {**PLAIN, "spot": True, "pricePerHour": "$1", "commitment": {}},
        {"name": "g", "owned": False, "spot": False}, {"name": "g", "owned": False, "spot": False, "nodeSelector": {}},
        {"name": "g", "owned": False, "spot": False, "nodeSelector": {"a": "b"}},
    ],
}  # fmt: skip
PLANS = [({"service": "a"}, {"service": "a"}), ({"service": "b"}, {"service": "a"})]


def in_cel(rule: str, new: dict[str, Any], old: dict[str, Any] | None) -> bool:
    made = celpy.Environment()
    program = made.program(made.compile(rule))
    return bool(program.evaluate({"self": json_to_cel(new), "oldSelf": json_to_cel(old or {})}))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.kind}-{'.'.join(rule.at)}-{rule.field}")
def test_cel_and_python_agree_and_each_rule_holds_for_some_and_not_for_others(rule: Rule) -> None:
    pairs = PLANS if rule.on_change else [(value, None) for value in VALUES[rule.at]]
    python = [rule.holds(new, old) for new, old in pairs]
    assert python == [in_cel(rule.cel, new, old) for new, old in pairs]
    assert set(python) == {True, False}


def test_every_rule_stands_in_a_schema_with_a_field_that_it_has() -> None:
    found = []
    for kind in KINDS:
        for _, node in nodes_of(schema(kind)):
            for row in node.get("x-kubernetes-validations", ()):
                found.append((row["rule"], row["message"]))
                blamed = node
                for step in row.get("fieldPath", "").split(".")[1:]:
                    blamed = blamed["properties"][step]
    assert sorted(found) == sorted((rule.cel, rule.message) for rule in RULES)


def test_every_pattern_is_one_for_re2() -> None:
    for kind in KINDS:
        for _, node in nodes_of(schema(kind)):
            re2.compile(node.get("pattern", ""))


def test_what_is_broken_is_named_with_its_path() -> None:
    spec = {"deployment": "online", "workload": {**RATE, **TABLE}, "slos": [A, {"name": "b", "share": 0.5}]}
    assert broken("GPUService", {"spec": spec}) == [
        Broken("spec.slos[1]", "FieldValueRequired", "got no latency, allowed: at least one of ttft, tpot, e2e")
    ]
    named = {
        "metadata": {"name": "9chat"},
        "spec": {"deployment": "online", "workload": {**RATE, **TABLE}, "slos": [A]},
    }
    assert [row.path for row in broken("GPUService", named)] == ["metadata.name"]
    assert broken("Plan", {"spec": {"service": "a"}}) == []
    moved = broken("Plan", {"spec": {"service": "b"}}, {"spec": {"service": "a"}})
    assert [row.path for row in moved] == ["spec.service"]
