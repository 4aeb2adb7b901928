"""What a service's owner demands besides latency, as rows of the fleet program.

Least and most replicas, the share of requests on spot nodes and in one zone, the least number of zones, and what must
survive a loss. Each is a knob that a user can turn (`Loosening`), should the problem turn out infeasible.
"""

from collections.abc import Sequence

from planner.options import LEAST_BUSY, anywhere, full_load, useful, zones_wanted
from planner.plan import ChangeKind
from planner.program_rows import Loosening, Program
from planner.service import ServiceSpec

# Prices of loosening, $/h per unit: only their order matters, so that the cheapest way out is the least intrusive.
# A GPU more costs its price; going without a spare costs as much as a few of them.
_REPLICA_USD, _SHARE_USD, _ZONE_USD, _SPARE_USD = 1.0, 10.0, 5.0, 20.0


def demand(program: Program, service: ServiceSpec) -> None:
    """Every demand of one service but its budget (`planner.billing`)."""
    mine = program.of(service.name)
    whole = anywhere(service, program.profiles)
    full = [i for i in mine if id(program.options[i].profile) in whole]
    _replicas(program, service, mine, full)
    _zones(program, service, full)
    demands = service.constraints
    if demands.max_zone_share < 1.0:
        for zone in sorted({program.options[i].group.zone for i in mine}):
            _share(program, service, "max_zone_share", demands.max_zone_share, zone)
    if demands.max_spot_share < 1.0:
        _share(program, service, "max_spot_share", demands.max_spot_share, None)
    _survive(program, service)


def _replicas(program: Program, service: ServiceSpec, mine: list[int], full: list[int]) -> None:
    rows, demands = program.rows, service.constraints
    if demands.max_replicas is not None:
        most = demands.max_replicas
        row = rows.row(f"max replicas of {service.name}", program.counts(mine), [1.0] * len(mine), most=float(most))
        program.loosenings.append(Loosening("max_replicas", service.name, float(most), 1, _REPLICA_USD, ((row, -1.0),)))
    if demands.min_replicas:
        least = float(demands.min_replicas)
        row = rows.row(f"min replicas of {service.name}", program.counts(full), [1.0] * len(full), least=least)
        program.owed(service.name, row)
        program.loosenings.append(
            Loosening("min_replicas", service.name, least, -1, _REPLICA_USD, ((row, 1.0),), most=least)
        )


def _share(program: Program, service: ServiceSpec, kind: ChangeKind, most: float, zone: str | None) -> None:
    """Requests of one zone (or of spot nodes, zone None) are at most a share of all."""
    rates, total = service.workload.rates_per_s, service.workload.rate_per_s
    cols: list[int] = []
    values: list[float] = []
    for (index, site), columns in program.x.items():
        if program.profiles[index].service != service.name or site is None:
            continue
        if site[0] == zone if zone is not None else site[1]:
            cols += columns.values()
            values += [rates[b] / total for b in columns]
    name = f"spot share of {service.name}" if zone is None else f"share of {service.name} in zone {zone}"
    row = program.rows.row(name, cols, values, most=most)
    same = [n for n, knob in enumerate(program.loosenings) if (knob.kind, knob.target) == (kind, service.name)]
    terms = ((row, -1.0), *(program.loosenings.pop(same[0]).terms if same else ()))
    program.loosenings.append(Loosening(kind, service.name, most, 1, _SHARE_USD, terms, whole=False, most=1.0 - most))


def _zones(program: Program, service: ServiceSpec, full: list[int]) -> None:
    """Least number of zones with a whole replica; a recipe of several pools needs all of them there."""
    rows = program.rows
    if zones_wanted(service) <= 1:
        return
    present = []
    for zone in sorted({program.options[i].group.zone for i in full}):
        inside = [i for i in full if program.options[i].group.zone == zone]
        here = rows.column(upper=1.0, integer=True)
        cols = _wholes(program, service, zone, inside)
        rows.row(f"present_{service.name}_{zone}", [here, *cols], [1.0, *([-1.0] * len(cols))], most=0.0)
        present.append(here)
    least = float(zones_wanted(service))
    row = rows.row(f"zones of {service.name}", present, [1.0] * len(present), least=least)
    program.owed(service.name, row)
    program.loosenings.append(Loosening("min_zones", service.name, least, -1, _ZONE_USD, ((row, 1.0),), most=least - 1))


