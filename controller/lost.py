"""Nodes that are not ready for so long that others are to run what they ran. Pure.

Kubernetes itself waits minutes before it lets go of the pods of a node that does not answer. Nobody evicts them here
either: replicas run beside them until the node comes back or they are gone. A node that comes and goes is lost once,
and is back after it was ready for a while in one piece. No more than the fleet brake allows are acted on: where many
nodes stop to answer at once, it is likelier that the network or the API server is at fault than all of them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.laws import Laws
from controller.status import condition
from controller.when import seconds

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Down:
    """A node that is not ready since `since_s`, or is ready again since `back_s`. `lost`: it is acted on."""

    since_s: float
    back_s: float | None = None
    lost: bool = False


def begun(nodes: Mapping[str, Object], now_s: float) -> dict[str, Down]:
    """What a new leader takes over: nodes that are not ready, since when they say so themselves.

    Else it would take the replicas beside those of a lost node for too many, and might stop those that serve.
    """
    found = {}
    for name, node in nodes.items():
        one = condition(node, "Ready")
        if one.get("status", "True") != "True" and one.get("lastTransitionTime"):
            found[name] = Down(min(seconds(one["lastTransitionTime"]), now_s))
    return found


def followed(before: Mapping[str, Down], ready: Mapping[str, bool], now_s: float, laws: Laws) -> dict[str, Down]:
    """What is known of the nodes that are not ready or were so lately; `ready`: of every node there is.

    Times are those at which it was seen, as clocks of nodes are not ours.
    """
    found: dict[str, Down] = {}
    for name, up in ready.items():
        was = before.get(name)
        if not up:
            found[name] = Down(now_s) if was is None else replace(was, back_s=None)
        elif was is not None and was.lost:
            back_s = now_s if was.back_s is None else was.back_s
            if now_s - back_s < laws.found_s:
                found[name] = replace(was, back_s=back_s)
    return found


def given_up(
    down: Mapping[str, Down], busy: Collection[str], room: int, now_s: float, laws: Laws
) -> tuple[dict[str, Down], dict[str, str]]:
    """The same with those lost that may be, and why others are not. `busy`: nodes that hold replicas.

    `room`: how many may be out or lost, less those that are out. A node without replicas takes none of it.
    """
    room -= sum(one.lost and name in busy for name, one in down.items())
    found, held = dict(down), {}
    for name, one in sorted(down.items(), key=lambda row: (row[1].since_s, row[0])):
        if one.lost or one.back_s is not None or name not in busy or now_s - one.since_s < laws.lost_s:
            continue
        if room > 0:
            found[name] = replace(one, lost=True)
            room -= 1
        else:
            held[name] = "not ready; as many nodes are out or lost as may be without a person's approval"
    return found, held
