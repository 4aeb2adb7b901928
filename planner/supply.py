"""What hardware there is, as rows of the fleet program: GPUs and nodes of each group, watts of each power domain.

A GPU that a plan leaves alone hangs on its power domain all the same. So a budget has to hold the watts of all GPUs at
rest, and of each replica what it draws on top of those of its GPUs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from planner.hardware import Inventory, NodeGroup, PowerDomain
from planner.power import idle_w, rest_w
from planner.program_rows import Loosening, Program

Seats = Literal["by node", "by size"]
_UNPRICED_USD_PER_HOUR = 3.0  # only to compare ways out of an infeasible problem
_WATT_USD = 0.005
_LEAST_W = 1.0  # of a replica, on top of its GPUs at rest
_MOST_SEATS = 600  # counts of options by node, beyond which nodes are told apart by size only


def supply(program: Program, inventory: Inventory, seated: Mapping[str, Seats]) -> None:
    """Every group and every power domain; groups in `seated` get rows that place their replicas in nodes."""
    for group in inventory.node_groups:
        here = [i for i, o in enumerate(program.options) if o.group.name == group.name]
        if not here:
            continue
        terms = _gpus(program, group, here)
        match seated.get(group.name):
            case "by node":
                _by_node(program, group, here)
            case "by size":
                terms.append(_by_size(program, group, here))
        price = _more_usd_per_hour(group) * group.gpus_per_node
        program.loosenings.append(Loosening("nodes", group.name, float(group.nodes), 1, price, tuple(terms)))
    for domain in inventory.power_domains:
        _power(program, inventory, domain)


def _power(program: Program, inventory: Inventory, domain: PowerDomain) -> None:
    """The row of a power domain, where anything may run on it at all.

    Where a budget does not even hold the GPUs at rest nothing runs there, and it first has to rise to that.
    """
    here = [i for i, o in enumerate(program.options) if o.group.power_domain == domain.name]
    if not here:
        return
    options = [program.options[i] for i in here]
    on_top_w = [max(o.pool.power_w - o.pool.gpus_per_replica * idle_w(o.group.gpu), _LEAST_W) for o in options]
    left_w = domain.budget_w - rest_w(inventory, domain.name)
    row = program.rows.row(f"power of {domain.name}", program.counts(here), on_top_w, most=max(left_w, 0.0))
    fed = {g.name: g.gpus_per_node * idle_w(g.gpu) for g in inventory.node_groups if g.power_domain == domain.name}
    for at, knob in enumerate(program.loosenings):
        if knob.kind == "nodes" and knob.target in fed:
            program.loosenings[at] = replace(knob, takes=((row, fed[knob.target]),))
    lacks_w = max(-left_w, 0.0)
    terms = ((row, -1.0),)
    program.loosenings.append(
        Loosening("power", domain.name, domain.budget_w, 1, _WATT_USD, terms, whole=False, idle=lacks_w)
    )


def seats_of(program: Program, group: NodeGroup) -> Seats:
    """How to place a group's replicas: node by node where that is small, else each size of replica on nodes of its own.

    By node is exact. By size is a restriction, so a plan made with it is sound, but its bound says less.
    """
    here = sum(o.group.name == group.name for o in program.options)
    return "by node" if here * group.nodes <= _MOST_SEATS else "by size"


def _gpus(program: Program, group: NodeGroup, here: Sequence[int]) -> list[tuple[int, float]]:
    """Replicas fit into the group's nodes; returns what one node more adds to each row.

    Sizes are powers of two, each dividing the next, so the largest go first and none is stranded: it suffices that for
    each size g the slots of g GPUs that replicas of g and more take are no more than the nodes have.
    """
    size = {i: program.options[i].pool.gpus_per_replica for i in here}
    terms = []
    for g in sorted({1, *size.values()}):
        if g > 1 and group.gpus_per_node % g == 0:
            continue  # the row for single GPUs says it already
        larger = [i for i in here if size[i] >= g]
        name = f"gpus of {group.name}" if g == 1 else f"gpus of {group.name}, {g} in one node"
        slots = group.gpus_per_node // g
        values = [size[i] / g for i in larger]
        row = program.rows.row(name, program.counts(larger), values, most=float(slots * group.nodes))
        terms.append((row, -float(slots)))
    return terms


def _more_usd_per_hour(group: NodeGroup) -> float:
    """What another GPU of the group would cost, as far as anything says; more owned ones are not for nothing."""
    return max(group.usd_per_gpu_hour, group.gpu.usd_per_hour or _UNPRICED_USD_PER_HOUR)


def _by_node(program: Program, group: NodeGroup, here: Sequence[int]) -> None:
    """Each replica in a node of its own number; what a node holds is what its loss takes."""
    rows = program.rows
    seats: dict[int, list[int]] = {}
    for i in here:
        most = float(group.gpus_per_node // program.options[i].pool.gpus_per_replica)
        seats[i] = [rows.column(upper=most, integer=True) for _ in range(group.nodes)]
        ones = [1.0] * group.nodes
        rows.row(f"seated_{i}", [*seats[i], program.n[i]], [*ones, -1.0], least=0.0, most=0.0)
    for node in range(group.nodes):
        size = [float(program.options[i].pool.gpus_per_replica) for i in here]
        rows.row(f"node_{group.name}_{node}", [seats[i][node] for i in here], size, most=float(group.gpus_per_node))
    for i in here:
        if i in program.held:
            for seat in seats[i]:
                rows.row(f"held_{i}", [program.held[i], seat], [1.0, -1.0], least=0.0)


def _by_size(program: Program, group: NodeGroup, here: Sequence[int]) -> tuple[int, float]:
    """Nodes are given to one size of replica each; replicas that must survive a node spread over those of their size.

    With d nodes for the size, n replicas and m of them in a node at most: n <= m d, for the m that a switch selects.
    """
    rows, size = program.rows, {i: program.options[i].pool.gpus_per_replica for i in here}
    given = {g: rows.column(upper=float(group.nodes), integer=True) for g in sorted(set(size.values()))}
    for g, nodes in given.items():
        same = [i for i in here if size[i] == g]
        each = group.gpus_per_node // g
        ones = [1.0] * len(same)
        rows.row(f"given_{group.name}_{g}", [*program.counts(same), nodes], [*ones, -float(each)], most=0.0)
        for i in same:
            if i in program.held:
                _switched(program, i, nodes, each)
    row = rows.row(f"nodes_{group.name}", list(given.values()), [1.0] * len(given), most=float(group.nodes))
    return row, -1.0


def _switched(program: Program, position: int, nodes: int, each: int) -> None:
    rows, n, most = program.rows, program.n[position], program.ample[position]
    switches = [rows.column(upper=1.0, integer=True) for _ in range(each)]
    rows.row(f"switch_{position}", switches, [1.0] * each, least=1.0, most=1.0)
    for m, switch in enumerate(switches, 1):
        rows.row(f"spread_{position}_{m}", [n, nodes, switch], [1.0, -float(m), most], most=most)
    terms = [float(m) for m in range(1, each + 1)]
    rows.row(f"held_{position}", [program.held[position], *switches], [1.0, *(-m for m in terms)], least=0.0)
