"""What the rows ask of their GPUs: a decode step, and the prompts that arrive during it, at datasheet peaks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.base import EXPERTS_ONLY, WEIGHT_BYTES
from planner.model import Model
from planner.perf.energy_rows import Row
from planner.perf.energy_tasks import WRITTEN_RATIO
from planner.perf.energy_terms import Step, Terms, cards, step_terms
from planner.perf.formats import flops
from planner.perf.steps import Layout, Peaks, Table, Work, table, work

Array = NDArray[np.float64]
_MEDIA = ("image-chat", "video-chat", "audio-chat")
_NUMBERS = ("batch", "tp", "dp", "moe_tp", "moe_ep", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What the rows ask of their GPUs: one decode step, and the prefill of the prompts that arrive during it."""

    rows: Sequence[Row]
    decode: Work
    prefill: Work
    batch: Array
    peaks: Peaks
    models: Table
    layout: Layout

    @property
    def state_layers(self) -> Array:
        """Layers that keep a fixed state instead of KV."""
        return np.asarray((self.models.a_count * (self.models.a_state > 0)).sum(axis=1))


def demand(rows: Sequence[Row]) -> Demand:
    """The demand of one step of every row."""
    of = {name: np.array([getattr(row, name) for row in rows], dtype=float) for name in _NUMBERS}
    layout = Layout(of["tp"], of["dp"], of["moe_tp"], of["moe_ep"])
    peaks = _peaks(rows)
    models = _table([row.model for row in rows])
    context = of["input_tokens"] + WRITTEN_RATIO * of["output_tokens"]
    each = of["batch"] / of["dp"]
    decode = work(models, peaks, layout, each, np.ones(len(rows)), context)
    # As many prompts arrive in a step as sequences end in it.
    prefill = work(models, peaks, layout, each / of["output_tokens"], of["input_tokens"], None)
    return Demand(rows, decode, prefill, of["batch"], peaks, models, layout)


def _table(models: Sequence[Model]) -> Table:
    """One row for each model; each is looked into once."""
    once = {id(model): model for model in models}  # equal models are mostly the same object, and slow to compare
    at = {key: i for i, key in enumerate(once)}
    rows, found = np.array([at[id(model)] for model in models]), table(list(once.values()))
    return Table(**{field.name: getattr(found, field.name)[rows] for field in fields(Table)})


def _peaks(rows: Sequence[Row]) -> Peaks:
    forms = [row.model.weight_dtype for row in rows]
    dense = ["bf16" if form in EXPERTS_ONLY else form for form in forms]

    def flops_per_s(dtypes: Sequence[str]) -> Array:
        return np.array([flops(row.gpu, dtype) for row, dtype in zip(rows, dtypes, strict=True)])

    return Peaks(
        gemm_flops_per_s=flops_per_s(dense),
        moe_flops_per_s=flops_per_s(forms),
        attention_flops_per_s=flops_per_s(["bf16"] * len(rows)),
        hbm_bytes_per_s=np.array([row.gpu.hbm_bytes_per_s for row in rows]),
        link_bytes_per_s=np.array([row.gpu.scale_up_bytes_per_s or row.gpu.pcie_bytes_per_s or 32e9 for row in rows]),
        gemm_weight_bytes=np.array([WEIGHT_BYTES[form] for form in dense]),
        moe_weight_bytes=np.array([WEIGHT_BYTES[form] for form in forms]),
        kv_bytes=np.full(len(rows), 2.0),
    )


def terms(demand: Demand) -> Terms:
    """The terms of rows of the leaderboard, in the order of `TIMED`."""
    rows, batch = demand.rows, demand.batch

    def of(name: str) -> Array:
        return np.array([getattr(row, name) for row in rows], dtype=float)

    def tasks(*names: str) -> Array:
        return np.array([row.task in names for row in rows], dtype=float)

    step = Step(
        decode=demand.decode,
        prompt=demand.prefill,
        prompts=np.ones(len(rows)),
        batch=batch,
        arrivals=batch / of("output_tokens"),
        input_tokens=of("input_tokens"),
        output_tokens=of("output_tokens"),
        woken_hbm_s=_prompt_step(demand).moe_hbm,
        state_layers=demand.state_layers,
        tp=of("tp"),
        ranks=of("moe_ep"),
        per_token=of("experts_per_token"),
        gpus=of("gpus"),
        media=tasks(*_MEDIA),
        chat=tasks("lm-arena-chat"),
        quiz=tasks("gpqa"),
    )
    return step_terms(step, cards([row.gpu for row in rows]))


def _prompt_step(demand: Demand) -> Work:
    """A step with one whole prompt in it besides the sequences that write."""
    inputs = np.array([row.input_tokens for row in demand.rows])
    tokens = (demand.batch + inputs) / demand.layout.dp
    return work(demand.models, demand.peaks, demand.layout, tokens, np.ones(len(inputs)), inputs)
