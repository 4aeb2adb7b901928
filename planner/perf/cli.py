"""Commands of the performance model: predict, explain, fit. Exit codes: 0 done (refused rows included), 2 bad input."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from numpy.typing import NDArray
from rich.console import Console

from planner.errors import BadInput

if TYPE_CHECKING:
    from planner.cost import Case
    from planner.perf.memory import Budget

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

    _run(rows, output, as_json, predicted)
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

    _run(rows, output, as_json, predict_energy)


def _run(
    rows: Path, output: Path, as_json: bool, model: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
) -> None:
    """Read, predict, write, and say how many rows were answered and from what."""
    from planner.perf.tables import read, write

    with Console(stderr=True).status("predicting"):
        columns = read(rows)
        added = model(columns)
        # A column that is predicted replaces one of that name in the input.
        write(output, {**{name: values for name, values in columns.items() if name not in added}, **added})
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
    model: Annotated[str, typer.Argument(help="Model of the catalogue, or a config.json.", show_default=False)],
    gpu: Annotated[str, typer.Argument(help="GPU type of the catalogue.", show_default=False)],
    batch: Annotated[int, typer.Option("--batch", min=1, max=100_000, help="Sequences in flight.")] = 32,
    input_tokens: Annotated[int, typer.Option("--input", min=1, max=4_000_000, help="Tokens of a prompt.")] = 1024,
    output_tokens: Annotated[int, typer.Option("--output", min=1, max=1_000_000, help="Tokens of an answer.")] = 256,
    tp: Annotated[int, typer.Option("--tp", min=1, max=72, help="Tensor-parallel GPUs.")] = 1,
    engine: Annotated[str, typer.Option("--engine", help="vllm or sglang.")] = "vllm",
    weights: Annotated[
        str, typer.Option("--weights", help="Weight format in memory; the published one if left out.")
    ] = "",
    kv: Annotated[str, typer.Option("--kv", help="Format of the KV cache: bf16, fp8, int8, nvfp4.")] = "bf16",
    technique: Annotated[
        list[str] | None, typer.Option("--technique", help="A technique to cost the steps with; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where the time of a prefill and of a decode step goes, and where the memory goes.

    Times by operation, resource and bound; memory by item, with the KV tokens and the sequences that fit.

    Example: muster explain llama-3.1-8b H100 --batch 64 --input 2000 --output 300 --kv fp8
    """
    from dataclasses import asdict

    from planner.calibration import ENGINES
    from planner.catalog import gpu as gpu_named
    from planner.catalog import model as model_named
    from planner.cost import Case
    from planner.perf.explain import explain as breakdowns
    from planner.perf.explain import hbm_bytes, memory, with_techniques
    from planner.perf.formats import FORMATS
    from planner.perf.memory import KV_BYTES

    if engine not in ENGINES:
        raise BadInput(f"--engine: got {engine!r}, allowed: {', '.join(ENGINES)}")
    for option, word, known in (("--weights", weights, ("", *FORMATS)), ("--kv", kv, tuple(KV_BYTES))):
        if word not in known:
            raise BadInput(f"{option}: got {word!r}, allowed: {', '.join(filter(None, known))}")
    case = Case(model_named(model), gpu_named(gpu), float(batch), float(input_tokens), float(output_tokens), tp=tp)
    odd = [b.attention.heads for b in case.model.blocks if b.attention is not None and b.attention.heads % tp]
    if odd:
        raise BadInput(f"--tp: got {tp}, which does not divide {odd[0]} heads of {case.model.name}")
    cost = with_techniques(case, technique or [])
    if isinstance(cost, str):
        raise BadInput(f"--technique: {cost}")
    phases, held = breakdowns(case, engine, cost), hbm_bytes(case, cost)
    made = memory(case, engine, weights, kv)
    if as_json:
        answer = {"model": case.model.name, "gpu": case.gpu.name, "hbm_bytes": held, "memory": _memory(made, case)}
        sys.stdout.write(json.dumps({**answer, "phases": [asdict(phase) for phase in phases]}, indent=2) + "\n")
        return
    from planner.show import Table, Words, printed
    from planner.show_tables import breakdown_table, memory_table

    report: list[Table | Words] = []
    for phase in phases:
        report += [breakdown_table(phase), Words("")]
    if not isinstance(made, str):
        report += [memory_table(made, case.gpu.hbm_bytes), Words("")]
    printed(report)
    sys.stdout.write(_memory_words(made, case) + "\n")
    fits = "fits" if held <= case.gpu.hbm_bytes else "does not fit"
    sys.stdout.write(f"needs {held / 1e9:.1f} GB of {case.gpu.name}'s {case.gpu.hbm_bytes / 1e9:.1f} GB: {fits}\n")


def _memory(made: "Budget | str", case: "Case") -> dict[str, Any]:
    """The budget as plain numbers, or the refusal."""
    if isinstance(made, str):
        return {"refusal": made}
    lo, hi = made.kv_tokens_interval
    fits = made.sequences_of([(float(case.input_tokens + case.output_tokens), 1.0)])
    tokens = {"kv_blocks": made.kv_blocks, "kv_tokens": made.kv_tokens, "kv_tokens_lo": lo, "kv_tokens_hi": hi}
    return {"bytes": dict(made.items), "usable_bytes": made.usable_bytes, **tokens, "sequences": fits, "refusal": ""}


def _memory_words(made: "Budget | str", case: "Case") -> str:
    if isinstance(made, str):
        return made
    plain = _memory(made, case)
    length = case.input_tokens + case.output_tokens
    words = f"{plain['sequences']:,} sequences of {length:,.0f} tokens fit at once (at most {made.running.sequences:,})"
    if not made.kv_blocks:
        return f"no KV cache; {words}"
    return (
        f"KV for {plain['kv_tokens']:,} tokens ({plain['kv_tokens_lo']:,} to {plain['kv_tokens_hi']:,}) in "
        f"{plain['kv_blocks']:,} blocks of {made.running.block_tokens}; {words}"
    )


def fit(
    family: Annotated[str, typer.Argument(help="What to fit: serving.", show_default=False)],
    data: Annotated[Path, typer.Option("--data", help="Folder of measured tables.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="npz file; the shipped one if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a part of the performance model on measured rows, and print the errors of rows left out.

    The hashes of the input files are written into the model.

    Example: muster fit serving --data measurements --output serving.npz
    """
    from importlib import import_module
    from importlib.util import find_spec

    import numpy as np

    if not family.isidentifier() or find_spec(f"planner.perf.fit_{family}") is None:
        raise BadInput(f"family: got {family!r}, allowed: {', '.join(_families())}")
    if find_spec("sklearn") is None:
        raise BadInput("fitting needs scikit-learn; install muster-gpu[fit]")
    if not data.is_dir():
        raise BadInput(f"--data: got {data}, allowed: a folder of measured tables")
    target = output or Path(__file__).parent / "data" / f"{family}.npz"
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
    sys.stdout.write(f"{target}: fitted on {meta['rows']} rows\n")
    for name, row in meta["cross_validation"].items():
        figures = ", ".join(f"{key} {value:.3g}" for key, value in row.items())
        sys.stdout.write(f"  {name:24} {figures}\n")


def _families() -> list[str]:
    return sorted(path.stem.removeprefix("fit_") for path in Path(__file__).parent.glob("fit_*.py"))
