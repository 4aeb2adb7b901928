"""Every decode rule of NVLink 5 Xids (144 to 150): its words mean what its resolution says."""

import csv
from importlib.resources import files

import pytest

from telemetry.fault import FATAL
from telemetry.xid_policy import catalogue, policy
from tests.telemetry.samples import watch, xid

MEANINGS = {"IGNORE": "ignore", "RESET_GPU": "fatal_gpu", "XID_154_EVAL": "degraded"}
ORDER = ["ignore", "info", "app", "degraded", "fatal_gpu", "fatal_node"]
with (files("telemetry") / "data" / "nvlink5.csv").open(encoding="utf-8") as _file:
    RULES = list(csv.DictReader(_file))


def words(rule: dict[str, str], fill: str) -> list[str]:
    """Kernel lines that fit a rule, with its free bits all `fill`."""
    patterns = [rule[f"intrinfo_pattern_{version}"] for version in ("v1", "v2")]
    return [
        f"NETIR Fatal XC0 i0 Link 08 (0x{int(pattern.replace('-', fill), 2):08x} {rule['error_status']} 0x0)"
        for pattern in patterns
        if pattern
    ]


def possible(rule: dict[str, str]) -> set[str]:
    """Meanings of all rules that fit the same words: where two with one status overlap, the gravest is meant."""
    same = {"xid", "error_status"}
    return {MEANINGS[one["resolution"]] for one in RULES if all(one[key] == rule[key] for key in same)}


def test_the_table_is_whole() -> None:
    assert len(RULES) == 94


@pytest.mark.parametrize("fill", ["0", "1"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['xid']} {rule['error_status']}")
def test_each_rule_decides_and_only_resets_act(rule: dict[str, str], fill: str) -> None:
    code = int(rule["xid"])
    for line in words(rule, fill):
        found = policy(catalogue(), code, line).meaning
        assert ORDER.index(found) >= ORDER.index(MEANINGS[rule["resolution"]])
        assert found in possible(rule)
        fatal = [one for one in watch().hear(xid(0, code, text=line)) if one.severity in FATAL]
        assert bool(fatal) == (found in FATAL)


def test_bursts_of_what_is_to_be_ignored_never_act() -> None:
    node = watch()
    lines = [
        (int(rule["xid"]), line)
        for rule in RULES
        for line in words(rule, "0")
        if policy(catalogue(), int(rule["xid"]), line).meaning not in FATAL
    ]
    assert len(lines) > 40
    changes = [one for turn in range(20) for code, line in lines for one in node.hear(xid(turn * 60, code, text=line))]
    assert [one for one in changes if one.severity in FATAL] == []


def test_a_burst_of_fatal_codes_acts_once_for_each() -> None:
    node = watch()
    codes = [one.xid for one in catalogue().values() if one.meaning in FATAL]
    changes = [one for turn in range(50) for code in codes for one in node.hear(xid(turn * 0.01, code))]
    fatal = [one.subject.part for one in changes if one.severity in FATAL and one.after == "confirmed"]
    assert sorted(fatal) == sorted(f"xid {code}" for code in codes)
