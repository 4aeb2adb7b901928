"""Generated tables for kernels and energy, through files: each row is answered soundly or refused in words."""

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from planner.errors import BadInput
from planner.perf import energy, operators
from planner.perf.op_rows import OPERATORS
from planner.perf.tables import read, write

NAMES = (
    "model_id", "gpu_model", "num_gpus", "max_num_seqs", "avg_batch_size", "avg_output_len", "weight_precision",
    "tensor_parallel", "expert_parallel", "data_parallel", "total_params_billions", "activated_params_billions", "task",
    "gemm_dtype", "m", "n", "k", "num_heads", "num_key_value_heads", "head_dim", "window_size", "batch_size", "isl",
    "step", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_ep_size", "distribution",
    "message_size", "op_name", "kernel_source", "power_w", "refusal", "other", "",
)  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(["1", "8", "64", "128", "4096"]),
    st.sampled_from(["Qwen/Qwen3-8B", "deepseek-r1", "H100", "B200", "L40S", "fp8", "balanced", "power_law_1.2"]),
    st.sampled_from(["", "-0", "-1", "nan", "-inf", "1e308", "5e-324", "0.3", "1e19", "\x00", "💥", "x" * 50_000]),
    st.text(max_size=5),
)
ENDS = st.sampled_from([lambda raw: raw, lambda raw: b"\xef\xbb\xbf" + raw, lambda raw: raw[:-3], lambda raw: b""])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A CSV of up to three rows, now and then with a name twice, a byte order mark, a part missing, or nothing."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12))
    names = names if draw(st.integers(0, 9)) == 0 else list(dict.fromkeys(names))
    text = io.StringIO()
    rows = draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=3))
    csv.writer(text).writerows([names, *rows])
    raw: bytes = draw(ENDS)(text.getvalue().encode("utf-8", "replace"))
    return raw


@settings(deadline=None, max_examples=100)
@given(files(), st.sampled_from(["H100", "L40S", "B200", "no such", "H100-SXM-1g.10gb"]))
def test_a_file_is_refused_or_each_row_is_answered_soundly_or_refused(raw: bytes, gpu: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(raw)
        try:
            columns = read(path)
        except BadInput:
            return
        write(Path(folder) / "out.csv", columns)
    _sound(energy.predict(columns), energy.ADDED)
    for op in OPERATORS:
        _sound(operators.predict(op, gpu, columns), operators.ADDED, without="power" if op == "allreduce" else "none")


def _sound(made: dict[str, NDArray[Any]], added: tuple[str, ...], without: str = "none") -> None:
    assert tuple(made) == added
    names = [name for name in added if "source" not in name and name != "refusal" and without not in name]
    for i, words in enumerate(made["refusal"]):
        figures = np.array([made[name][i] for name in names], dtype=float)
        assert len(str(words)) < 600
        assert np.isnan(figures).all() if words else (np.isfinite(figures) & (figures > 0)).all(), (words, figures)
