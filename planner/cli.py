"""The planner's commands: plan, allocate, validate, catalog, schema.

Each reads its files, calls one function and prints. Exit codes: 0 a plan, 2 bad input, 3 infeasible, 4 no plan
(none in time, or the solver failed).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from planner.errors import BadInput
from planner.files import read_text, write_text

OK, BAD_INPUT, INFEASIBLE, UNKNOWN = 0, 2, 3, 4
_ANY_NODES = 2**31 - 1  # a limit in seconds stands alone

if TYPE_CHECKING:
    from planner.plan import Plan
    from planner.service import ServiceSpec

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
catalog = typer.Typer(no_args_is_help=True, help="List the GPUs and models that Muster knows.")


def _exit_code(status: str) -> int:
    return {"optimal": OK, "feasible": OK, "infeasible": INFEASIBLE, "unknown": UNKNOWN}[status]


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def _leave(code: int) -> NoReturn:
    raise typer.Exit(code)


def plan(
    specs: Annotated[list[Path], typer.Argument(help="GPUService files.", show_default=False)],
    inventory: Annotated[Path, typer.Option("--inventory", "-i", help="ClusterInventory file.", show_default=False)],
    current: Annotated[
        Path | None, typer.Option("--current", help="The plan that runs now: changes to it are paid for.")
    ] = None,
    start_cost: Annotated[str, typer.Option(help="Price of starting one GPU, with --current.")] = "$0.50",
    stop_cost: Annotated[str, typer.Option(help="Price of stopping one GPU, with --current.")] = "$0.00",
    horizon: Annotated[str, typer.Option(help="How long the new plan is expected to stay, with --current.")] = "1h",
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", min=0.0, help="Wall-clock seconds to look for a plan.")
    ] = None,
    gap: Annotated[
        float, typer.Option("--gap", min=0.0, max=1.0, help="Stop at this distance from the proved bound.")
    ] = 0.0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also print routing weights and every refused recipe.")
    ] = False,
    energy: Annotated[
        bool, typer.Option("--energy", help="Price energy on rented nodes too, not only on owned ones.")
    ] = False,
    confidence: Annotated[
        float,
        typer.Option(min=0.5, max=0.95, help="How likely each objective is kept: 0.5 plans with the best estimate."),
    ] = 0.5,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Corrections that muster calibrate wrote.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Plan for means, simulate, and add headroom until every objective holds.")
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="With --verify: play this trace too, at the planned rate.", dir_okay=False),
    ] = None,
    as_json: AsJson = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan (kind Plan) to this file.")
    ] = None,
) -> None:
    """Find the cheapest allocation that keeps every latency objective, and prove it.

    Example: muster plan deploy/examples/chat.yaml --inventory deploy/examples/cluster.yaml
    """
    from dataclasses import replace
    from functools import partial

    from planner.corrections import load as load_corrections
    from planner.options import Objective
    from planner.planning import plan as make_plan
    from planner.search import Search
    from planner.simulation.verify import Verified, with_headroom
    from planner.spec import load_together
    from planner.spec.plan_file import load_plan, plan_text
    from planner.units import DURATION, MONEY

    if output is not None and not (output.parent.is_dir() and os.access(output.parent, os.W_OK)):
        raise BadInput(f"--output: got {output}, allowed: a file in a folder that exists and can be written to")
    services, hardware = load_together(specs, inventory)
    running = load_plan(current).allocations if current else None
    known = load_corrections(calibration) if calibration else ()
    useful = {(s.engine, "", s.model.name, g.gpu.name) for s in services for g in hardware.node_groups}
    if strange := [one for one in known if one.deployment[:4] not in useful]:
        typer.echo(f"{calibration}: {len(strange)} of {len(known)} corrections are of no service here", err=True)
    objective = Objective(
        usd_per_joule=hardware.usd_per_joule,
        energy_everywhere=energy,
        start_usd=_option("--start-cost", MONEY.parse, start_cost),
        stop_usd=_option("--stop-cost", MONEY.parse, stop_cost),
        horizon_s=_positive("--horizon", _option("--horizon", DURATION.parse, horizon)),
    )
    due_s = time.monotonic() + (time_limit or 0.0)
    search = Search(gap_ratio=gap)
    if time_limit is not None:
        search = Search(gap_ratio=gap, nodes=_ANY_NODES, left_s=lambda: due_s - time.monotonic())
    counts = {(a.service, str(a.recipe), a.pool, a.node_group): a.replicas for a in running or ()}
    began_s = time.process_time()
    console = Console(stderr=True)
    with console.status("planning") as status:

        def make(asked: Sequence[ServiceSpec]) -> Plan:
            return make_plan(
                asked,
                hardware,
                objective=objective,
                current=counts,
                search=search,
                confidence=confidence,
                corrections=known,
                progress=lambda text: status.update(text),
            )

        headroom = partial(with_headroom, confidence=confidence, corrections=known, recount=not running)
        tried = headroom(services, hardware, make, trace, status.update) if verify else None
        verified = tried if isinstance(tried, Verified) else None
        answer = make(services) if tried is None else tried.plan if isinstance(tried, Verified) else tried
    answer = replace(answer, solve_s=time.process_time() - began_s)
    if output is not None and answer.status in ("optimal", "feasible"):
        write_text(output, plan_text(answer, services[0].name))
    if as_json:
        from planner.simulation.show import verified_json
        from planner.view import changes_json, plan_json

        simulated = {} if verified is None else {"verified": verified_json(verified)}
        _print_json({**plan_json(answer), **changes_json(running, answer), **simulated})
    else:
        from planner.show import printed
        from planner.show_plan import plan_report

        how = (verified is not None, verified is not None and verified.sized)
        printed(plan_report(answer, services, hardware, explain, gap, time_limit, running, *how))
        if verified is not None:
            from planner.simulation.show import verified_report

            printed(verified_report(verified))
    if verified is not None and not verified.held:
        _leave(UNKNOWN)
    _leave(_exit_code(answer.status))


def _option(name: str, parse: Callable[[object], float], text: str) -> float:
    try:
        return parse(text)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None


def _positive(name: str, value: float) -> float:
    if value <= 0:
        raise BadInput(f"{name}: got 0, allowed: more than 0")
    return value


def _caps(pairs: list[str]) -> dict[str, int]:
    caps = {}
    for pair in pairs:
        gpu, _, count = pair.rpartition("=")
        if not gpu or not count.isdecimal() or len(count) > 9:
            raise BadInput(f"--cap: got {pair!r}, allowed: GPU=N such as H100=4")
        caps[gpu] = int(count)
    return caps


def allocate(
    instance: Annotated[Path, typer.Argument(help="Instance in Mélange's input format.", show_default=False)],
    cap: Annotated[list[str] | None, typer.Option("--cap", help="At most N of a GPU, as GPU=N; repeatable.")] = None,
    max_gpus: Annotated[
        int | None, typer.Option("--max-gpus", help="At most this many GPUs in all (2xL4 counts two).")
    ] = None,
    budget: Annotated[float | None, typer.Option("--budget", help="At most this many dollars per hour.")] = None,
    time_limit: Annotated[float | None, typer.Option("--time-limit", min=0.0, help="CPU seconds to look.")] = None,
    as_json: AsJson = False,
) -> None:
    """Solve an instance in Mélange's input format exactly: GPU counts and routing weights.

    Example: muster allocate instance.json --cap H100=4 --budget 40 --json
    """
    from planner.allocate import FleetLimits
    from planner.allocate import allocate as solve
    from planner.branch import Limits
    from planner.instance import parse_instance

    problem = parse_instance(read_text(instance), str(instance))
    limits = FleetLimits(_caps(cap or []), max_gpus, budget)
    began_s = time.process_time()
    stop = None if time_limit is None else (lambda: time.process_time() - began_s > time_limit)
    answer = solve(problem, limits, Limits(stop=stop))
    solve_s = time.process_time() - began_s
    if as_json:
        from planner.view import infeasible_json

        _print_json(
            {
                "status": answer.status,
                "usd_per_hour": answer.usd_per_hour,
                "bound_usd_per_hour": answer.bound_usd_per_hour,
                "gap_ratio": answer.gap_ratio,
                "counts": dict(answer.counts),
                "weights": {gpu: table.tolist() for gpu, table in answer.weights.items()},
                "solve_s": solve_s,
                "infeasible": infeasible_json(answer.infeasible),
            }
        )
    else:
        from planner.show import printed
        from planner.show_tables import allocation_report

        printed(allocation_report(answer))
    _leave(_exit_code(answer.status))


def validate(
    files: Annotated[list[Path], typer.Argument(help="Specs, inventories and plans.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Check specs, inventories and plans without planning; prints every problem, with file and line.

    Example: muster validate deploy/examples/chat.yaml deploy/examples/cluster.yaml
    """
    from planner.spec import validate as problems_of

    problems = {str(path): problems_of(path) for path in files}
    if as_json:
        _print_json({"valid": not any(problems.values()), "files": problems})
    else:
        for path, found in problems.items():
            sys.stdout.write("\n".join(found) + "\n" if found else f"{path}: valid\n")
    _leave(BAD_INPUT if any(problems.values()) else OK)


def schema(
    kind: Annotated[str, typer.Argument(help="gpuservice, inventory or plan.", show_default=False)],
) -> None:
    """Print the JSON Schema of a kind, for editors and CI.

    Example: muster schema gpuservice > gpuservice.json
    """
    from planner.spec import schema as schema_of

    _print_json(schema_of(kind))


@catalog.command("gpus")
def catalog_gpus(as_json: AsJson = False) -> None:
    """List GPU types with figures and prices."""
    from dataclasses import asdict

    from planner.catalog import gpus

    if as_json:
        _print_json([{**asdict(gpu), "aliases": list(gpu.aliases)} for gpu in gpus()])
        return
    from planner.show import printed
    from planner.show_tables import gpu_table, price_notes

    printed([gpu_table(gpus()), *price_notes()])


@catalog.command("models")
def catalog_models(as_json: AsJson = False) -> None:
    """List models: parameters, layers, context."""
    from planner.architecture import active_parameters, parameters
    from planner.catalog import models

    if as_json:
        from planner.view import model_json

        _print_json([model_json(m) for m in models()])
        return
    from planner.show import printed
    from planner.show_tables import model_table

    printed([model_table(models(), [(parameters(m), active_parameters(m)) for m in models()])])
