"""The command simulate: a plan is tried before it is applied. Exit codes: 0 held, 1 missed, 2 bad input."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from planner.errors import BadInput

MISSED = 1
Arrivals = Literal["poisson", "gamma", "diurnal"]
_SWING, _BURST_CV = 0.5, 2.0


def simulate(
    plan: Annotated[Path, typer.Argument(help="Plan file, as muster plan --output writes it.", show_default=False)],
    specs: Annotated[list[Path], typer.Argument(help="GPUService files that it was made for.", show_default=False)],
    inventory: Annotated[Path, typer.Option("--inventory", "-i", help="ClusterInventory file.", show_default=False)],
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Play the requests of a trace.", dir_okay=False, show_default="none")
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.001, max=100_000, help="The trace, so many times as fast.")
    ] = 1.0,
    arrivals: Annotated[Arrivals, typer.Option(help="How requests come without a trace.")] = "poisson",
    rate: Annotated[
        float | None, typer.Option(min=0.0, help="Requests per second of every service.", show_default="the spec's")
    ] = None,
    duration: Annotated[str, typer.Option(help="How long requests come, without a trace.")] = "30m",
    seed: Annotated[int, typer.Option(help="Decides chance.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Serve requests by a plan's replicas, simulated: do the objectives hold, how full are they, what do they draw?

    Example: muster simulate plan.yaml chat.yaml --inventory cluster.yaml --arrivals gamma --duration 1h
    """
    from planner.show import printed
    from planner.simulation.arrivals import Traffic, replayed
    from planner.simulation.run import Trial, by_list, by_process
    from planner.simulation.run import simulate as run
    from planner.simulation.show import as_json as plain
    from planner.simulation.show import report
    from planner.spec import load_together
    from planner.spec.plan_file import load_plan
    from planner.traces import read_trace
    from planner.units import DURATION

    services, hardware = load_together(specs, inventory)
    allocations = load_plan(plan).allocations
    traffic = Traffic(
        rate_per_s=rate,
        swing_ratio=_SWING if arrivals == "diurnal" else 0.0,
        burst_cv=_BURST_CV if arrivals == "gamma" else 1.0,
    )
    if trace is None:
        try:
            lasts_s = DURATION.parse(duration)
        except BadInput as error:
            raise BadInput(f"--duration: {error}") from None
        trial = Trial(f"{arrivals} arrivals for {duration}", by_process(traffic, seed), lasts_s, seed)
    else:
        read = read_trace(trace)
        made = {one.name: replayed(one, read, speed, seed) for one in services}
        faster = f", {speed:g} times as fast" if speed != 1 else ""
        lasts_s = float(read.arrival_s[-1]) / speed + 1.0
        trial = Trial(f"{trace.name}, {len(read):,} requests{faster}", by_list(made), lasts_s, seed, warm_s=0.0)
    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("simulating", total=1.0)
        rows = run(services, allocations, hardware, trial, lambda done: shown.update(task, completed=done))
    if as_json:
        sys.stdout.write(json.dumps({"source": trial.name, "services": plain(rows)}, indent=2, allow_nan=False) + "\n")
    else:
        printed(report(trial.name, rows))
    if not all(one.met and not one.account.refused for one in rows):
        raise typer.Exit(MISSED)
