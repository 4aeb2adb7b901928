"""Memory of a GPU under an engine, by hand calculation from published shapes, and beside the run that states its KV."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalog import gpu, model
from planner.memory import (
    LIBRARY_BYTES,
    MASKED_LOGIT_BYTES,
    NCCL_BYTES,
    NCCL_GROUP_BYTES,
    SORTED_LOGIT_BYTES,
    activation_bytes,
    fixed_bytes,
    forward_bytes,
    graph_bytes,
    sampler_bytes,
)
from planner.model import Attention, Block, FeedForward, Model
from planner.perf.memory import Budget, Running, beside_bytes, budget, sequence_bytes, token_bytes, weights_bytes
from planner.perf.serving import predict
from tests.benchmarks.memory import predicted_and_real

LLAMA, LARGE, DEEPSEEK, OSS = (model(name) for name in ("llama-3.1-8b", "llama-3.1-70b", "deepseek-v3", "gpt-oss-20b"))


def made(of: Model = LLAMA, card: str = "H100", running: Running | None = None) -> Budget:
    answer = budget(of, gpu(card), running or Running())
    assert isinstance(answer, Budget), answer
    return answer


def test_the_weights_of_llama_8b_are_its_parameters_twice() -> None:
    held = weights_bytes(LLAMA, Running())
    assert sum(held.values()) == 2 * 8_030_261_248
    assert held["embeddings and head"] == 2 * 2 * 128256 * 4096


def test_fp8_halves_matrices_but_for_their_scales_and_leaves_embeddings_wide() -> None:
    wide, narrow = weights_bytes(LLAMA, Running()), weights_bytes(LLAMA, Running(weight_format="fp8_block"))
    assert narrow["weights"] == pytest.approx(wide["weights"] / 2 * (1 + 4 / 128**2))
    assert narrow["embeddings and head"] == wide["embeddings and head"]


def test_a_quarter_of_llama_70b_lies_on_each_of_four_gpus() -> None:
    held = weights_bytes(LARGE, Running(tp=4))
    layer = 8192 * (8192 + 2 * 1024) + 8192 * 8192 + 8192 * 2 * 28672 + 28672 * 8192
    assert held["weights"] == 2 * 80 * layer / 4
    assert held["norms and biases"] == 2 * (2 * 80 + 1) * 8192  # whole on each
    assert token_bytes(LARGE, Running(tp=4)) == 80 * 2 * (8 / 4) * 128 * 2  # two of eight heads


def test_every_rank_keeps_the_whole_latent_of_deepseek_v3() -> None:
    each = 61 * (512 + 64) * 2  # layers, latent and position, 16 bits
    assert token_bytes(DEEPSEEK, Running(tp=8)) == token_bytes(DEEPSEEK, Running()) == each
    assert token_bytes(DEEPSEEK, Running(kv_format="fp8")) == each / 2


def test_experts_of_deepseek_v3_spread_over_ranks_while_attention_is_copied() -> None:
    held = weights_bytes(DEEPSEEK, Running(dp=8, moe_tp=1, moe_ep=8))
    assert held["expert weights"] == pytest.approx(58 * 256 * 3 * 7168 * 2048 * (1 + 4 / 128**2) / 8)
    assert held["weights"] > weights_bytes(DEEPSEEK, Running(tp=8))["weights"] * 4


def test_gpt_oss_keeps_experts_in_four_bits_and_half_of_its_layers_within_a_window() -> None:
    held = weights_bytes(OSS, Running())
    assert held["expert weights"] == 24 * 32 * 3 * 2880 * 2880 * (0.5 + 1 / 32)
    each = 2 * 8 * 64 * 2  # keys and values, heads, width, 16 bits: one token in one layer
    # 8,192 tokens: 12 layers keep all; 12 keep 128, which lie in at most 9 blocks of 16.
    assert float(sequence_bytes(OSS, Running(), 8192.0)) == 12 * each * 8192 + 12 * each * 9 * 16


def test_a_hybrid_of_states_and_attention_keeps_both() -> None:
    """As Jamba (arXiv 2403.19887) mixes them: one attention layer to seven with a state."""
    state = Attention("ssm", 128, 1, 64, state_elements=100_000, projection_params=4096 * 30_000)
    layers = (Block(7, state, FeedForward(14336)), Block(1, Attention("gqa", 32, 8, 128), FeedForward(14336)))
    hybrid = Model("hybrid", "test", 4096, 65536, layers)
    held = float(sequence_bytes(hybrid, Running(), 1000.0))
    assert held == 7 * 100_000 * 2 + 63 * 16 * 2 * 8 * 128 * 2  # 1,000 tokens fill 63 blocks
    only = made(Model("states", "test", 4096, 65536, layers[:1]))
    assert (only.kv_blocks, only.kv_tokens) == (0, 0)
    assert only.sequences_of([(1e6, 1.0)]) == 256  # the engine's limit: a state does not grow


def test_a_step_holds_its_widest_layer_or_the_logits_of_all_sequences() -> None:
    assert forward_bytes(LLAMA, 8192.0) == 1_174_405_120  # what the probe on an H100 read
    assert activation_bytes(LLAMA, 8192.0, 1.0) == 1_174_405_120
    logits = 512 * 128256 * SORTED_LOGIT_BYTES
    assert sampler_bytes(LLAMA, 512.0) == logits
    assert activation_bytes(LLAMA, 512.0, 512.0) == pytest.approx(logits + 2 * 512 * 4096)


def test_the_constants_are_what_the_probe_read() -> None:
    read = json.loads((Path(__file__).parents[2] / "benchmarks/data/memory_probe.json").read_text("utf-8"))
    assert forward_bytes(LLAMA, 8192.0) == read["forward_8192"]
    assert pytest.approx(read["sorted_logit"], rel=0.005) == SORTED_LOGIT_BYTES
    assert pytest.approx(read["masked_logit"], rel=0.005) == MASKED_LOGIT_BYTES
    assert pytest.approx(read["libraries"], rel=0.005) == LIBRARY_BYTES
    assert graph_bytes(32) == pytest.approx(read["graphs"], rel=0.005)
    nccl = read["nccl"]
    assert pytest.approx(nccl["communicator"] + nccl["first_collective"], rel=0.005) == NCCL_BYTES
    assert pytest.approx(nccl["second_group"], rel=0.005) == NCCL_GROUP_BYTES


def test_the_budget_adds_up_to_what_the_engine_may_take() -> None:
    card = gpu("H100")
    assert sum(made().items.values()) == pytest.approx(0.92 * card.hbm_bytes)
    older = made(running=Running(version=(0, 19)))  # graphs lie outside of the share there
    assert older.usable_bytes == 0.9 * card.hbm_bytes
    beyond = older.items["CUDA graphs (beyond the share)"]
    assert sum(older.items.values()) == pytest.approx(0.9 * card.hbm_bytes + beyond)


def test_tensorrt_llm_takes_nine_tenths_of_what_is_free_and_sglang_keeps_its_reserve() -> None:
    card = gpu("H100")
    engine = made(running=Running("trtllm"))
    held = sum(engine.items.values()) - engine.kv_bytes
    assert engine.kv_bytes == pytest.approx(0.9 * (card.hbm_bytes - held))
    sglang = made(running=Running("sglang", step_tokens=8192))
    weights = sum(weights_bytes(LLAMA, Running()).values())
    reserve = max(512 + 1.5 * 8192 + 2 * 256 + 128, 10 * 1024) * 2**20
    assert sglang.kv_bytes == pytest.approx(card.hbm_bytes - reserve - weights)


def test_the_predicted_kv_budget_holds_the_one_that_a_real_run_states(shared: Path) -> None:
    """vLLM 0.19 on an RTX 4090; no constant was solved from it."""
    [predicted, real] = predicted_and_real(shared / "data/perf")["rtx4090_llama-3.1-8b_tp1"]
    lo, hi = predicted.kv_tokens_interval
    assert real == 41_408
    assert lo <= real <= hi
    assert abs(predicted.kv_tokens / real - 1) <= 0.03


def test_what_does_not_fit_is_refused_in_words() -> None:
    words = budget(LARGE, gpu("H100"), Running())
    assert isinstance(words, str)
    assert words.startswith("llama-3.1-70b leaves no room for KV on H100-SXM with tp=1, pp=1: needs 143.")
    assert budget(LLAMA, gpu("H100"), Running(tp=3)) == "tp=3 does not divide 32 heads of llama-3.1-8b"
    assert budget(LLAMA, gpu("H100"), Running(pp=40)) == "pp=40 exceeds 32 layers of llama-3.1-8b"
    for running in (Running("none"), Running(weight_format="none"), Running(kv_format="none")):
        assert "unknown" in str(budget(LLAMA, gpu("H100"), running))


def test_a_mix_fits_as_often_as_its_mean_sequence() -> None:
    whole = made()
    one, other = whole.sequences_of([(4096.0, 1.0)]), whole.sequences_of([(16384.0, 1.0)])
    assert other < whole.sequences_of([(4096.0, 1.0), (16384.0, 1.0)]) < one
    assert one == whole.kv_blocks // 256


@given(
    name=st.sampled_from(["llama-3.1-8b", "mixtral-8x7b", "gpt-oss-20b", "deepseek-v2-lite", "nemotron-h-8b"]),
    tokens=st.floats(1, 1e5),
    more=st.floats(1, 4),
    sequences=st.integers(1, 512),
)
def test_more_of_anything_needs_no_less_memory(name: str, tokens: float, more: float, sequences: int) -> None:
    of = model(name)
    assert sequence_bytes(of, Running(), tokens * more) >= sequence_bytes(of, Running(), tokens)
    assert activation_bytes(of, tokens * more, sequences) >= activation_bytes(of, tokens, sequences)
    assert activation_bytes(of, tokens, sequences * more) >= activation_bytes(of, tokens, sequences)
    cards = [budget(of, gpu(card), Running(tp=2, sequences=sequences)) for card in ("H100", "H200")]
    assert all(isinstance(card, Budget) for card in cards)
    small, large = (card for card in cards if isinstance(card, Budget))
    assert small.kv_lo_bytes <= small.kv_bytes <= small.kv_hi_bytes
    assert small.kv_bytes < large.kv_bytes
    fewer = budget(of, gpu("H200"), Running(tp=2, sequences=sequences + 64))
    assert isinstance(fewer, Budget)
    assert fewer.kv_bytes <= large.kv_bytes


def test_many_rows_at_once_hold_what_each_alone_does() -> None:
    rows, tp, sequences = (LLAMA, LARGE, LLAMA), np.array([1.0, 4.0, 1.0]), np.array([8.0, 64.0, 512.0])
    layers = np.array([32.0, 80.0, 32.0])
    alone = [
        max(float(forward_bytes(m, 2048.0, int(t))), float(sampler_bytes(m, s))) + fixed_bytes(n, int(t))
        for m, t, s, n in zip(rows, tp, sequences, layers, strict=True)
    ]
    assert beside_bytes(rows, tp, sequences, layers) == pytest.approx(alone)


def test_predicted_rows_hold_weights_the_kv_of_half_finished_sequences_and_the_rest() -> None:
    row = {"model_path": "llama-3.1-8b", "system": "H100", "isl": 1000.0, "osl": 200.0, "concurrency": 16.0}
    columns = {key: np.array([value], dtype=object if isinstance(value, str) else float) for key, value in row.items()}
    matrices = 32 * (4096 * 6144 + 4096 * 4096 + 4096 * 28672 + 14336 * 4096) + 2 * 4096 * 128256
    rest = max(float(forward_bytes(LLAMA, 2048.0)), 16 * 128256 * SORTED_LOGIT_BYTES) + fixed_bytes(32, 1)
    assert predict(columns)["hbm_bytes"][0] == pytest.approx(2 * matrices + 16 * 1100 * 131072 + rest)
