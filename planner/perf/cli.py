"""Commands of the performance model: predict, explain, fit. Exit codes: 0 done (refused rows included), 2 bad input."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from numpy.typing import NDArray
from rich.console import Console

from planner.errors import BadInput

# Families that `muster fit` knows: each a planner/perf/fit_<family>.py with fit(data).
FAMILIES = ("serving", "operators", "collectives", "energy", "layers", "gemm_power")
# By their files, since to import them takes longer than to print a help; degrees of parallelism are no options of it.
_FILES = sorted(path.stem for path in Path(__file__).parents[1].glob("techniques/[a-z]*.py"))
TECHNIQUES = [stem.replace("_", "-") for stem in _FILES if "parallel" not in stem]

predict = typer.Typer(no_args_is_help=True, help="Predict latency, power and memory of rows in a table.")

Rows = Annotated[Path, typer.Argument(help="CSV or Parquet file, one row a prediction.", show_default=False)]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="CSV file: the rows with the predicted columns.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


@predict.command()
def serving(
    rows: Rows,
    output: Output,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Corrections that muster calibrate wrote.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict TTFT, TPOT, throughput, power and memory of serving engines, with 90 % intervals.

    Columns: model_path, system (needed); backend, mode, isl, osl, batch_size, concurrency, tp_size, ... have defaults.
    protocol: sweep (ten requests a user of 80 to 100 % of the stated lengths, as InferenceX) or steady; left out: sweep
    at 1024/1024, 1024/8192 and 8192/1024, else steady. power_source: the energy model's measured or modelled, with an
    interval, where it knows the GPU; else roofline.
    With a calibration, rows of the deployment that it is from are corrected, and called measured near its load.

    Example: muster predict serving runs.csv -o predicted.csv --calibration calibration.json
    """
    from planner.corrections import load
    from planner.perf.calibrate import corrected
    from planner.perf.serving import predict as predict_serving

    known = load(calibration) if calibration else ()
    changed: list[int] = []

    def predicted(columns: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        plain = predict_serving(columns)
        made = corrected(columns, plain, known)
        changed.append(int((made["tpot_s"] != plain["tpot_s"])[plain["refusal"] == ""].sum()))
        return made

    _run(rows, output, as_json, predicted, ("model_path", "system"))
    if calibration:
        typer.echo(f"{calibration}: {changed[0]} rows are of its deployments (engine, version, model, ...)", err=True)


@predict.command()
def operators(
    rows: Rows,
    output: Output,
    gpu: Annotated[str, typer.Option("--gpu", help="GPU type of the catalogue.", show_default=False)],
    op: Annotated[
        str,
        typer.Option(
            "--op", help="gemm, context_attention, generation_attention, moe or allreduce.", show_default=False
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Predict latency and power of kernels, with 90 % intervals.

    Columns: those of measured operator tables (gemm: gemm_dtype, m, n, k; moe: num_tokens, hidden_size, ...).

    Example: muster predict operators shapes.parquet --gpu H100 --op gemm -o predicted.csv
    """
    from planner.perf.op_rows import OPERATORS
    from planner.perf.operators import predict as predict_operators

    if op not in OPERATORS:
        raise BadInput(f"--op: got {op!r}, allowed: {', '.join(OPERATORS)}")
    _run(rows, output, as_json, lambda columns: predict_operators(op, gpu, columns))


@predict.command()
def energy(rows: Rows, output: Output, as_json: AsJson = False) -> None:
    """Predict the power of serving engines and joules per output token, with 90 % intervals.

    Columns: model_id, gpu_model, num_gpus, task, max_num_seqs or avg_batch_size, ... Input lengths are assumed by task
    and stated in assumed_input_tokens.

    Example: muster predict energy engines.csv -o predicted.csv
    """
    from planner.perf.energy import predict as predict_energy

    _run(rows, output, as_json, predict_energy, ("model_id", "gpu_model"))


def _run(
    rows: Path,
    output: Path,
    as_json: bool,
    model: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]],
    needed: Sequence[str] = (),
) -> None:
    """Read, predict, write, and say how many rows were answered and from what, and which needed columns lack."""
    from planner.perf.tables import read, write

    with Console(stderr=True).status("predicting"):
        columns = read(rows)
        added = model(columns)
        # A column that is predicted replaces one of that name in the input.
        write(output, {**{name: values for name, values in columns.items() if name not in added}, **added})
    if lacking := [name for name in needed if name not in columns]:
        typer.echo(f"{rows}: no column {' and '.join(lacking)}; there are {', '.join(columns)}", err=True)
    summary = _summary(added)
    if as_json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        return
    answered, total = summary["answered"], summary["rows"]
    sources = ", ".join(f"{count} {name}" for name, count in summary["sources"].items())
    sys.stdout.write(f"{output}: {answered} of {total} rows answered ({sources or 'none'})\n")
    for words, count in list(summary["refusals"].items())[:10]:
        sys.stdout.write(f"  refused {count}: {words}\n")


def _summary(added: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    from collections import Counter

    refusals = Counter(str(words) for words in added["refusal"] if words)
    sources = Counter(str(word) for word in added["source"] if word)
    total = len(added["refusal"])
    return {
        "rows": total,
        "answered": total - sum(refusals.values()),
        "sources": dict(sorted(sources.items())),
        "refusals": dict(refusals.most_common()),
    }


def explain(
    model: Annotated[
        str, typer.Argument(help="Model of the catalogue, a config.json, or its folder.", show_default=False)
    ],
    gpu: Annotated[str, typer.Argument(help="GPU type of the catalogue.", show_default=False)],
    batch: Annotated[int, typer.Option("--batch", min=1, max=100_000, help="Sequences in flight.")] = 32,
    input_tokens: Annotated[int, typer.Option("--input", min=1, max=4_000_000, help="Tokens of a prompt.")] = 1024,
    output_tokens: Annotated[int, typer.Option("--output", min=1, max=1_000_000, help="Tokens of an answer.")] = 256,
    tp: Annotated[int, typer.Option("--tp", min=1, max=72, help="Tensor-parallel GPUs.")] = 1,
    engine: Annotated[str, typer.Option("--engine", help="vllm or sglang.")] = "vllm",
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            help="Weight format: bf16, fp8, fp8_block, int8, int4, nvfp4 or mxfp4; the published one if left out.",
            show_default=False,
        ),
    ] = "",
    kv: Annotated[
        str,
        typer.Option(
            "--kv",
            help="Format of the KV cache: bf16, fp16, fp32, fp8, int8 or nvfp4; bf16 if left out.",
            show_default=False,
        ),
    ] = "",
    technique: Annotated[
        list[str] | None,
        typer.Option("--technique", help=f"May be repeated: {', '.join(TECHNIQUES)}."),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, max=100_000, help="Users who wait for their answers.", show_default=False),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0, help="Requests a second that arrive at random.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where the time of a prefill and of a decode step goes, and where the memory goes.

    Times by operation, resource and bound; memory by item, with the KV tokens and the sequences that fit. With
    --concurrency or --rate, TTFT, TPOT and E2E under that load too: mean and percentiles, or overload in words.

    Example: muster explain llama-3.1-8b H100 --input 2000 --output 300 --kv fp8 --rate 4
    """
    from planner.perf.explain_case import Asked, asked_json, asked_report, explained

    size = (float(batch), float(input_tokens), float(output_tokens))
    made = explained(Asked(model, gpu, *size, tp, engine, weights, kv, tuple(technique or ()), users, rate))
    if as_json:
        sys.stdout.write(json.dumps(asked_json(made), indent=2) + "\n")
        return
    from planner.show import printed

    printed(asked_report(made))


def fit(
    family: Annotated[str, typer.Argument(help=f"What to fit: {', '.join(FAMILIES)}.", show_default=False)],
    data: Annotated[Path, typer.Option("--data", help="Folder of measured tables.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="npz file; FAMILY.npz here if left out.", show_default=False)
    ] = None,
    ship: Annotated[
        bool, typer.Option("--ship", help="For maintainers: replace the file that the installed package predicts from.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit a part of the performance model on measured rows, and print the errors of rows left out.

    The hashes of the input files are written into the model.

    Example: muster fit serving --data measurements --output serving.npz
    """
    from importlib import import_module
    from importlib.util import find_spec

    import numpy as np

    if family not in FAMILIES:
        raise BadInput(f"family: got {family!r}, allowed: {', '.join(FAMILIES)}")
    if ship and output:
        raise BadInput("--ship: got it with --output, allowed: one of them")
    if find_spec("sklearn") is None:
        raise BadInput("fitting needs scikit-learn; install muster-gpu[fit]")
    if not data.is_dir():
        raise BadInput(f"--data: got {data}, allowed: a folder of measured tables")
    target = output or (Path(__file__).parent / "data" if ship else Path()) / f"{family}.npz"
    with Console(stderr=True).status(f"fitting {family}"):
        arrays = import_module(f"planner.perf.fit_{family}").fit(data)
    try:
        with target.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise BadInput(f"{target}: cannot be written ({error.strerror})") from None
    meta = json.loads(str(arrays["meta"]))
    if as_json:
        sys.stdout.write(json.dumps({"file": str(target), **meta}, indent=2) + "\n")
        return
    rows = meta["rows"]
    counts = ", ".join(f"{count} {name}" for name, count in rows.items()) if isinstance(rows, dict) else rows
    names = list(meta["inputs_sha256"])
    shown = ", ".join(names) if len(names) < 3 else f"{len(names)} files, {names[0]} to {names[-1]}"
    sys.stdout.write(f"{target}: fitted on {counts} rows of {shown}\n")
    for name, row in meta["cross_validation"].items():
        sys.stdout.write(f"  {name:24} {', '.join(_figures(row))}\n")


def _figures(row: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Each figure with its name; those of a group carry the name of the group."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{above}{key} ")
        else:
            yield f"{above}{key} {value:,.0f}" if abs(value) >= 100 else f"{above}{key} {value:.3g}"
