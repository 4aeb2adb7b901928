"""NanoFlow (arXiv 2408.12757) and TokenWeave (arXiv 2505.11329): what overlapping within a GPU gains.

TokenWeave's engine is described by four figures: two fitted on its baseline's 14 prefill times alone (the share of our
kernels that its own reach, seconds that a layer adds in eager mode), all-reduce bandwidth from its own kernel table,
and vLLM's costs of steps and requests. What its technique changes is then predicted.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.architecture import parameters
from planner.batching import Replica, Sizes, steady
from planner.calibration import ENGINES, EngineCosts
from planner.catalog import gpu, model
from planner.cost import Case, Cost
from planner.hardware import GPUType
from planner.roofline import reached, step_time
from planner.technique import Technique, cost_of
from planner.techniques.chunked_prefill import ChunkedPrefill
from planner.techniques.nano_batch import NanoBatch
from planner.techniques.token_split_overlap import TokenSplitOverlap
from tests.benchmarks.anchor_rows import Figure, computed, explained

Array = NDArray[np.float64]
DENSE_TOKENS = 2048  # NanoFlow's batch: decoding requests and prompt tokens of one step
SEQUENCES = 256  # vLLM's default limit
PORTED = {"llama-2-70b": 8, "llama-3-70b": 8, "qwen2-72b-instruct": 8, "llama-3-8b": 1}  # those in the catalogue, GPUs
LENGTHS = ((512, 512), (1024, 512), (512, 1024))  # constant, in and out: the range is over them, as none is named
NO_ENGINE = "host and kernel costs of {} as of 2024: nobody published measurements to fit them on"
TOKENWEAVE_MODELS = {"Llama-3.3-70B-Instruct": "llama-3.3-70b", "Qwen2.5-72B-Instruct": "qwen2.5-72b-instruct"}
SHAREGPT = (299.0, 324.0)  # mean tokens of the published lengths (efeslab/Nanoflow, Apache-2.0)
COLUMNS = ("baseline_multimem", "no_ar", "overlap_fused")


def optimum(which: str, card: GPUType) -> float:
    """Tokens a second and GPU if arithmetic at the measured share of peak were all: C / (2 P)."""
    return reached(card).gemm_ratio * card.flops("bf16") / (2 * parameters(model(which)))


def throughput(
    which: str, card: GPUType, tp: int, tokens: tuple[float, float], batch: float, engine: EngineCosts, *more: Technique
) -> float:
    """Tokens a second, in and out, of a replica in steady state with chunked prompts and `batch` sequences decoding."""
    return _steady(which, card, tp, tokens, batch, engine, _kept, *more)


def _steady(
    which: str,
    card: GPUType,
    tp: int,
    tokens: tuple[float, float],
    batch: float,
    engine: EngineCosts,
    change: Callable[[Cost], Cost],
    *techniques: Technique,
) -> float:
    one = np.ones((1, 1))
    sizes = Sizes(tokens[0] * one, tokens[1] * one, tokens[0] * one)
    chunk = next((t.chunk_tokens for t in techniques if isinstance(t, ChunkedPrefill)), 2048)
    prompts = max(chunk / tokens[0], 1.0)
    case = Case(model(which), card, batch * one, sizes.input_tokens, sizes.output_tokens, prompts * one, tp=tp)
    run = steady(change(cost_of(case, techniques)), Replica(card, engine, sizes, batch * one, 1))
    return float(run.requests_per_s[0, 0]) * sum(tokens)


def _kept(cost: Cost) -> Cost:
    return cost


def nanoflow_ratio(which: str, tokens: tuple[float, float], engine: str, *more: Technique) -> float:
    """Throughput over the optimum on A100s: as many prompt tokens in a step as keep up with the decoding requests."""
    card, tp = gpu("A100-SXM-80GB"), PORTED[which]
    batch = DENSE_TOKENS / (1 + tokens[0] / tokens[1])
    chunk = ChunkedPrefill(round(DENSE_TOKENS - batch))
    return throughput(which, card, tp, tokens, batch, ENGINES[engine], chunk, *more) / tp / optimum(which, card)


def vllm_2023_ratio() -> float:
    """The same of the vLLM of autumn 2023 and its default limit of sequences, 512 tokens in and out."""
    card = gpu("A100-SXM-80GB")
    made = throughput("llama-2-70b", card, 8, (512, 512), SEQUENCES, ENGINES["vllm-2023"], ChunkedPrefill(512))
    return made / 8 / optimum("llama-2-70b", card)


def tokenweave_engine(folder: Path) -> EngineCosts:
    """vLLM as TokenWeave's baseline ran it."""
    return _fitted(folder)


