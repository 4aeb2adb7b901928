"""Rows that ask for the power of an engine, read into what its steps demand: seconds at datasheet peaks, and counts.

The columns are those of the ML.ENERGY leaderboard (arXiv 2505.06371): model_id, gpu_model, num_gpus, max_num_seqs or
avg_batch_size, and optionally the task, output length, parallel degrees, parameters and weight precision. A row that
cannot be read is refused in words; nothing here is fitted.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner import catalog
from planner.architecture import active_parameters, kv_elements, parameters
from planner.base import EXPERTS_ONLY, WEIGHT_BYTES
from planner.calibration import HBM_RATIO
from planner.catalog.gpus import is_slice
from planner.errors import MusterError
from planner.hardware import GPUType
from planner.model import Model
from planner.perf.energy_tasks import OTHER_TASK, TASKS, WRITTEN_RATIO

Array = NDArray[np.float64]
# What measured engines were taken to hold besides weights and KV when `energy.npz` was fitted (`planner/memory.py` says
# what an engine holds).
WORKSPACE_BYTES = 1.06e9
_PRECISIONS = {
    **{name: name for name in WEIGHT_BYTES},
    "bfloat16": "bf16",
    "float16": "fp16",
    "float8": "fp8",
    "fp8_e4m3": "fp8",
    "fp4": "nvfp4",
    "float32": "fp32",
}
# What a published name adds to that of the language model inside, or says of its tuning and format.
_ADDED = re.compile(
    r"-(?:vl|omni|instruct|thinking|it|fp8|awq|bf16|mxfp4|nvfp4|fp4|int8|gptq|dynamic|chat|captioner|[0-9]{4})(?=-|$)",
    re.IGNORECASE,
)
# What is read of a row; powers, energies, latencies and throughputs among the columns are not.
READ = (
    "task", "model_id", "gpu_model", "num_gpus", "tensor_parallel", "expert_parallel", "data_parallel", "max_num_seqs",
    "avg_batch_size", "avg_input_len", "avg_output_len", "total_params_billions", "activated_params_billions",
    "weight_precision",
)  # fmt: skip
_LEAST_BILLIONS, _MOST_BILLIONS = 1e-3, 1e5
_MOST_GPUS, _MOST_SEQUENCES, _MOST_TOKENS = 1024, 65536, 10_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row that can be answered. `batch` sequences in all; `known` where the catalogue has the model itself."""

    model: Model
    gpu: GPUType
    task: str
    gpus: int
    tp: int
    dp: int
    moe_tp: int
    moe_ep: int
    batch: float
    limit: float
    input_tokens: float
    output_tokens: float
    known: bool

    @property
    def experts_per_token(self) -> int:
        """Routed experts that a token is sent to; 0 for a dense model."""
        return max((block.ffn.experts_per_token for block in self.model.blocks if block.ffn is not None), default=0)


def read(columns: Mapping[str, NDArray[Any]]) -> tuple[list[Row | None], list[str], Array]:
    """Each row as a `Row` or None, why it is refused ("" if it is not), and the input tokens assumed (nan if none)."""
    names = [name for name in READ if name in columns]
    rows: list[Row | None] = []
    refusals: list[str] = []
    assumed: list[float] = []
    for i in range(len(next(iter(columns.values()), ()))):
        stated = {name: _value(columns[name][i]) for name in names}
        try:
            row = _row(stated)
        except MusterError as error:
            rows.append(None)
            refusals.append(str(error))
            assumed.append(math.nan)
            continue
        rows.append(row)
        refusals.append("")
        assumed.append(row.input_tokens)
    return rows, refusals, np.array(assumed)


def _value(value: Any) -> Any:
    """A cell: text without blanks, a number, or None where it is empty."""
    if isinstance(value, str):
        text = value.strip()
        return text or None
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    return value


