"""Commands that judge traces: detect stragglers, detect boundness. Exit codes: 0 judged, 2 bad input."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from planner.errors import BadInput
from telemetry import boundness as bound_of
from telemetry import job_trace
from telemetry.boundness import Bound
from telemetry.pipeline import Op
from telemetry.stragglers import Findings, findings

detect = typer.Typer(no_args_is_help=True, help="Judge traces of jobs: who is slow, and what sets the pace.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_CAUSES = {
    "worker": "a slow worker",
    "stage_imbalance": "uneven pipeline stages: a heavier stage is no straggler",
    "sequence_imbalance": "uneven sequence lengths: a longer sequence is no straggler",
    "none": "nothing that stands out",
}


@detect.command()
def stragglers(
    trace: Annotated[Path, typer.Argument(help="CSV of operations, plain or gzipped.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Name the workers that slow a training job, and tell them from uneven stages and sequences.

    Columns: dp_rank, stage, step, optype, start_ts, duration, seq_id, mb_id, gmc.

    Example: muster detect stragglers trace.csv.gz --json
    """
    found = findings(_read(trace))
    if as_json:
        typer.echo(json.dumps(_plain(found), indent=2))
        return
    console = Console()
    console.print(f"{found.steps} steps take {found.slowdown_ratio:.3f} times what they would with all work even.")
    console.print(f"Cause: {_CAUSES[found.cause]}.")
    shares = {"workers of a stage": found.worker_ratio, "stages": found.stage_ratio}
    shares["micro-batches"] = found.sequence_ratio
    console.print("Alone: " + ", ".join(f"{name} {ratio:.3f}" for name, ratio in shares.items()))
    if found.stragglers:
        table = Table("DP RANK", "STAGE", "SLOWER THAN ITS PEERS", box=None)
        for one in found.stragglers:
            table.add_row(str(one.dp_rank), str(one.stage), f"{one.slowdown_ratio - 1:.1%}")
        console.print(table)


@detect.command()
def boundness(
    traces: Annotated[list[Path], typer.Argument(help="Traces, one a batch size, small first.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Tell whether launches (CPU) or kernels (GPU) set the pace, and the batch size at which that turns.

    Takes what PyTorch's profiler exports (export_chrome_trace), plain or gzipped.

    Example: muster detect boundness batch-001.json batch-002.json batch-004.json
    """
    try:
        judged = bound_of.judge([bound_of.read(path) for path in traces])
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}") from None
    turn = bound_of.turns_at(judged)
    if as_json:
        typer.echo(json.dumps({"traces": [_row(one) for one in judged], "gpu_bound_from": turn}, indent=2))
        return
    table = Table("TRACE", "KERNELS", "TKLQT", "WAIT EACH", "KERNEL EACH", "GPU BUSY", "BOUND BY", box=None)
    for one in judged:
        of = one.launches
        times = (f"{of.tklqt_s * 1e3:,.2f} ms", f"{of.wait_s * 1e6:,.1f} us", f"{of.kernel_s * 1e6:,.1f} us")
        table.add_row(of.name, str(of.kernels), *times, f"{of.busy_ratio:.0%}", one.bound.upper())
    Console().print(table)
    typer.echo(f"GPU-bound from {turn} on" if turn else "CPU-bound up to the last trace")


def _read(trace: Path) -> list[Op]:
    try:
        return job_trace.read(trace)
    except OSError as error:
        raise BadInput(f"{trace}: {error.strerror}") from None


def _plain(found: Findings) -> dict[str, object]:
    return {
        "stragglers": [asdict(one) for one in found.stragglers],
        "slowdown_ratio": found.slowdown_ratio,
        "cause": found.cause,
        "alone": {
            "workers_ratio": found.worker_ratio,
            "stages_ratio": found.stage_ratio,
            "micro_batches_ratio": found.sequence_ratio,
        },
        "steps": found.steps,
    }


def _row(one: Bound) -> dict[str, object]:
    of = one.launches
    figures = {"tklqt_s": of.tklqt_s, "wait_s": of.wait_s, "kernel_s": of.kernel_s, "busy_ratio": of.busy_ratio}
    return {"trace": of.name, "kernels": of.kernels, **figures, "bound": one.bound}
