"""The money of the fleet program: what a count costs, what is paid for anyway, budgets, and the price of change."""

from collections.abc import Mapping, Sequence

from planner.hardware import Inventory
from planner.options import (
    SECONDS_PER_HOUR,
    Key,
    Objective,
    Option,
    energy_usd_per_hour,
    listed_usd_per_hour,
)
from planner.program_rows import Loosening, Program
from planner.service import ServiceSpec

_BUDGET_USD = 1.0


def run_usd_per_hour(option: Option, objective: Objective) -> float:
    """Cost of one replica in the objective; GPUs of a group with a commitment are billed by `commitments`."""
    price = 0.0 if option.group.commitment else option.group.usd_per_gpu_hour * option.pool.gpus_per_replica
    return price + energy_usd_per_hour(option, objective)


def committed_usd_per_hour(inventory: Inventory) -> float:
    """What is paid for commitments whether their GPUs are used or not: the same in every plan."""
    return sum(g.commitment.gpus * g.commitment.usd_per_gpu_hour for g in inventory.node_groups if g.commitment)


def commitments(program: Program, inventory: Inventory) -> None:
    """Committed GPUs are paid for anyway: only GPUs beyond them cost more."""
    for group in inventory.node_groups:
        if group.commitment is None:
            continue
        here = [i for i, o in enumerate(program.options) if o.group.name == group.name]
        beyond = program.rows.column(group.usd_per_gpu_hour)
        program.beyond[group.name] = beyond
        gpus = [float(program.options[i].pool.gpus_per_replica) for i in here]
        cols = [*program.counts(here), beyond]
        program.rows.row(f"committed_{group.name}", cols, [*gpus, -1.0], most=float(group.commitment.gpus))


def budgets(
    program: Program, services: Sequence[ServiceSpec], inventory: Inventory, objective: Objective
) -> dict[str, int]:
    """What each service with a budget is billed: committed GPUs at the commitment's price as far as they reach.

    Services with a budget come first in the queue for committed GPUs that are cheaper than others. Returns the row of
    each budget.
    """
    limited = [s for s in services if s.constraints.usd_per_hour is not None]
    terms: dict[str, tuple[list[int], list[float]]] = {}
    for service in limited:
        mine = program.of(service.name)
        terms[service.name] = (
            program.counts(mine),
            [listed_usd_per_hour(program.options[i], objective) for i in mine],
        )
    for group in inventory.node_groups:
        saved = group.usd_per_gpu_hour - group.commitment.usd_per_gpu_hour if group.commitment else 0.0
        if group.commitment is None or saved <= 0 or not limited:
            continue
        covered = []
        for service in limited:
            here = [i for i in program.of(service.name) if program.options[i].group.name == group.name]
            column = program.rows.column(upper=float(group.commitment.gpus))
            gpus = [-float(program.options[i].pool.gpus_per_replica) for i in here]
            program.rows.row(
                f"covered_{service.name}_{group.name}", [column, *program.counts(here)], [1.0, *gpus], most=0.0
            )
            cols, values = terms[service.name]
            terms[service.name] = ([*cols, column], [*values, -saved])
            program.covered[service.name, group.name] = column
            covered.append(column)
        most = float(group.commitment.gpus)
        program.rows.row(f"cover_{group.name}", covered, [1.0] * len(covered), most=most)
    return {service.name: _budget(program, service, *terms[service.name]) for service in limited}


def _budget(program: Program, service: ServiceSpec, cols: list[int], values: list[float]) -> int:
    budget = service.constraints.usd_per_hour
    assert budget is not None
    row = program.rows.row(f"budget of {service.name}", cols, values, most=budget)
    program.loosenings.append(Loosening("budget", service.name, budget, 1, _BUDGET_USD, ((row, -1.0),), whole=False))
    return row


def price_of_change(program: Program, objective: Objective, current: Mapping[Key, int]) -> None:
    """n[i] = what runs now + started - stopped."""
    if not current or (objective.start_usd == 0 and objective.stop_usd == 0):
        return
    per_hour = SECONDS_PER_HOUR / objective.horizon_s
    for position, option in enumerate(program.options):
        now, gpus = current.get(option.key, 0), option.pool.gpus_per_replica
        started = program.rows.column(objective.start_usd * gpus * per_hour)
        stopped = program.rows.column(objective.stop_usd * gpus * per_hour, upper=float(now))
        cols = [program.n[position], started, stopped]
        program.rows.row(f"change_{position}", cols, [1.0, -1.0, 1.0], least=float(now), most=float(now))
        program.changes[position] = (now, started, stopped)


def exactly(program: Program, counts: Sequence[int]) -> tuple[float, float]:
    """$/h of whole counts in the objective, and the part of it that pays for changes; free of solver tolerances."""
    cost, options = program.rows.cost, program.options
    usd = sum(cost[column] * count for column, count in zip(program.n, counts, strict=True))
    for option in {o.group.name: o for o in options if o.group.name in program.beyond}.values():
        group, committed = option.group, option.group.commitment
        gpus = sum(
            count * o.pool.gpus_per_replica
            for o, count in zip(options, counts, strict=True)
            if o.group.name == group.name
        )
        usd += cost[program.beyond[group.name]] * max(0, gpus - (committed.gpus if committed else 0))
    change = sum(
        cost[started] * max(0, counts[at] - now) + cost[stopped] * max(0, now - counts[at])
        for at, (now, started, stopped) in program.changes.items()
    )
    return usd + change, change
