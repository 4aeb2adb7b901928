"""Which nodes leave the fleet for a fault, which come back, and which wait for a person. Pure and level-triggered.

The fleet brake: without a person no more than max(`least`, `share_ratio` of the fleet) nodes are out at once, so that a
wrong detector, a bad driver or a hot hall does not empty the cluster. Beyond it faults are held and told. A node comes
back once it was without a fault for `probation_s` in one piece and its burn-in passed: a node whose fault comes and
goes never gets there, and so is taken out once. One that came back `most_returns` times within `flap_s` stays out until
a person says otherwise. Silence is no fault: a node that is not heard of is held and told.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from controller import names

BurnIn = Literal["none", "running", "passed", "failed"]


@dataclass(frozen=True, slots=True)
class Brake:
    """How much of the fleet may be out, and when a node is trusted again."""

    share_ratio: float = 0.05
    least: int = 1
    probation_s: float = 900.0
    burn_in: bool = True
    most_returns: int = 3
    flap_s: float = 7 * 86_400.0
    stale_s: float = 60.0


@dataclass(frozen=True, slots=True)
class NodeState:
    """What is known of a node. Times are Unix times; `out_since_s` is None while it takes replicas.

    `fault`: what is wrong now, in words; empty for nothing. `faulty_since_s`, `well_since_s`: since when it is so.
    `returns_s`: when it came back earlier, kept with the node. `busy_gpus`: those that pods hold; a test needs all.
    """

    name: str
    fault: str = ""
    faulty_since_s: float = 0.0
    well_since_s: float = 0.0
    heard_s: float = 0.0
    out_since_s: float | None = None
    burn_in: BurnIn = "none"
    busy_gpus: int = 0
    returns_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Orders:
    """Nodes to take out, to test and to give back now; the others that are not as they should be, with why."""

    quarantine: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    give_back: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)


def orders(
    nodes: Sequence[NodeState], now_s: float, brake: Brake | None = None, approved: Collection[str] = ()
) -> Orders:
    """What to do. `approved`: nodes that a person said may go, whatever the brake says, or come back from flapping."""
    brake = brake or Brake()
    limit = most_out(len(nodes), brake)
    held: dict[str, str] = {}
    out = [node for node in nodes if node.out_since_s is not None]
    room = max(limit - sum(node.name not in approved for node in out), 0)
    going = []
    for node in sorted(nodes, key=lambda one: (one.faulty_since_s, one.name)):
        if node.out_since_s is not None or not node.fault:
            continue
        if _silent(node, now_s, brake):
            held[node.name] = f"{node.fault}, but not heard of for {now_s - node.heard_s:.0f} s"
        elif node.name in approved:
            going.append(node.name)
        elif room > 0:
            going.append(node.name)
            room -= 1
        else:
            held[node.name] = (
                f"{node.fault}; {limit} of {len(nodes)} nodes may be out without a person's approval{_how(node)}"
            )
    back, test = [], []
    for node in sorted(out, key=lambda one: one.name):
        why = _not_yet(node, now_s, brake, node.name in approved)
        if why is None:
            back.append(node.name)
        elif why == "test":
            test.append(node.name)
        else:
            held[node.name] = why
    silent = {one.name: now_s - one.heard_s for one in nodes if not one.fault and _silent(one, now_s, brake)}
    held |= {name: f"not heard of for {gone_s:.0f} s" for name, gone_s in silent.items() if name not in held}
    return Orders(tuple(going), tuple(test), tuple(back), held)


def most_out(total: int, brake: Brake) -> int:
    """How many nodes may be out without a person."""
    return max(brake.least, int(total * brake.share_ratio))


def _how(node: NodeState) -> str:
    """How a person approves, which nothing else in a cluster says."""
    return f": annotate node {node.name} with {names.APPROVED}=yes"


def _silent(node: NodeState, now_s: float, brake: Brake) -> bool:
    return now_s - node.heard_s > brake.stale_s


def _not_yet(node: NodeState, now_s: float, brake: Brake, approved: bool) -> str | None:
    """Why a node that is out stays out; `test` where its burn-in should begin, None where it may come back."""
    if node.fault:
        return f"out: {node.fault}"
    if _silent(node, now_s, brake):
        return f"out, and not heard of for {now_s - node.heard_s:.0f} s"
    well_s = now_s - max(node.well_since_s, node.out_since_s or 0.0)
    if well_s < brake.probation_s:
        return f"on probation for another {brake.probation_s - well_s:.0f} s"
    lately = sum(now_s - brake.flap_s <= at_s <= now_s for at_s in node.returns_s)
    if lately >= brake.most_returns and not approved:
        return f"came back {lately} times in {brake.flap_s / 86_400.0:.0f} days: a person must approve{_how(node)}"
    if not brake.burn_in or node.burn_in == "passed" or (node.burn_in == "failed" and approved):
        return None
    if node.burn_in == "none":
        return "test" if not node.busy_gpus else f"burn-in waits for {node.busy_gpus} GPUs that pods still hold"
    return "burn-in runs" if node.burn_in == "running" else f"burn-in failed: a person must approve{_how(node)}"
