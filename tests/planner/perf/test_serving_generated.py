"""Generated tables: whatever stands in a row, it is answered with sound numbers or refused in words."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.perf.serving import ADDED, predict
from planner.perf.tables import _column

NUMBERS = ADDED[:10]  # power's interval may be missing
MODELS = ["llama-3.1-8b", "deepseek-r1", "gpt-oss-120b", "qwen3-235b-a22b", "no/such", "", "nan", "💥", "../x" * 50]
SYSTEMS = ["h100_sxm", "h200_sxm", "b200_sxm", "a100_sxm", "l40s", "gb200", "mi300x", "tpu", ""]
SIZES = st.one_of(
    st.sampled_from(["", "0", "1", "8", "64", "1024", "-1", "nan", "inf", "1e300", "0.3", "many", "1e6"]),
    st.integers(1, 200_000).map(str),
    st.floats(allow_nan=True).map(str),
)
COLUMNS: dict[str, st.SearchStrategy[str]] = {
    "model_path": st.sampled_from(MODELS),
    "system": st.sampled_from(SYSTEMS),
    "backend": st.sampled_from(["vllm", "trtllm", "sglang", "VLLM", "", "ollama"]),
    "backend_version": st.sampled_from(["", "0.12.0", "1.0.0rc3", "🦆"]),
    "protocol": st.sampled_from(["", "sweep", "steady", "loud"]),
    "mode": st.sampled_from(["agg", "disagg", "", "both"]),
    "gemm_quant_mode": st.sampled_from(["", "fp8", "nvfp4", "bf16", "fp8_block", "int4", "fp3"]),
    "moe_quant_mode": st.sampled_from(["", "fp8", "mxfp4"]),
    "precision": st.sampled_from(["", "fp8", "fp4"]),
    "measured_on": st.sampled_from(["", "2026-01-01", "yesterday"]),
    **dict.fromkeys(
        (
            "isl", "osl", "batch_size", "concurrency", "tp_size", "pp_size", "attention_dp_size", "moe_tp_size",
            "moe_ep_size", "decode_batch_size", "decode_num_workers", "prefill_num_workers", "decode_tp_size",
            "prefill_tp_size", "decode_attention_dp_size",
        ),
        SIZES,
    ),
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A table of up to four rows with some of the columns."""
    count = draw(st.integers(1, 4))
    names = draw(st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1))
    names |= draw(st.sampled_from([set(), {"model_path", "system"}]))
    return {name: _column(draw(st.lists(COLUMNS[name], min_size=count, max_size=count))) for name in sorted(names)}


@settings(deadline=None, max_examples=150)
@given(tables())
def test_a_row_is_answered_soundly_or_refused_in_words(table: dict[str, Any]) -> None:
    made = predict(table)
    assert tuple(made) == ADDED
    for i, refusal in enumerate(made["refusal"]):
        figures = np.array([made[name][i] for name in NUMBERS], dtype=float)
        if refusal:
            assert np.isnan(figures).all()
            assert len(str(refusal)) < 300
            continue
        assert (figures > 0).all(), dict(zip(NUMBERS, figures, strict=True))
        assert np.isfinite(figures).all()
        assert made["tpot_lo_s"][i] < made["tpot_s"][i] < made["tpot_hi_s"][i]
        assert made["ttft_lo_s"][i] < made["ttft_s"][i] < made["ttft_hi_s"][i]
        assert made["source"][i] in ("measured", "modelled", "extrapolated")
