"""What a service's owner demands besides latency, as rows of the fleet program.

Budget, least and most replicas, the share of capacity on spot nodes and in one zone, the least number of zones, and
what must survive a loss. Every row that could be loosened says by which unit and at what price (`Program.relaxable`).
"""

from collections.abc import Sequence

from planner.options import Objective, Option, billed_usd_per_hour
from planner.program_rows import Program
from planner.service import ServiceSpec

# Prices of loosening, $/h per unit: only their order matters, so that the cheapest way out is the least intrusive.
_REPLICA_USD, _SHARE_USD, _ZONE_USD = 1.0, 0.1, 0.5


def demand(program: Program, service: ServiceSpec, objective: Objective) -> None:
    """Every demand of one service but survival, which belongs to capacity (`survive`)."""
    mine = [i for i, o in enumerate(program.options) if o.service == service.name]
    _spending(program, service, mine, objective)
    weights = [capacity_weight(program.options[i], service) for i in mine]
    most_spot = service.constraints.max_spot_share
    if most_spot < 1.0:
        spot = [float(program.options[i].group.spot) - most_spot for i in mine]
        _share(program, f"spot share of {service.name}", mine, weights, spot, f"requests/s on spot for {service.name}")
    _zones(program, service, mine, weights)


def capacity_weight(option: Option, service: ServiceSpec) -> float:
    """Requests/s one replica carries of the service's mix: the measure behind shares by zone and by spot."""
    rates = service.workload.rates_per_s
    served = [(rates[b], load) for b, load in option.pool.load.items() if rates.get(b, 0.0) > 0]
    busy = sum(rate * load for rate, load in served)
    return sum(rate for rate, _ in served) / busy if busy > 0 else 0.0


def _spending(program: Program, service: ServiceSpec, mine: list[int], objective: Objective) -> None:
    """Dollars, and least and most replicas."""
    rows, demands = program.rows, service.constraints
    n, one = [program.n[i] for i in mine], [1.0] * len(mine)
    if demands.usd_per_hour is not None:
        prices = [billed_usd_per_hour(program.options[i], objective) for i in mine]
        row = rows.row(f"budget of {service.name}", n, prices, most=demands.usd_per_hour)
        program.relaxable[row] = (f"$/h in the budget of {service.name}", _REPLICA_USD)
    if demands.max_replicas is not None:
        row = rows.row(f"max replicas of {service.name}", n, one, most=float(demands.max_replicas))
        program.relaxable[row] = (f"replicas allowed for {service.name}", _REPLICA_USD)
    if demands.min_replicas:
        row = rows.row(f"min replicas of {service.name}", n, one, least=float(demands.min_replicas))
        program.owed(service.name, row)


def _share(
    program: Program, name: str, mine: list[int], weights: Sequence[float], excess: Sequence[float], unit: str
) -> None:
    """Capacity of a kind is at most a share of all: sum of weight x (is of the kind - share) <= 0."""
    terms = [weight * over for weight, over in zip(weights, excess, strict=True)]
    row = program.rows.row(name, [program.n[i] for i in mine], terms, most=0.0)
    program.relaxable[row] = (unit, _SHARE_USD)


def _zones(program: Program, service: ServiceSpec, mine: list[int], weights: Sequence[float]) -> None:
    rows, demands = program.rows, service.constraints
    zones = sorted({program.options[i].group.zone for i in mine})
    if demands.max_zone_share < 1.0:
        for zone in zones:
            over = [float(program.options[i].group.zone == zone) - demands.max_zone_share for i in mine]
            unit = f"requests/s in zone {zone} for {service.name}"
            _share(program, f"share of {service.name} in zone {zone}", mine, weights, over, unit)
    if demands.min_zones > 1:
        present = []
        for zone in zones:
            here = rows.column(upper=1.0, integer=True)
            inside = [program.n[i] for i in mine if program.options[i].group.zone == zone]
            rows.row(f"present_{service.name}_{zone}", [here, *inside], [1.0, *([-1.0] * len(inside))], most=0.0)
            present.append(here)
        least = float(demands.min_zones)
        row = rows.row(f"zones of {service.name}", present, [1.0] * len(present), least=least)
        program.relaxable[row] = (f"zones fewer for {service.name}", _ZONE_USD)
        program.owed(service.name, row)


def survive(
    program: Program,
    service: ServiceSpec,
    name: str,
    positions: Sequence[int],
    cols: Sequence[int],
    values: Sequence[float],
) -> None:
    """Capacity rows of one pool: as it is, after k replicas are lost, and after one node of any group is lost.

    `cols`, `values`: busy replicas less the replicas at `positions`; at most 0 when nothing is lost.
    """
    rows, demands = program.rows, service.constraints
    if demands.survive_replicas == 0 and demands.survive_nodes == 0:
        rows.row(f"capacity_{name}", [*cols], [*values], most=0.0)
    if demands.survive_replicas:
        used = rows.column(upper=1.0, integer=True)
        for i in positions:
            rows.row(f"used_{name}", [program.n[i], used], [1.0, -float(program.options[i].most)], most=0.0)
        rows.row(f"survive_{name}", [*cols, used], [*values, float(demands.survive_replicas)], most=0.0)
    if demands.survive_nodes:
        for i in positions:
            nodes = program.options[i].group.nodes
            # What the fullest node holds when the replicas are spread evenly over the group's nodes.
            held = rows.column(integer=True)
            rows.row(f"spread_{name}", [held, program.n[i]], [1.0, -1.0 / nodes], least=0.0)
            rows.row(f"survive_node_{name}", [*cols, held], [*values, 1.0], most=0.0)