@cache
def _fitted(folder: Path) -> EngineCosts:
    """Compute share and layer seconds of a grid with the least mean error on the baseline."""
    table = _table(folder / "engine" / "tokenweave_prefill_ms_8xh100.csv")
    kernels = _table(folder / "operators" / "tokenweave_multimem_allreduce_sweep_us.csv")[-1]
    message = float(kernels["BL"]) * float(kernels["hidden_size"]) * 2  # 16-bit
    bus_bytes_per_s = message * 2 * 7 / 8 / (float(kernels["multimem_ar_us_ctas_16"]) / 1e6)
    link_ratio = bus_bytes_per_s / (0.75 * float(gpu("H100").scale_up_bytes_per_s or 0.0))
    vllm = ENGINES["vllm"]
    tried = [
        replace(vllm, compute_ratio=float(share), layer_s=float(layer_s), link_ratio=link_ratio, source="TokenWeave")
        for share in np.arange(0.7, 1.0, 0.02)
        for layer_s in np.arange(0.0, 2e-4, 1e-5)
    ]
    paper = [float(row[COLUMNS[0]]) / 1e3 for row in table]
    costs = [_prefill(row)[0] for row in table]

    def error(engine: EngineCosts) -> float:
        ours = [_step_s(cost, engine) for cost in costs]
        return float(np.abs(np.log(np.array(ours) / np.array(paper))).mean())

    return min(tried, key=error)


def prefill_s(row: Mapping[str, str], engine: EngineCosts) -> dict[str, float]:
    """Seconds of one prompt on 8 H100s: baseline, without its all-reduces, and overlapped."""
    return {name: _step_s(cost, engine) for name, cost in zip(COLUMNS, _prefill(row), strict=True)}


def _prefill(row: Mapping[str, str]) -> tuple[Cost, Cost, Cost]:
    case = Case(model(TOKENWEAVE_MODELS[row["model"]]), gpu("H100"), 1.0, float(row["prompt_len"]), 1.0, tp=8)
    base = cost_of(case, [])
    return base, silent(base), cost_of(case, [TokenSplitOverlap()])


def silent(cost: Cost) -> Cost:
    """The same without all-reduces."""
    return cost.map_ops(lambda op: replace(op, traffic={}) if op.name == "all_reduce" else op)


def _step_s(cost: Cost, engine: EngineCosts) -> float:
    return float(step_time(cost.phases["prefill"], gpu("H100"), engine).total_s)


def served(row: Mapping[str, str], engine: EngineCosts) -> dict[str, float]:
    """Tokens a second of 8 H100s with 256 sequences and chunks of 2,048 tokens, in the same three ways."""
    which, chunk = TOKENWEAVE_MODELS[row["model"]], ChunkedPrefill()
    told = row["experiment"].strip("()").split(",")
    tokens = SHAREGPT if len(told) == 1 else (float(told[0]), float(told[1]))
    ways = ((_kept, ()), (silent, ()), (_kept, (TokenSplitOverlap(),)))
    made = (_steady(which, gpu("H100"), 8, tokens, SEQUENCES, engine, change, chunk, *more) for change, more in ways)
    return dict(zip(COLUMNS, made, strict=True))


def tables(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of both of TokenWeave's tables of a whole engine."""
    names = ("tokenweave_prefill_ms_8xh100.csv", "tokenweave_throughput_8xh100.csv")
    prefill, throughputs = (_table(folder / "engine" / name) for name in names)
    return prefill, throughputs


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures(row: dict[str, str], folder: Path) -> list[Figure]:
    """Ours for each figure of a row."""
    name = row["id"]
    if name == "nanoflow-optimal":
        return [computed(optimum("llama-2-70b", gpu("A100-SXM-80GB")))]
    if name == "nanoflow-fraction":
        ported = [nanoflow_ratio(which, tokens, "sglang", NanoBatch()) for which in PORTED for tokens in LENGTHS]
        return [computed(min(ported)), computed(max(ported))]
    if name == "nanoflow-best":
        return [computed(nanoflow_ratio("llama-2-70b", (512, 512), "sglang", NanoBatch()))]
    if name == "nanoflow-baselines":
        rest = [explained(NO_ENGINE.format(engine)) for engine in ("DeepSpeed-FastGen", "TensorRT-LLM")]
        return [computed(vllm_2023_ratio()), *rest]
    if name == "nanoflow-speedup":
        return [explained(NO_ENGINE.format("TensorRT-LLM"))]
    engine = tokenweave_engine(folder)
    prompts, runs = tables(folder)
    times, rates = [prefill_s(r, engine) for r in prompts], [served(r, engine) for r in runs]
    latency = max(t["baseline_multimem"] / t["overlap_fused"] for t in times)
    return [computed(latency), computed(max(r["overlap_fused"] / r["baseline_multimem"] for r in rates))]
