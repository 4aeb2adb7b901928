"""Why a program has no solution: constraints that conflict, and the cheapest loosening that gives it one.

Each relaxable row gets a slack column priced in $/h per unit. The cheapest slacks are the relaxation; the rows that
matter are found by a deletion filter (Chinneck and Dravnieks 1991, "Locating minimal infeasible constraint sets in
linear programs"): a row without which the rest still conflicts is no part of the conflict.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planner.highs import INFINITY, LinearModel, Outcome, columns_of, solve
from planner.options import Objective, billed_usd_per_hour
from planner.plan import Infeasible, Profile
from planner.program_rows import Program
from planner.service import ServiceSpec

_ENOUGH = 1e-6
_FILTER_NODES = 200  # a feasibility question is answered early or not at all
_FIRST_NODES = 1  # presolve, cuts and heuristics mostly find a way out already
_WAY_OUT_GAP = 0.02
_ANY_NUMBER = 1e8  # of replicas, once more GPUs may be asked for
_MOST_FILTERED = 40


def unserved(services: Sequence[ServiceSpec], profiles: Sequence[Profile]) -> Infeasible | None:
    """Buckets that no recipe serves at all; no count of GPUs helps them."""
    for service in services:
        mine = [p for p in profiles if p.service == service.name]
        busy = [b for b, rate in service.workload.rates_per_s.items() if rate > 0]
        lost = [b for b in busy if not any(all(b in pool.load for pool in p.pools) for p in mine)]
        if lost:
            share = sum(service.workload.rates_per_s[b] for b in lost) / service.workload.rate_per_s
            worst = max(lost, key=lambda b: service.workload.rates_per_s[b])
            size = f"{worst.input_tokens}+{worst.output_tokens} tokens in class {worst.slo_class!r}"
            return Infeasible(
                why=f"{service.name}: no GPU in the inventory serves {share:.2%} of the requests, such as {size}",
                constraints=(f"slo of {service.name}", "gpus in the inventory"),
                relaxation=f"loosen the SLO of {service.name}, add a GPU type that meets it (the refused list says what"
                " each one lacks), or leave these sizes out of the workload",
            )
    return None


def explain(program: Program, services: Sequence[ServiceSpec]) -> Infeasible:
    """The conflict and the way out of an infeasible program."""
    model = program.rows.model()
    loosened, rows = _elastic(model, program)
    found = solve(loosened, gap_ratio=_WAY_OUT_GAP, nodes=_FIRST_NODES, verify=False)
    besides = ""
    if found.outcome is not Outcome.OPTIMAL and found.outcome is not Outcome.FEASIBLE:
        loosened, besides = _without_reserve(loosened, program), ", and what the redundancy needs besides"
        found = solve(loosened, gap_ratio=_WAY_OUT_GAP, nodes=_FILTER_NODES)
    if found.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
        return Infeasible(
            why="constraints that cannot be loosened (survival of a loss, least replicas) need more than there is",
            constraints=tuple(_demanding(program)),
            relaxation="lower minReplicas or the redundancy, or add nodes or another group"
            + _leave_out(model, program, services),
        )
    slack = found.x[len(model.cost) :]
    ways = []
    for row, amount in zip(rows, slack, strict=True):
        if amount > _ENOUGH:
            unit, _ = program.relaxable[row]
            ways.append(f"{_rounded(amount, program, row)} more {unit}")
    conflict = _conflict(model, program, rows)
    names = tuple(program.rows.names[row] for row in conflict)
    return Infeasible(
        why=f"no plan keeps {' and '.join(names)}" if names else "no plan keeps all constraints",
        constraints=names,
        relaxation=(" and ".join(ways) if ways else "none needed: try again with a longer time limit")
        + besides
        + _leave_out(model, program, services),
    )


def _without_reserve(model: LinearModel, program: Program) -> LinearModel:
    """Without the rows that tie a reserve to pools in use, which know no more replicas than the group has room for."""
    upper = model.row_upper.copy()
    upper[[row for row, name in enumerate(program.rows.names) if name.startswith("used_")]] = INFINITY
    return replace(model, row_upper=upper)


def over_budget(program: Program, services: Sequence[ServiceSpec], objective: Objective) -> Infeasible | None:
    """A service that costs more than its budget whatever is done, proved by minimising its bill without the budget.

    That is a far easier question than to show that no plan keeps the budget.
    """
    model = program.rows.model()
    for service in services:
        budget = service.constraints.usd_per_hour
        if budget is None:
            continue
        row = program.rows.names.index(f"budget of {service.name}")
        bill, upper = np.zeros_like(model.cost), model.row_upper.copy()
        for column, option in zip(program.n, program.options, strict=True):
            if option.service == service.name:
                bill[column] = billed_usd_per_hour(option, objective)
        upper[row] = INFINITY
        least = solve(replace(model, cost=bill, row_upper=upper), gap_ratio=_WAY_OUT_GAP, nodes=_FILTER_NODES)
        if least.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE) and least.bound > budget + _ENOUGH:
            enough = np.ceil(least.objective * 100 - _ENOUGH) / 100
            return Infeasible(
                why=f"{service.name} costs at least ${least.bound:.2f}/h, its budget is ${budget:.2f}/h",
                constraints=(f"budget of {service.name}",),
                relaxation=f"raise the budget of {service.name} to ${enough:.2f}/h",
            )
    return None


def _leave_out(model: LinearModel, program: Program, services: Sequence[ServiceSpec]) -> str:
    """The services of lowest priority without which the others fit, in words; empty where that says nothing."""
    rows = [row for dues in program.dues.values() for row in dues]
    dropped: list[str] = []
    for service in sorted(services, key=lambda s: s.priority)[:-1]:
        dropped.append(service.name)
        kept = [row for name, dues in program.dues.items() if name not in dropped for row in dues]
        if not _is_infeasible(replace(model, cost=np.zeros_like(model.cost)), rows, kept):
            return f"; or leave out {' and '.join(dropped)} (lowest priority)"
    return ""


def _rounded(amount: float, program: Program, row: int) -> str:
    whole = program.rows.names[row].startswith(("gpus", "max replicas", "zones"))
    return str(int(np.ceil(amount - _ENOUGH))) if whole else f"{np.ceil(amount * 100) / 100:.2f}"


def _demanding(program: Program) -> list[str]:
    return sorted({name for name in program.rows.names if name.startswith(("survive", "min replicas", "zones"))})


def _elastic(model: LinearModel, program: Program) -> tuple[LinearModel, list[int]]:
    """The program with a priced slack in every relaxable row; its own costs count a thousandth."""
    rows = sorted(program.relaxable)
    count = len(model.cost)
    sign = [1.0 if np.isfinite(model.row_lower[row]) and model.row_lower[row] > -INFINITY else -1.0 for row in rows]
    price = [program.relaxable[row][1] for row in rows]
    per_column = np.diff(model.matrix.start)
    old_cols = np.repeat(np.arange(count), per_column)
    matrix = columns_of(
        np.concatenate([model.matrix.index, np.array(rows, dtype=np.int32)]).astype(np.int32),
        np.concatenate([old_cols, count + np.arange(len(rows))]).astype(np.int32),
        np.concatenate([model.matrix.value, np.array(sign)]),
        count + len(rows),
    )
    whole = np.array([program.rows.names[row].startswith(("gpus", "max replicas", "zones")) for row in rows])
    integer = model.integer if model.integer is not None else np.zeros(count, dtype=np.bool_)
    upper = model.upper.copy()
    upper[list(program.n)] = np.where(upper[list(program.n)] > 0, _ANY_NUMBER, 0.0)  # more GPUs mean more replicas
    return (
        LinearModel(
            cost=np.concatenate([model.cost * 1e-3, price]),
            lower=np.concatenate([model.lower, np.zeros(len(rows))]),
            upper=np.concatenate([upper, np.full(len(rows), INFINITY)]),
            row_lower=model.row_lower,
            row_upper=model.row_upper,
            matrix=matrix,
            integer=np.concatenate([integer, whole]),
        ),
        rows,
    )


def _conflict(model: LinearModel, program: Program, rows: list[int]) -> list[int]:
    """A smallest set of relaxable rows that still conflicts (each is needed for it)."""
    kept = list(rows)
    upper = model.upper.copy()
    upper[list(program.n)] = np.where(upper[list(program.n)] > 0, _ANY_NUMBER, 0.0)
    base = replace(model, upper=upper, cost=np.zeros_like(model.cost))
    for row in rows[:_MOST_FILTERED]:
        fewer = [r for r in kept if r != row]
        if _is_infeasible(base, rows, fewer):
            kept = fewer
    return kept


def _is_infeasible(model: LinearModel, rows: list[int], kept: list[int]) -> bool:
    lower, upper = model.row_lower.copy(), model.row_upper.copy()
    for row in set(rows) - set(kept):
        lower[row], upper[row] = -INFINITY, INFINITY
    return (
        solve(replace(model, row_lower=lower, row_upper=upper), nodes=_FILTER_NODES, verify=False).outcome
        is Outcome.INFEASIBLE
    )