def _wholes(program: Program, service: ServiceSpec, zone: str, inside: Sequence[int]) -> list[int]:
    """Columns whose sum bounds whole replicas in a zone from above, one by recipe or by count."""
    by_profile: dict[int, list[int]] = {}
    for i in inside:
        by_profile.setdefault(id(program.options[i].profile), []).append(i)
    cols = []
    for number, positions in enumerate(by_profile.values()):
        pools = {program.options[i].pool.pool for i in positions}
        if len(pools) == 1:
            cols += program.counts(positions)
            continue
        both = program.rows.column(upper=1.0, integer=True)
        for pool in sorted(pools):
            of = program.counts([i for i in positions if program.options[i].pool.pool == pool])
            name = f"whole_{service.name}_{zone}_{number}_{pool}"
            program.rows.row(name, [both, *of], [1.0, *([-1.0] * len(of))], most=0.0)
        cols.append(both)
    return cols


def _survive(program: Program, service: ServiceSpec) -> None:
    """Capacity of each pool in each site: as it is, after k replicas are lost, and after any one node is lost."""
    rates, demands = service.workload.rates_per_s, service.constraints
    lost: list[tuple[int, float]] = []
    fewer: list[tuple[int, float]] = []
    for (place, pool), positions in program.places(service.name).items():
        x, profile = program.x[place], program.profiles[place[0]]
        if not x:
            continue  # it serves no bucket with traffic
        made = next(p for p in profile.pools if p.pool == pool)
        busy = [max(rates[b] * made.load[b], LEAST_BUSY) for b in x]
        cols, values = [*x.values(), *program.counts(positions)], [*busy, *([-1.0] * len(positions))]
        name = f"{service.name}_{place[0]}_{place[1]}_{pool}"
        if demands.survive_replicas:
            used = program.rows.column(upper=1.0, integer=True)
            most = full_load(service, profile, made)
            program.rows.row(f"used_{name}", [*x.values(), used], [*busy, -most], most=0.0)
            spare = float(demands.survive_replicas)
            row = program.rows.row(f"survive_{name}", [*cols, used], [*values, spare], most=0.0)
            lost.append((row, -1.0))
            program.capacity.append(row)
        if demands.survive_nodes:
            fewer += [_spread(program, service, i, name, cols, values) for i in positions]
        if not demands.survive_replicas and not demands.survive_nodes:
            program.capacity.append(program.rows.row(f"capacity_{name}", cols, values, most=0.0))
    _spares(program, service, lost, fewer)


def _spread(
    program: Program, service: ServiceSpec, position: int, name: str, cols: Sequence[int], values: Sequence[float]
) -> tuple[int, float]:
    """The pool without what the fullest node of a group holds of it: at least an even spread over the nodes.

    Nodes that other replicas fill leave fewer to spread over; `planner.seating` adds rows for groups where they do.
    """
    option = program.options[position]
    most = useful(service, option, 0)
    held = program.rows.column(integer=True)
    program.held[position] = held
    nodes = min(option.group.nodes, max(1, most))
    program.rows.row(f"spread_{name}", [held, program.n[position]], [float(nodes), -1.0], least=0.0)
    row = program.rows.row(f"survive_node_{name}", [*cols, held], [*values, 1.0], most=0.0)
    program.capacity.append(row)
    return row, -float(max(1, most))


def _spares(
    program: Program, service: ServiceSpec, lost: list[tuple[int, float]], fewer: list[tuple[int, float]]
) -> None:
    """Going without what redundancy keeps in reserve."""
    demands = service.constraints
    if lost:
        spare = float(demands.survive_replicas)
        program.loosenings.append(
            Loosening("survive_replicas", service.name, spare, -1, _SPARE_USD, tuple(lost), most=spare)
        )
    if fewer:
        program.loosenings.append(Loosening("survive_nodes", service.name, 1.0, -1, _SPARE_USD, tuple(fewer), most=1.0))
