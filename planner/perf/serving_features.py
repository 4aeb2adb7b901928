"""What the serving model's trees see of a row: the physics' own answer and its parts, the layout, and who measured."""

import numpy as np
from numpy.typing import NDArray

from planner.perf.formats import FORMATS
from planner.perf.serving_physics import Demand, Index
from planner.perf.serving_rows import ENGINES, Rows
from planner.perf.serving_step import runs

Array = NDArray[np.float64]
# Residuals beyond these (log) are runs that broke, not physics.
STEP_CLIP, FIRST_CLIP = 1.2, 1.6


def _log(x: Array, least: float = 1e-12) -> Array:
    return np.log(np.maximum(x, least))


def step_features(rows: Rows, d: Demand, at: Index, tpot_s: Array, prompt_s: Array) -> Array:
    """(rows, features) for the residual of TPOT."""
    w, t = d.step, rows.table
    columns = (
        _log(d.sequences * d.crowding),
        _log(d.crowding),
        _log(rows.input_tokens),
        _log(rows.output_tokens),
        _log(rows.decode.tp),
        _log(rows.decode.dp),
        _log(rows.decode.moe_ep),
        _log(tpot_s),
        _log(d.per_step * prompt_s / tpot_s + 1e-3),
        _log(w.gemm_roof / tpot_s),
        _log(w.moe_roof / tpot_s + 1e-3),
        _log(w.attention_roof / tpot_s + 1e-3),
        _log(w.layers * 1e-5 / tpot_s),
        _log(w.sequences * 1e-5 / tpot_s),
        *(1.0 * (rows.engine == i) for i in range(len(ENGINES))),
        np.array([float(FORMATS.index(f)) for f in rows.gemm_format]),
        np.array([float(FORMATS.index(f)) for f in rows.moe_format]),
        1.0 * rows.disaggregated,
        1.0 * rows.routed,
        1.0 * rows.latent,
        at.round_lengths,
        rows.day,
        1.0 * at.version,
        _log(rows.concurrency),
        1.0 * at.newer,
        _log(t.hidden[:, 0]),
        _log(t.layers[:, 0]),
        _log(t.experts.max(axis=1) + 1),
        _log(rows.peaks.hbm_bytes_per_s),
        _log(np.array([card.hbm_bytes for card in rows.gpus])),
        _log(rows.prefill.tp),
        _log(rows.prefill.dp),
        _log(rows.decode_workers / rows.prefill_workers),
        _log(t.vocab[:, 0]),
    )
    return np.stack(columns, axis=1)


# Terms whose shares the trees see together.
PARTS = (
    ("gemm", "mixed gemm"), ("moe", "mixed moe"), ("kv",), ("layers", "kernels", "latent layers", "query norms"),
    ("moe layers",), ("requests", "step"), ("reduce", "prompt reduce", "reduce start", "reductions", "hops"),
    ("prompt attention", "mixed layers", "prompts", "prompt activations"),
)  # fmt: skip


def share_features(step: Array, rows: Rows, d: Demand, groups: tuple[str, ...], shares: Array) -> Array:
    """(rows, features) for the residual of TPOT alone: what the time goes to, and which runs a row belongs to."""
    of = np.array([next((i for i, part in enumerate(PARTS) if name in part), len(PARTS)) for name in groups])
    parts = np.stack([shares[:, of == i].sum(axis=1) for i in range(len(PARTS))], axis=1)
    return np.concatenate([step, _log(parts + 1e-3), _log(d.per_step + 1e-4)[:, None], runs(rows)[:, None]], axis=1)