def _row(stated: Mapping[str, Any]) -> Row:
    found, known = _model(stated)
    card = _gpu(stated.get("gpu_model"))
    gpus = _count(stated, "num_gpus", 1, _MOST_GPUS)
    dp = _count(stated, "data_parallel", 1, gpus)
    ep = _count(stated, "expert_parallel", 1, gpus)
    asked_tp = _count(stated, "tensor_parallel", 1, gpus)
    # With expert parallelism the leaderboard writes tensor_parallel 1, while attention is split over all GPUs.
    tp = max(asked_tp, gpus // dp) if ep > 1 else max(asked_tp, 1)
    if gpus % dp or gpus % tp:
        raise _bad("num_gpus", gpus, f"a multiple of data_parallel ({dp}) and tensor_parallel ({tp})")
    if tp * dp < gpus:
        dp = gpus // tp
    name = str(stated.get("task") or OTHER_TASK).lower()
    task = TASKS.get(name, TASKS[OTHER_TASK])
    inputs = _number(stated, "avg_input_len", task.input_tokens, _MOST_TOKENS)
    outputs = _number(stated, "avg_output_len", task.output_tokens, _MOST_TOKENS)
    made = Row(found, card, name, gpus, tp, dp, max(gpus // ep, 1), ep, 1.0, 1.0, inputs, outputs, known)
    most = _room(made)
    if most <= 0:
        raise _bad("num_gpus", gpus, f"enough for the weights of {found.name} beside the engine on {card.name}")
    limit = _number(stated, "max_num_seqs", math.nan, _MOST_SEQUENCES)
    batch = _number(stated, "avg_batch_size", math.nan, _MOST_SEQUENCES)
    if math.isnan(batch):
        if math.isnan(limit):
            raise _bad("max_num_seqs", None, "a limit of sequences, or avg_batch_size")
        batch = max(1.0, min(limit, most))
    return replace(made, batch=batch, limit=batch if math.isnan(limit) else limit)


def _room(row: Row) -> float:
    """Sequences whose KV cache fits beside the weights, at their mean length."""
    held_bytes, caches = _held(row.model)
    copies = row.dp if row.moe_ep == 1 else 1
    free = row.gpus * (HBM_RATIO * row.gpu.hbm_bytes - WORKSPACE_BYTES) - held_bytes * copies
    context = row.input_tokens + WRITTEN_RATIO * row.output_tokens
    kept = sum(2.0 * (each * min(context, window) + state) * count for each, window, state, count in caches)
    return free / kept if kept else math.inf * free


@cache
def _held(model: Model) -> tuple[float, tuple[tuple[float, float, float, int], ...]]:
    """Bytes of the weights; and of every attention layer KV elements a token, window, elements of state, and count."""
    each = WEIGHT_BYTES[model.weight_dtype] if model.weight_dtype not in EXPERTS_ONLY else _mixed(model)
    caches = [
        (float(kv_elements(a)), math.inf if a.window is None else float(a.window), float(a.state_elements), block.count)
        for block in model.blocks
        if (a := block.attention) is not None
    ]
    return parameters(model) * each, tuple(caches)


def _mixed(model: Model) -> float:
    """Bytes per parameter where only experts are narrow."""
    experts = parameters(model) - active_parameters(model)
    narrow = experts / parameters(model)
    return WEIGHT_BYTES[model.weight_dtype] * narrow + 2.0 * (1 - narrow)


def _gpu(name: Any) -> GPUType:
    if name is None:
        raise _bad("gpu_model", None, "a GPU of the catalogue")
    card = catalog.gpu(str(name))
    if is_slice(card):
        raise _bad("gpu_model", f"the MIG slice {card.name}", "a whole GPU, as power is measured of those only")
    return card


def _model(stated: Mapping[str, Any]) -> tuple[Model, bool]:
    """The model of a row in the precision that it states, and whether the catalogue has it."""
    total = _number(stated, "total_params_billions", math.nan, _MOST_BILLIONS, _LEAST_BILLIONS)
    active = _number(stated, "activated_params_billions", total, _MOST_BILLIONS, _LEAST_BILLIONS)
    name = stated.get("model_id")
    if name is None and math.isnan(total):
        raise _bad("model_id", None, "a model of the catalogue, or total_params_billions")
    found, known = _named(str(name or ""), total, active)
    precision = stated.get("weight_precision")
    if precision is None:
        return found, known
    dtype = _PRECISIONS.get(str(precision).lower())
    if dtype is None:
        raise _bad("weight_precision", precision, ", ".join(sorted(_PRECISIONS)))
    return _in_dtype(found, dtype), known


@cache
def _in_dtype(model: Model, dtype: str) -> Model:
    return model if model.weight_dtype == dtype else replace(model, weight_dtype=dtype)


@cache
def _named(name: str, total_billions: float, active_billions: float) -> tuple[Model, bool]:
    unknown: MusterError | None = None
    for word in (name, _ADDED.sub("", name)):
        try:
            return catalog.model(word), True
        except MusterError as error:
            unknown = unknown or error
    if math.isnan(total_billions):
        assert unknown is not None
        raise unknown
    return _nearest(total_billions * 1e9, active_billions * 1e9), False


def _nearest(total: float, active: float) -> Model:
    """The catalogue's model of the nearest size, with more or fewer layers, for one that it does not have."""
    sizes = {row: (parameters(row), active_parameters(row)) for row in catalog.models()}

    def far(row: Model) -> float:
        return abs(math.log(total / sizes[row][0])) + abs(math.log(active / sizes[row][1]))

    near = min(sizes, key=far)
    ratio = total / sizes[near][0]
    blocks = tuple(replace(block, count=max(1, round(block.count * ratio))) for block in near.blocks)
    return replace(near, name=f"{near.name} x {ratio:.2f}", blocks=blocks)


def _number(stated: Mapping[str, Any], name: str, default: float, most: float, least: float = 0.0) -> float:
    """A positive number of a row."""
    value = stated.get(name)
    if value is None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (number > 0 and least <= number <= most):  # nan too
        raise _bad(name, value, f"a number {f'from {least:g} to' if least else 'above 0 and at most'} {most:g}")
    return number


def _count(stated: Mapping[str, Any], name: str, default: int, most: int) -> int:
    number = _number(stated, name, default, most)
    if number != round(number):
        raise _bad(name, stated.get(name), f"a whole number from 1 to {most}")
    return int(number)


def _bad(column: str, value: Any, allowed: str) -> MusterError:
    got = "nothing" if value is None else str(value)[:60]
    return MusterError(f"{column}: got {got}, allowed: {allowed}")
