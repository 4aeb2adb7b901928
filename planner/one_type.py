"""What the best fleet of one GPU type alone would cost: the yardstick beside every plan."""

from dataclasses import replace

import numpy as np

from planner.highs import LinearModel, Outcome, solve
from planner.plan import Plan
from planner.program_rows import Program
from planner.search import Search
from planner.subset import subset, without

_NODES = 200
_GAP = 0.001


def one_type(plan: Plan, model: LinearModel, program: Program, search: Search, paid_anyway: float) -> Plan:
    """The plan with the price of each one-type fleet; types that cannot do it alone are absent, or unknown in time."""
    usd_per_hour: dict[str, float] = {}
    unknown = []
    types = sorted({o.group.gpu.name for o in program.options})
    cost = model.cost.copy()
    cost[[c for _, *columns in program.changes.values() for c in columns]] = 0.0
    for turn, gpu in enumerate(types):
        if not _serves_all(program, gpu):
            continue
        if search.over():
            unknown.append(gpu)
            continue
        limit_s = search.seconds(1 / (len(types) - turn))
        others = [i for i, option in enumerate(program.options) if option.group.gpu.name != gpu]
        only = subset(replace(model, cost=cost), without(program, others, len(cost)))
        alone = solve(only, gap_ratio=_GAP, nodes=_NODES, time_limit_s=limit_s)
        if alone.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE):
            usd_per_hour[gpu] = float(np.round(alone.objective, 6)) + paid_anyway
        elif alone.outcome is Outcome.UNKNOWN:
            unknown.append(gpu)
    return replace(plan, one_type=usd_per_hour, one_type_unknown=tuple(unknown))


def _serves_all(program: Program, gpu: str) -> bool:
    """Whether the type serves every bucket of every service, in some number."""
    wanted = {(program.profiles[index].service, b) for (index, _), x in program.x.items() for b in x}
    mine = {
        (program.profiles[index].service, b)
        for (index, _), x in program.x.items()
        for b in x
        if program.profiles[index].recipe.gpu == gpu
    }
    return wanted == mine
