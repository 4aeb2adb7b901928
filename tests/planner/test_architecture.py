"""Counts of parameters, KV elements and FLOPs against sums written out by hand."""

import pytest

from planner.architecture import active_parameters, gemms, kv_elements, parameters
from planner.model import Attention, Block, FeedForward, Model


def made(*blocks: Block, hidden: int = 64, tied: bool = False, extra: int = 0) -> Model:
    return Model("m", "test", hidden, vocab=1000, blocks=blocks, tied_embeddings=tied, params_extra=extra)


GROUPED = Attention("gqa", heads=8, kv_heads=2, head_dim=16)
LATENT = Attention("mla", 8, 1, 16, q_lora_rank=24, kv_lora_rank=32, rope_dim=4, v_head_dim=12)


def test_a_dense_layer_is_its_matrices_and_two_norms() -> None:
    matrices = 64 * 128 + 2 * 64 * 32 + 128 * 64 + 3 * 64 * 100
    outside = 2 * 1000 * 64 + 64
    assert parameters(made(Block(3, GROUPED, FeedForward(100)))) == 3 * (matrices + 2 * 64) + outside


def test_tied_embeddings_count_once_and_extra_parameters_once() -> None:
    block = Block(1, GROUPED, FeedForward(100))
    assert parameters(made(block)) - parameters(made(block, tied=True)) == 64_000
    assert parameters(made(block, extra=7)) - parameters(made(block)) == 7


@pytest.mark.parametrize(
    ("mixer", "more"),
    [
        (Attention("gqa", 8, 2, 16, qkv_bias=True), (8 + 2 + 2) * 16),
        (Attention("gqa", 8, 2, 16, out_bias=True), 64),
        (Attention("gqa", 8, 2, 16, qk_norm=True), 2 * 16),
        (Attention("gqa", 8, 2, 16, gated=True), 64 * 128),
        (Attention("gqa", 8, 2, 16, params_extra=8), 8),
        (Attention("gqa", 8, 2, 16, window=128), 0),
    ],
)
def test_what_an_attention_has_besides_is_counted(mixer: Attention, more: int) -> None:
    unit = FeedForward(100)
    assert parameters(made(Block(1, mixer, unit))) - parameters(made(Block(1, GROUPED, unit))) == more


def test_latent_attention_counts_both_factors_of_queries_and_of_keys_with_values() -> None:
    queries = 64 * 24 + 24 * 8 * (16 + 4)
    keys_and_values = 64 * (32 + 4) + 32 * 8 * (16 + 12)
    norms = 24 + 32 + 64
    assert parameters(made(Block(1, LATENT, None, norms=1))) == (
        queries + keys_and_values + 8 * 12 * 64 + norms + 2 * 64_000 + 64
    )


def test_factored_attention_counts_the_narrow_query_its_norm_and_one_kv_head() -> None:
    mixer = Attention("mfa", 8, 1, 16, q_lora_rank=24)
    counted = 64 * 24 + 24 + 24 * 128 + 64 * 2 * 16 + 128 * 64
    assert parameters(made(Block(1, mixer, None, norms=0))) == counted + 2 * 64_000 + 64


def test_a_fixed_state_mixer_counts_its_projections_in_and_out() -> None:
    mixer = Attention("linear", 8, 1, 16, state_elements=2048, projection_params=5 * 64 * 128, params_extra=128)
    model = made(Block(1, mixer, None, norms=1))
    assert parameters(model) == 5 * 64 * 128 + 128 + 64 + 2 * 64_000 + 64
    assert [(g.inputs, g.outputs, g.shard) for g in gemms(model, model.blocks[0])] == [
        (64, 4 * 128, "column"),
        (128, 64, "row"),
    ]


def test_a_token_meets_its_experts_the_shared_one_and_the_router() -> None:
    unit = FeedForward(10, experts=16, experts_per_token=2, shared_inner=20, router_params=16)
    model = made(Block(1, None, unit, norms=0))
    around = 64 * 16 + 16 + 3 * 64 * 20 + 2 * 64_000 + 64
    assert parameters(model) == 16 * 3 * 64 * 10 + around
    assert active_parameters(model) == 2 * 3 * 64 * 10 + around


def test_biases_of_experts_count_with_their_experts() -> None:
    model = made(Block(1, None, FeedForward(10, experts=16, experts_per_token=2, bias=True), norms=0))
    plain = made(Block(1, None, FeedForward(10, experts=16, experts_per_token=2), norms=0))
    assert parameters(model) - parameters(plain) == 16 * (2 * 10 + 64)
    assert active_parameters(model) - active_parameters(plain) == 2 * (2 * 10 + 64)


def test_a_plain_unit_has_two_matrices() -> None:
    gated, plain = (made(Block(1, None, FeedForward(100, matrices=n))) for n in (3, 2))
    assert parameters(gated) - parameters(plain) == 64 * 100


@pytest.mark.parametrize(
    ("mixer", "elements"),
    [
        (GROUPED, 2 * 2 * 16),
        (LATENT, 32 + 4),
        (Attention("mfa", 64, 1, 256, q_lora_rank=2048), 512),
        (Attention("linear", 8, 1, 16, state_elements=2048), 0),
        (Attention("ssm", 8, 1, 16, state_elements=2048), 0),
    ],
)
def test_kv_of_a_token_follows_from_the_kind_of_attention(mixer: Attention, elements: int) -> None:
    assert kv_elements(mixer) == elements


def test_the_matrices_of_a_layer_hold_all_but_its_norms() -> None:
    block = Block(1, LATENT, FeedForward(100), norms=2)
    model = made(block)
    in_matrices = sum(g.inputs * g.outputs for g in gemms(model, block))
    assert parameters(model) - 2 * 64_000 - 64 == in_matrices + 2 * 64 + 24 + 32
