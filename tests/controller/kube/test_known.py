"""What the leader knows besides the caches is never older than what it was told."""

from typing import Any, cast

import pytest

from controller import names
from controller.facts import facts, respecified
from controller.kube.caches import Caches
from controller.kube.discovery import Served
from controller.kube.known import Known, Settings
from tests.controller.objects import a_node, an_inventory


class Shelves:
    """Caches in which a node changes at the very moment that it is read."""

    def __init__(self) -> None:
        self.nodes: list[Any] = [a_node("n1")]
        self.known: Known | None = None
        self.informers = {"nodes": self}

    def items(self) -> list[Any]:
        read = list(self.nodes)
        if (known := self.known) is not None:
            self.known = None
            self.nodes = [a_node("n1", taints=[{"key": names.TAINT, "effect": "NoSchedule"}])]
            known.changed_hardware()
        return read


def test_facts_that_were_read_before_a_change_are_not_kept_after_it() -> None:
    shelves = Shelves()
    known = Known(cast(Caches, shelves), cast(Served, None), lambda: 0.0, Settings())
    shelves.known = known
    assert known.facts().out == frozenset()  # as it was when it was asked
    assert known.facts().out == {"n1"}
    assert known.facts() is known.facts()


@pytest.mark.parametrize(
    ("change", "spec_alone"),
    [
        ({"generation": 2}, True),
        ({"generation": 2, "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}, True),
        ({"generation": 2, "annotations": {names.PAUSED: ""}}, False),
        ({"generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z"}, False),
        ({"labels": {"team": "a"}}, False),
    ],
)
def test_an_edit_of_the_spec_alone_is_told_from_a_pause_and_from_an_end(
    change: dict[str, object], spec_alone: bool
) -> None:
    before = {"metadata": {"name": "chat", "generation": 1}}
    assert respecified(before, {"metadata": {**before["metadata"], **change}}) is spec_alone
    assert not respecified(None, before)


def test_a_power_domain_that_feeds_no_group_changes_no_plan() -> None:
    def power(*names: str) -> str:
        group = {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50", "powerDomain": "hall"}
        domains = [{"metadata": {"name": name}, "spec": {"budget": "40kW"}} for name in names]
        return facts([an_inventory(group)], [], domains, [], lambda label: None).power

    assert power("hall", "unused") == power("hall") != power()
