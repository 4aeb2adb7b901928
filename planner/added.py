"""Nodes to add, as their owner counts them: whole and empty ones of a group of which a plan sees free parts only."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from planner.hardware import Stock
from planner.plan import Change
from planner.program_rows import Program


def is_part(change: Change, stock: Mapping[str, Stock]) -> bool:
    """Whether a change is of nodes with free GPUs of a group that has others."""
    return change.kind == "nodes" and change.target in stock


def in_stock(changes: Sequence[Change], program: Program) -> tuple[Change, ...]:
    """The same changes, with one for the parts of each group: how many nodes it then has in all."""
    now = {knob.target: knob.now for knob in program.loosenings if knob.kind == "nodes"}
    more: dict[Stock, dict[str, int]] = {}
    for change in changes:
        if is_part(change, program.stock):
            parts = more.setdefault(program.stock[change.target], {})
            parts[change.target] = round(change.value - now[change.target])
    added = [Change("nodes", one.name, float(one.nodes + _whole(one, parts, program))) for one, parts in more.items()]
    return (*added, *(change for change in changes if not is_part(change, program.stock)))


def _whole(one: Stock, more: Mapping[str, int], program: Program) -> int:
    """Whole nodes that hold whatever more nodes of parts would.

    Where the GPUs of each replica divide those of the next larger one, and all divide a node's, replicas fill nodes
    without a gap, so GPUs may be counted. Else each part is to lie in a node as it is; and a service that survives the
    loss of nodes must not lose more with one.
    """
    here = [option for option in program.options if option.group.name in more]
    each = {option.group.name: option.group.gpus_per_node for option in here}
    of_node = max(-(-one.gpus // one.nodes), *each.values())
    if any(knob.kind == "survive_nodes" for knob in program.loosenings):
        return sum(more.values())
    sizes = sorted({option.pool.gpus_per_replica for option in here if option.most})
    if any(larger % size for size, larger in pairwise((*sizes, of_node))):
        return sum(-(-nodes // (of_node // each[part])) for part, nodes in more.items())
    gpus = sum(nodes * (each[part] // sizes[0] * sizes[0]) for part, nodes in more.items())
    return -(-gpus // of_node)
