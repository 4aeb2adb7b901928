"""Commands that speak to running deployments. Exit codes: 0 done, 2 bad input, 3 nothing to say, 5 off by too much."""

import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from planner.errors import BadInput

if TYPE_CHECKING:
    from planner.corrections import Deployment
    from planner.perf.calibrate import Calibration
    from planner.perf.observed import Observed

REFUSED, DRIFTED = 3, 5


def calibrate(
    metrics: Annotated[
        list[str],
        typer.Option("--metrics", help="http://host:port/metrics, or files of its scrapes, earliest first."),
    ],
    gpu: Annotated[str, typer.Option("--gpu", help="GPU type of the catalogue.", show_default=False)],
    model: Annotated[str, typer.Option("--model", help="Model; the metrics' model_name if left out.")] = "",
    spec: Annotated[Path | None, typer.Option("--spec", help="GPUService that names model and engine.")] = None,
    tp: Annotated[int, typer.Option("--tp", min=1, max=72, help="Tensor-parallel GPUs.")] = 1,
    pp: Annotated[int, typer.Option("--pp", min=1, max=64, help="Pipeline stages.")] = 1,
    dp: Annotated[int, typer.Option("--dp", min=1, max=1024, help="Attention ranks that the metrics add up.")] = 1,
    weights: Annotated[str, typer.Option("--weights", help="Weight format; the published one if left out.")] = "",
    engine_version: Annotated[str, typer.Option("--engine-version", help="Such as 0.19.0; today's if left out.")] = "",
    served_name: Annotated[str, typer.Option("--served-name", help="model_name, where several are served.")] = "",
    concurrency: Annotated[
        float | None,
        typer.Option("--concurrency", min=0.01, max=1e6, help="Requests in the engine, if unknown."),
    ] = None,
    window: Annotated[float, typer.Option("--window", min=0, max=3600, help="Seconds between two scrapes.")] = 0.0,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=300, help="Seconds to wait for a URL.")] = 10.0,
    token_env: Annotated[str, typer.Option("--token-env", help="Variable that holds a bearer token.")] = "",
    calibration: Annotated[Path | None, typer.Option("--calibration", help="Corrections to start from.")] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", min=0.001, max=10, help="Exit with 5 if off by more, such as 0.2.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write the correction to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Correct the performance model from a deployment's own metrics, and say how far it was off.

    vLLM and SGLang. One scrape counts since the engine started; two count what lies between them. A file may hold
    several scrapes, each begun by a line "# scrape SECONDS".

    Example: muster calibrate --metrics http://10.0.0.7:8000/metrics --window 300 --gpu H100 --tp 2 -o calibration.json

    Example: muster calibrate --metrics day.prom --gpu L4 --calibration calibration.json --tolerance 0.2
    """
    from controller.metrics import read
    from planner.corrections import load, text
    from planner.perf.calibrate import calibrate as learn
    from planner.perf.observed import observe

    earlier = load(calibration) if calibration else ()
    found = read(metrics, window_s=window, timeout_s=timeout, token=_token(token_env))
    seen = observe(found.scrapes, served_name, concurrency)
    if isinstance(seen, str):
        _refuse(seen)
    named, engine = _named(spec)
    deployment = _deployment(seen, model or named, engine, gpu, (tp, pp, dp), weights, engine_version)
    answer = learn(seen, deployment, datetime.now(UTC).isoformat(timespec="seconds"), found.sha256, earlier)
    if isinstance(answer, str):
        _refuse(answer)
    if output is not None:
        _write(output, text((answer.correction,)))
    _say(answer, _kv(seen, deployment), output, tolerance, as_json)


def _write(output: Path, words: str) -> None:
    try:
        output.write_text(words, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{output}: cannot be written ({error.strerror})") from None


def _say(
    answer: "Calibration", kv: dict[str, float] | None, output: Path | None, tolerance: float | None, as_json: bool
) -> None:
    """Print what was learnt; exit with `DRIFTED` where more is off than allowed."""
    drifted = answer.drifted(tolerance) if tolerance is not None else ()
    if as_json:
        plain = {**_plain(answer), "kv_tokens": kv, "drifted": [row.name for row in drifted]}
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
    else:
        _print(answer, kv, output)
    if drifted:
        rows = ", ".join(f"{row.name} {row.off_ratio:+.0%}" for row in drifted)
        typer.echo(f"drift: predicted {rows}, allowed {tolerance:.0%} either way; calibrate anew", err=True)
        raise typer.Exit(DRIFTED)


def _token(variable: str) -> str:
    if not variable:
        return ""
    value = os.environ.get(variable, "")
    if not value or not value.isascii() or not value.isprintable():
        raise BadInput(f"--token-env: {variable[:60]} is not set to a token")
    return value


def _named(spec: Path | None) -> tuple[str, str]:
    """Model and engine of the first service of a spec."""
    if spec is None:
        return "", ""
    from planner.spec import load_services

    service = load_services(spec)[0]
    return service.model.name, service.engine


def _deployment(
    seen: "Observed", model: str, engine: str, gpu: str, degrees: tuple[int, int, int], weights: str, version: str
) -> "Deployment":
    from planner.corrections import Deployment

    if engine and engine != seen.engine:
        raise BadInput(f"--spec: got engine {engine}, the metrics are of {seen.engine}")
    if not model and not seen.model:
        raise BadInput("--model: the metrics name no model; say which")
    return Deployment(seen.engine, version, model or seen.model, gpu, *degrees, weights)


def _kv(seen: "Observed", deployment: "Deployment") -> dict[str, float] | None:
    """KV tokens: as the engine states them, and as predicted; None where it does not say."""
    from planner.catalog import gpu
    from planner.perf.memory import Budget, Running, budget
    from planner.perf.serving_rows import published

    model = published(deployment.model)
    if seen.kv_blocks is None or seen.block_tokens is None or model is None:
        return None
    running = Running(
        deployment.engine,
        _release(deployment.engine_version),
        deployment.tp,
        deployment.pp,
        deployment.dp,
        weight_format=deployment.weight_format,
        block_tokens=seen.block_tokens,
        ratio=seen.utilisation_ratio,
    )
    made = budget(model, gpu(deployment.gpu), running)
    real = seen.kv_blocks * seen.block_tokens
    return {"measured": real, "predicted": made.kv_tokens} if isinstance(made, Budget) else {"measured": real}


def _release(version: str) -> tuple[int, ...]:
    """`0.19.0` as (0, 19); () for what is no release."""
    parts = version.removeprefix("v").split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


def _refuse(words: str) -> NoReturn:
    typer.echo(f"refused: {words}", err=True)
    raise typer.Exit(REFUSED)


def _plain(answer: "Calibration") -> dict[str, Any]:
    seen = answer.observed
    load = {
        "engine": seen.engine, "model_name": seen.model, "requests": seen.requests, "window_s": seen.window_s,
        "input_tokens": seen.input_tokens, "output_tokens": seen.output_tokens, "concurrency": seen.concurrency,
        "running": seen.running, "waiting": seen.waiting, "kv_usage_ratio": seen.kv_usage_ratio,
        "prefix_cached_ratio": seen.cached_ratio, "tpot_from": seen.tpot_from,
        "ttft_p50_s": seen.ttft.quantile(0.5), "ttft_p99_s": seen.ttft.quantile(0.99),
    }  # fmt: skip
    rows = [{**asdict(row), "off_ratio": row.off_ratio} for row in answer.compared]
    return {"observed": load, "compared": rows, "correction": asdict(answer.correction), "source": answer.source}


def _print(answer: "Calibration", kv: dict[str, float] | None, output: Path | None) -> None:
    from controller.show import report
    from planner.show import printed

    printed(report(answer, kv))
    if output is not None:
        sys.stdout.write(f"{output}: correction written; use it with --calibration {output}\n")
