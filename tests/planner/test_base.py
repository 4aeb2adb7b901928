"""What a model asks for, by hand calculation from its published shape."""

import math

import numpy as np
import pytest

from planner.architecture import active_parameters, parameters
from planner.base import (
    HBM_EMBEDDINGS,
    HBM_KV,
    HBM_STATE,
    HBM_WEIGHTS,
    arithmetic,
    dialect,
    kv_bytes_per_token,
    sixteen_bit,
)
from planner.cost import At, Op, Phase
from planner.errors import MissingFigure
from planner.hardware import GPUType
from planner.memory import NCCL_BYTES, fixed_bytes
from planner.model import Attention, Block, FeedForward, Model
from planner.power import capped
from planner.technique import sharded
from tests.planner.factories import gpu
from tests.planner.perf_factories import A100, DEEPSEEK, H100, L4, LLAMA_8B, LLAMA_70B, MIXTRAL, MODELS, case

NVLINK = At("activations", "scale_up")


def op(phase: Phase, name: str) -> Op:
    return next(op for op in phase.ops if op.name == name)


def read(phase: Phase, at: At) -> float:
    return float(sum(float(np.sum(op.traffic.get(at, 0.0))) for op in phase.ops))


def flops(phase: Phase) -> float:
    return float(sum(float(np.sum(op.flops)) for op in phase.ops))


def test_a_token_of_llama_8b_keeps_128_kib_in_the_cache() -> None:
    assert kv_bytes_per_token(case()) == 32 * 2 * 8 * 128 * 2 == 128 * 1024  # layers, K and V, heads, width, bytes


def test_a_token_of_deepseek_v3_keeps_its_latent_only() -> None:
    assert kv_bytes_per_token(case(DEEPSEEK)) == 61 * (512 + 64) * 2


def test_tensor_parallelism_splits_the_cache_until_each_gpu_has_one_head() -> None:
    assert kv_bytes_per_token(case(LLAMA_70B, tp=8)) == kv_bytes_per_token(case(LLAMA_70B)) / 8
    assert kv_bytes_per_token(case(MIXTRAL, tp=16)) == kv_bytes_per_token(case(MIXTRAL)) / 8


def test_a_latent_cache_is_on_every_gpu_of_a_tensor_parallel_group() -> None:
    assert kv_bytes_per_token(case(DEEPSEEK, tp=8)) == kv_bytes_per_token(case(DEEPSEEK))


def test_a_decode_step_reads_every_weight_but_the_input_embeddings_once() -> None:
    # Per layer: qkv 4096 x (4096 + 2 x 1024), out 4096 x 4096, up and gate 4096 x 28672, down 14336 x 4096.
    layer = 4096 * 6144 + 4096 * 4096 + 4096 * 28672 + 14336 * 4096
    decode = sharded(case()).phases["decode"]
    assert read(decode, HBM_WEIGHTS) == pytest.approx(32 * layer * 2)
    assert read(decode, HBM_EMBEDDINGS) == pytest.approx(4096 * 128256 * 2)  # the head
    assert read(decode, HBM_KV) == pytest.approx((1024 + 64) * 128 * 1024)  # half of 128 tokens are written


def test_a_prompt_takes_two_flops_a_weight_and_token_and_attends_to_half_of_itself() -> None:
    prefill = sharded(case(input_tokens=1000.0)).phases["prefill"]
    weights = 32 * (4096 * 6144 + 4096 * 4096 + 4096 * 28672 + 14336 * 4096)
    assert sum(float(o.flops) for o in prefill.ops if HBM_WEIGHTS in o.traffic) == pytest.approx(2 * weights * 1000)
    # Scores and values: 2 flops x 2 x 32 heads x 128 wide, each token meets 500 others on average.
    assert float(op(prefill, "attention").flops) == pytest.approx(32 * 2 * 2 * 32 * 128 * 1000 * 500)
    assert HBM_KV not in op(prefill, "attention").traffic


def test_a_sliding_window_bounds_what_a_token_meets_and_keeps() -> None:
    windowed = Model("w", "test", 512, 1000, (Block(1, Attention("gqa", 8, 8, 64, window=256), FeedForward(2048)),))
    cost = sharded(case(windowed, input_tokens=4096.0))
    each = 2 * 8 * 64 * 2
    assert read(cost.phases["decode"], HBM_KV) == 256 * each
    assert cost.phases["decode"].resident[HBM_KV] == 256 * each
    # A prompt of 4096: the first 256 tokens meet 128 on average, the rest 256.
    met = (256 * 128 + 3840 * 256) / 4096
    assert float(op(cost.phases["prefill"], "attention").flops) == pytest.approx(2 * 8 * 128 * 4096 * met)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_resident_weights_are_the_models_parameters(model: Model) -> None:
    held = sharded(case(model)).phases["decode"].resident
    embeddings = 2 * model.vocab * model.hidden
    assert held[HBM_EMBEDDINGS] == embeddings * 2
    per_weight = {"bf16": 2.0, "fp8": 1 + 4 / 128**2}[model.weight_dtype]
    assert float(held[HBM_WEIGHTS]) == pytest.approx((parameters(model) - embeddings) * per_weight, rel=1e-3)


def test_a_token_of_a_mixture_costs_its_two_experts_and_a_large_batch_reads_all_eight() -> None:
    one, many = (sharded(case(MIXTRAL, batch=batch)).phases["decode"] for batch in (1.0, 512.0))
    active = active_parameters(MIXTRAL) - 2 * 32000 * 4096
    assert read(one, HBM_WEIGHTS) == pytest.approx(active * 2, rel=1e-3)
    assert read(many, HBM_WEIGHTS) == pytest.approx((parameters(MIXTRAL) - 2 * 32000 * 4096) * 2, rel=1e-3)
    both = op(one, "expert_up").flops, op(one, "expert_down").flops
    assert sum(map(float, both)) == pytest.approx(32 * 2 * 2 * 3 * 4096 * 14336)  # layers, experts, flops, matrices


