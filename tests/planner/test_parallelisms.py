"""What each degree does to the cost of one GPU: as before they were techniques, and by hand calculation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.base import HBM_ACTIVATIONS, HBM_KV, HBM_WEIGHTS, base_cost
from planner.calibration import ENGINES
from planner.catalog import model as model_named
from planner.cost import At, Case, Cost, Degrees, Phase
from planner.hardware import GPUType
from planner.model import Model
from planner.recipes import degrees, recipes
from planner.roofline import step_time
from planner.technique import flags_of, parallelisms, sharded
from planner.techniques.context_parallel import ContextParallel
from planner.techniques.data_parallel_attention import DataParallelAttention
from planner.techniques.expert_parallel import ExpertParallel
from planner.techniques.kv_fp8 import KVFP8
from planner.techniques.pipeline_parallel import PipelineParallel
from planner.techniques.tensor_parallel import TensorParallel
from tests.planner.perf_factories import DEEPSEEK, H100, L4, LLAMA_8B, LLAMA_70B, MIXTRAL, case, inventory, service

# Figures of the code that divided by tp, pp and ep itself, with a latent cache on every GPU (as there it was not).
BEFORE = json.loads((Path(__file__).parent / "data" / "sharded_costs.json").read_text("utf-8"))
MODELS = {model.name: model for model in (MIXTRAL, DEEPSEEK)}
GPUS = {gpu.name: gpu for gpu in (H100, L4)}
NVLINK = At("activations", "scale_up")


def figures(phase: Phase, gpu: GPUType) -> dict[str, float]:
    found = {"seconds": float(step_time(phase, gpu, ENGINES["vllm"]).total_s), "flops": 0.0}
    for op in phase.ops:
        found["flops"] += float(op.flops)
        for at, amount in op.traffic.items():
            key = f"{at.item} {at.place}"
            found[key] = found.get(key, 0.0) + float(amount)
    return found | {f"held {at.item}": float(amount) for at, amount in phase.resident.items()}


@pytest.mark.parametrize("row", BEFORE, ids=lambda row: f"{row['model']} {row['gpu']} {row['degrees']} {row['phase']}")
def test_degrees_as_techniques_cost_what_they_did_inside_the_base(row: dict[str, object]) -> None:
    name = str(row["model"])
    model, gpu = MODELS.get(name) or model_named(name), GPUS[str(row["gpu"])]
    here = case(model, gpu, 24.0, 3000.0, 500.0, *row["degrees"], 2.0)  # type: ignore[misc, call-arg]
    now = {key: value for key, value in figures(sharded(here).phases[str(row["phase"])], gpu).items() if value}
    assert now == pytest.approx(row["figures"], rel=1e-12)


def spread(model: Model, split: Degrees, **changed: float) -> Case:
    return replace(case(model, **changed), **split._asdict())  # type: ignore[arg-type]


def one_gpu(model: Model, **changed: float) -> Cost:
    return sharded(spread(model, Degrees(), **changed))


def read(phase: Phase, at: At, *names: str) -> float:
    ops = [op for op in phase.ops if not names or op.name in names]
    return sum(float(np.sum(op.traffic.get(at, 0.0))) for op in ops)


def test_a_case_turns_on_the_techniques_of_its_degrees() -> None:
    made = parallelisms(spread(DEEPSEEK, Degrees(tp=4, ep=8, dp=2)))
    assert made == [DataParallelAttention(2), ExpertParallel(8), TensorParallel(4)]
    assert parallelisms(case()) == []


def test_the_base_cost_refuses_a_case_on_several_gpus() -> None:
    with pytest.raises(ValueError, match=r"base_cost is that of one GPU, got Degrees\(tp=2.*use planner.technique.sha"):
        base_cost(case(tp=2))


def test_a_latent_cache_is_on_every_gpu_of_a_tensor_parallel_group_and_on_one_data_parallel_rank() -> None:
    """DeepSeek-V3 keeps 61 layers x 576 elements x 2 bytes of a token; 16 sequences of 1024 + 128 tokens."""
    whole = 16 * (1024 + 128) * 61 * 576 * 2
    copied = sharded(spread(DEEPSEEK, Degrees(tp=8, ep=8), batch=16.0)).phases["decode"].resident[HBM_KV]
    apart = sharded(spread(DEEPSEEK, Degrees(dp=8, ep=8), batch=16.0)).phases["decode"].resident[HBM_KV]
    assert (copied, apart) == (whole, whole / 8)


def test_a_data_parallel_rank_holds_all_attention_and_an_eighth_of_the_experts() -> None:
    held = sharded(spread(MIXTRAL, Degrees(dp=8, ep=8), batch=16.0)).phases["decode"].resident[HBM_WEIGHTS]
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 4096 * 8  # q and out, k and v, router
    experts = 8 * 3 * 4096 * 14336
    assert float(held) == pytest.approx(32 * 2 * (attention + experts / 8))


def test_ranks_exchange_their_tokens_twice_around_each_layer_of_experts() -> None:
    """16 tokens of 4096 x 2 bytes: a GPU receives 7/8 of them before and sends as much after, in 32 layers."""
    decode = sharded(spread(MIXTRAL, Degrees(dp=8, ep=8), batch=16.0)).phases["decode"]
    assert read(decode, NVLINK) == pytest.approx(32 * 2 * 16 * 4096 * 2 * 7 / 8)
    assert read(decode, At("collectives", "scale_up")) == 2 * 32
    # The dense layers of DeepSeek-V3, 3 of 61, need none.
    assert read(sharded(spread(DEEPSEEK, Degrees(dp=8, ep=8))).phases["decode"], At("collectives", "scale_up")) == 116


def test_a_rank_attends_for_its_own_sequences_and_never_for_less_than_one() -> None:
    whole = one_gpu(MIXTRAL, batch=16.0).phases["decode"]
    for batch, share in ((16.0, 1 / 8), (4.0, 1 / 4)):
        alone = one_gpu(MIXTRAL, batch=batch).phases["decode"]
        ranked = sharded(spread(MIXTRAL, Degrees(dp=8, ep=8), batch=batch)).phases["decode"]
        assert read(ranked, HBM_KV) == pytest.approx(read(alone, HBM_KV) * share)
        assert read(ranked, HBM_WEIGHTS, "qkv", "out") == read(whole, HBM_WEIGHTS, "qkv", "out")
        experts = read(alone, HBM_WEIGHTS, "expert_up", "expert_down")
        assert read(ranked, HBM_WEIGHTS, "expert_up", "expert_down") == pytest.approx(experts / 8)


def test_data_parallel_attention_reads_less_where_the_cache_would_be_copied() -> None:
    """At long contexts a step of DeepSeek-V3 is faster with it; at batch 1 seven ranks idle and it is slower."""

    def step_s(split: Degrees, batch: float) -> float:
        cost = sharded(spread(DEEPSEEK, split, batch=batch, input_tokens=32000.0))
        return float(step_time(cost.phases["decode"], H100, ENGINES["vllm"]).total_s)

    ranks, group = Degrees(dp=8, ep=8), Degrees(tp=8, ep=8)
    assert step_s(ranks, 64.0) < 0.7 * step_s(group, 64.0)
    assert step_s(ranks, 1.0) > step_s(group, 1.0)


def test_context_parallelism_splits_the_cache_that_was_copied_and_exchanges_partial_results() -> None:
    """DeepSeek-V3, tp 8, cp 4, 2 sequences: each GPU has 16 heads of 576 + 512 wide queries and results, 61 layers."""
    group, parts = (sharded(spread(DEEPSEEK, Degrees(tp=8, ep=8, cp=cp), batch=2.0)).phases["decode"] for cp in (1, 4))
    assert float(parts.resident[HBM_KV]) == float(group.resident[HBM_KV]) / 4
    assert read(parts, HBM_KV) == read(group, HBM_KV) / 4
    assert sum(float(op.flops) for op in parts.ops) == sum(float(op.flops) for op in group.ops)
    received = 61 * 2 * 16 * 3 * (576 * 2 + 512 * 2 + 4)
    assert read(parts, NVLINK) - read(group, NVLINK) == pytest.approx(received)
    assert read(parts, At("collectives", "scale_up"), "merge") == 3 * 61


def test_context_parallelism_leaves_prefill_alone() -> None:
    group, parts = (sharded(spread(DEEPSEEK, Degrees(tp=8, ep=8, cp=cp))).phases["prefill"] for cp in (1, 4))
    assert figures(group, H100) | {"held kv": 0.0} == figures(parts, H100) | {"held kv": 0.0}


def test_activations_of_a_rank_are_its_own_and_the_gathered_batch() -> None:
    alone = one_gpu(MIXTRAL, prompts=8.0).phases["prefill"].resident[HBM_ACTIVATIONS]
    ranked = sharded(spread(MIXTRAL, Degrees(dp=8, ep=8), prompts=8.0)).phases["prefill"].resident[HBM_ACTIVATIONS]
    assert float(ranked) == pytest.approx(float(alone) / 8 + 2 * 8 * 1024 * 4096 * 2)


@pytest.mark.parametrize(
    ("technique", "here", "words"),
    [
        (TensorParallel(3), case(LLAMA_70B, tp=3), "tp 3 does not divide the 64 heads of llama-70b"),
        (PipelineParallel(64), case(LLAMA_8B, pp=64), "llama-8b has 32 layers for 64 stages"),
        (ExpertParallel(2), case(LLAMA_8B, tp=2, ep=2), "llama-8b has no experts"),
        (ExpertParallel(2), case(MIXTRAL, tp=4, ep=2), "ep 2 is not the 4 GPUs of a stage (tp 4 x dp 1)"),
        (ExpertParallel(16), case(MIXTRAL, tp=16, ep=16), "ep 16 does not divide the 8 experts of mixtral-8x7b"),
        (
            DataParallelAttention(2),
            spread(LLAMA_8B, Degrees(dp=2)),
            "llama-8b has no experts that 2 ranks could share: they would be replicas",
        ),
        (
            DataParallelAttention(2),
            spread(MIXTRAL, Degrees(dp=2)),
            "experts must lie on all 2 GPUs of the ranks, ep is 1",
        ),
        (
            ContextParallel(2),
            spread(LLAMA_70B, Degrees(tp=8, cp=2)),
            "tp 8 keeps 1 of each KV head, too few for cp 2",
        ),
        (ContextParallel(3), spread(DEEPSEEK, Degrees(tp=8, cp=3)), "cp 3 does not divide tp 8, whose GPUs it shares"),
    ],
)
def test_each_objection_in_words(technique: TensorParallel, here: Case, words: str) -> None:
    assert technique.objection(here) == words


def test_flags_are_what_the_engines_document() -> None:
    assert TensorParallel(4).flags("vllm") == TensorParallel(4).flags("sglang") == {"tensor-parallel-size": "4"}
    assert PipelineParallel(2).flags("vllm") == {"pipeline-parallel-size": "2"}
    assert ExpertParallel(8).flags("vllm") == {"enable-expert-parallel": ""}
    assert ExpertParallel(8).flags("sglang") == {"ep-size": "8"}
    ranks = DataParallelAttention(8)
    assert ranks.flags("vllm") == {"data-parallel-size": "8", "enable-expert-parallel": ""}
    assert ranks.flags("sglang") == {"attn-dp-size": "8"}
    assert ContextParallel(4).flags("vllm") == {"decode-context-parallel-size": "4"}
    assert ContextParallel(4).flags("sglang") == {"dcp-size": "4"}


def test_an_engine_is_told_of_all_degrees_together() -> None:
    """DeepSeek-V3 on 8 GPUs, 4 ranks of 2: SGLang's group of 8 is split by dp, vLLM's of 2 is repeated."""
    here = spread(DEEPSEEK, Degrees(tp=2, ep=8, dp=4))
    vllm = {"tensor-parallel-size": "2", "data-parallel-size": "4", "enable-expert-parallel": ""}
    assert flags_of(here, [], "vllm") == vllm
    sglang = {"tensor-parallel-size": "8", "attn-dp-size": "4", "ep-size": "8"}
    assert flags_of(here, [KVFP8()], "sglang") == {**sglang, "kv-cache-dtype": "fp8_e4m3"}
    assert flags_of(case(), [], "vllm") == {}


def test_ranks_and_parts_of_a_context_are_tried_only_where_a_service_names_them() -> None:
    assert {(split.dp, split.cp) for split in degrees(DEEPSEEK, 8)} == {(1, 1)}
    ranks = degrees(DEEPSEEK, 8, ["data-parallel-attention"])
    assert {split.tp * split.dp for split in ranks if split.dp > 1} == {2, 4, 8}
    assert all(split.ep == split.tp * split.dp for split in ranks if split.dp > 1)
    parts = degrees(DEEPSEEK, 8, ["context-parallel"])
    assert {(split.tp, split.cp) for split in parts if split.cp > 1} == {(2, 2), (4, 2), (4, 4), (8, 2), (8, 4), (8, 8)}
    assert degrees(LLAMA_8B, 8, ["data-parallel-attention", "context-parallel"]) == degrees(LLAMA_8B, 8)


def test_every_shape_that_is_tried_suits_its_techniques() -> None:
    named = ("context-parallel", "data-parallel-attention")
    for model in (LLAMA_8B, MIXTRAL, DEEPSEEK, model_named("gpt-oss-120b")):
        for split in degrees(model, 8, named):
            here = spread(model, split)
            assert [why for made in parallelisms(here) if (why := made.objection(here))] == []


def test_a_recipe_says_its_degrees_and_counts_the_gpus_of_its_ranks() -> None:
    made, _ = recipes(service(MIXTRAL, techniques=("data-parallel-attention",)), inventory(H100))
    shown = {str(recipe): recipe.gpus for recipe in made}
    assert shown["8xH100 tp2 ep8 dp4"] == 8
    assert not any("data-parallel-attention" in recipe.techniques for recipe in made)
