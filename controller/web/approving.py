"""Saying yes to a plan that waits, through a running Muster's API, as the button of its page does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from controller.approval import Waiting
from controller.web.client import Client
from planner.errors import BadInput

Object = Mapping[str, Any]


def waiting_at(client: Client, namespace: str, service: str) -> Waiting:
    """What waits for approval; raises BadInput where nothing does, Answered, Unreachable."""
    found = client.ask("GET", f"/plans/{namespace}/{service}").found
    now, waits = found["current"], found["proposal"]
    if waits is None:
        raise BadInput(f"{namespace}/{service}: no plan waits for approval")
    cost = f"${waits['usd_per_hour']:.2f}/h, now ${now['usd_per_hour']:.2f}/h"
    head = f"{namespace}/{service}: decision {waits['decision']}: {waits['reason']}; {cost}"
    lines = _changes(now["allocations"], waits["allocations"]) or ["  no replica starts or stops"]
    return Waiting(waits["decision"], (head, *lines))


def approved_at(client: Client, namespace: str, service: str, decision: str) -> None:
    """Say yes to a decision; another one that takes its place waits again."""
    client.ask("POST", f"/services/{namespace}/{service}/approve", {"decision": decision})


def _changes(before: Sequence[Object], after: Sequence[Object]) -> list[str]:
    were, are = _counts(before), _counts(after)
    return [
        f"  {recipe} in {group} ({pool}): {were[place]} -> {are[place]} replicas"
        for place in sorted({*were, *are})
        for recipe, group, pool in [place]
        if were[place] != are[place]
    ]


def _counts(rows: Sequence[Object]) -> Counter[tuple[str, str, str]]:
    made: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        made[row["recipe"], row["node_group"], row["pool"]] += row["replicas"]
    return made