def test_experts_touched_by_a_batch_follow_the_coupon_collector() -> None:
    decode = sharded(case(MIXTRAL, batch=4.0)).phases["decode"]
    touched = 8 * (1 - (1 - 2 / 8) ** 4)  # 5.47 of 8
    assert op(decode, "expert_down").traffic[HBM_WEIGHTS] == pytest.approx(32 * touched * 14336 * 4096 * 2)


def test_the_busiest_expert_rank_has_more_than_its_share() -> None:
    alone, spread = (sharded(case(MIXTRAL, batch=64.0, tp=4, ep=ep)).phases["decode"] for ep in (1, 4))
    used = 64 * 2
    surplus = math.sqrt(2 * used * 4 * math.log(4)) / used
    ratio = float(op(spread, "expert_up").flops) / float(op(alone, "expert_up").flops)
    assert ratio == pytest.approx(1 + surplus)


def test_tp_2_halves_the_gemms_and_adds_two_all_reduces_a_layer() -> None:
    one, two = (sharded(case(LLAMA_8B, batch=8.0, tp=tp)).phases["decode"] for tp in (1, 2))
    assert flops(two) == flops(one) / 2
    assert read(two, HBM_WEIGHTS) == read(one, HBM_WEIGHTS) / 2
    assert read(one, NVLINK) == 0
    # Ring: each GPU sends 2 (2-1) / 2 = 1 times the message, of 8 tokens x 4096 x 2 bytes; 2 x 32 of them.
    assert read(two, NVLINK) == 64 * 8 * 4096 * 2
    assert read(two, At("collectives", "scale_up")) == 64


def test_gpus_without_nvlink_reduce_over_pcie() -> None:
    decode = sharded(case(gpu=L4, tp=2)).phases["decode"]
    assert read(decode, At("activations", "pcie")) > 0 == read(decode, NVLINK)


def test_pipeline_stages_hold_their_share_and_hand_activations_over() -> None:
    one, two = (sharded(case(LLAMA_70B, pp=pp)).phases["decode"] for pp in (1, 2))
    assert two.resident[HBM_WEIGHTS] == float(one.resident[HBM_WEIGHTS]) / 2
    assert two.resident[HBM_EMBEDDINGS] == float(one.resident[HBM_EMBEDDINGS]) / 2  # first and last stage hold one each
    assert read(two, NVLINK) == 8192 * 2
    assert flops(two) == flops(one)  # one micro-batch is followed through all stages


def test_a_step_holds_workspace_and_with_peers_the_buffers_of_nccl() -> None:
    workspace = At("workspace", "hbm")
    assert sharded(case()).phases["decode"].resident[workspace] == fixed_bytes(32, 1)
    assert sharded(case(tp=2)).phases["decode"].resident[workspace] == pytest.approx(fixed_bytes(32, 1) + NCCL_BYTES)


def test_a_state_space_layer_has_a_state_and_no_cache() -> None:
    mixer = Attention("ssm", 8, 1, 64, state_elements=1000, projection_params=512 * 600)
    cost = sharded(case(Model("s", "test", 512, 1000, (Block(4, mixer, None),)), batch=3.0))
    decode = cost.phases["decode"]
    assert decode.resident[HBM_STATE] == 4 * 1000 * 2 * 3
    assert read(decode, HBM_STATE) == 2 * 4 * 1000 * 2 * 3  # read and written
    assert read(decode, HBM_KV) == 0


def test_gemms_run_in_fp8_only_where_the_checkpoint_and_the_gpu_do() -> None:
    assert [arithmetic(DEEPSEEK, row) for row in (H100, A100)] == ["fp8", "bf16"]
    assert arithmetic(LLAMA_8B, H100) == "bf16"
    assert sixteen_bit(gpu(flops_per_s={"fp16": 1e12})) == "fp16"


def test_a_gpu_without_a_16_bit_peak_is_refused_in_words() -> None:
    with pytest.raises(MissingFigure, match=r"G1 has no 16-bit peak in the catalogue \(has: fp32\)"):
        sixteen_bit(gpu(flops_per_s={"fp32": 1e12}))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_gpus_of_one_dialect_are_asked_for_the_same(model: Model) -> None:
    def asked(row: GPUType) -> list[object]:
        cost = sharded(case(model, row, tp=2))
        return [(o.name, o.flops, o.engine, dict(o.traffic)) for p in cost.phases.values() for o in p.ops]

    slow = capped(H100, 300.0)
    assert dialect(model, slow) == dialect(model, H100)
    assert asked(slow) == asked(H100)
    assert dialect(model, L4) != dialect(model, H100)


def test_a_grid_costs_the_same_as_its_points() -> None:
    batches, prompts = np.array([[1.0, 8.0]]), np.array([[100.0], [3000.0]])
    grid = sharded(case(MIXTRAL, batch=batches, input_tokens=prompts)).phases["decode"]
    for i, j in np.ndindex(2, 2):
        point = sharded(case(MIXTRAL, batch=batches[0, j], input_tokens=prompts[i, 0])).phases["decode"]
        for wide, single in zip(grid.ops, point.ops, strict=True):
            assert np.broadcast_to(wide.flops, (2, 2))[i, j] == pytest.approx(single.flops)
            for at, amount in wide.traffic.items():
                assert np.broadcast_to(amount, (2, 2))[i, j] == pytest.approx(single.traffic[at])
