"""The money of the fleet program: what a count costs, what is paid for anyway, and the price of change."""

from collections.abc import Mapping

from planner.hardware import Inventory
from planner.options import SECONDS_PER_HOUR, Key, Objective, Option, energy_usd_per_hour
from planner.program_rows import Program


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
        gpus = [float(program.options[i].pool.gpus_per_replica) for i in here]
        cols = [*(program.n[i] for i in here), beyond]
        program.rows.row(f"committed_{group.name}", cols, [*gpus, -1.0], most=float(group.commitment.gpus))


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
        program.changes.extend((started, stopped))
