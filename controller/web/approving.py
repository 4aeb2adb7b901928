"""Saying yes to a plan that waits, through a running Muster's API, as the button of its page does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from controller.approval import Waiting, nothing_waits, told
from controller.web.client import Client

Object = Mapping[str, Any]


def waiting_at(client: Client, namespace: str, service: str) -> Waiting:
    """What waits for approval; raises BadInput where nothing does, Answered, Unreachable."""
    found = client.ask("GET", f"/plans/{namespace}/{service}").found
    now, waits = found["current"], found["proposal"]
    if waits is None:
        raise nothing_waits(f"{namespace}/{service}")
    were, are = _counts(now["allocations"]), _counts(waits["allocations"])
    changes = [(*place, were[place], are[place]) for place in sorted({*were, *are}) if were[place] != are[place]]
    usd_per_hour = now["usd_per_hour"], waits["usd_per_hour"]
    return told(f"{namespace}/{service}", waits["decision"], waits["reason"], usd_per_hour, changes)


def approved_at(client: Client, namespace: str, service: str, decision: str) -> None:
    """Say yes to a decision; another one that takes its place waits again."""
    client.ask("POST", f"/services/{namespace}/{service}/approve", {"decision": decision})


def _counts(rows: Sequence[Object]) -> Counter[tuple[str, str, str]]:
    made: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        made[row["recipe"], row["node_group"], row["pool"]] += row["replicas"]
    return made
