"""What each technique does to a cost, by hand calculation, and what all of them must keep."""

import re
from dataclasses import replace
from importlib import import_module
from itertools import combinations

import numpy as np
import pytest

from planner.base import HBM_EMBEDDINGS, HBM_WEIGHTS, base_cost, kv_bytes_per_token
from planner.calibration import ENGINES
from planner.cost import Case, Cost, Phase
from planner.model import Attention, Block, FeedForward, Model
from planner.roofline import step_time
from planner.technique import Parallelism, Stage, Technique, cost_of, sharded
from planner.techniques import techniques
from planner.techniques.chunked_prefill import ChunkedPrefill
from planner.techniques.fp8 import FP8
from planner.techniques.kv_fp8 import KVFP8
from planner.techniques.w4a16 import W4A16
from tests.planner.perf_factories import A100, DEEPSEEK, H100, LLAMA_8B, LLAMA_70B, MIXTRAL, MODELS, case, dense

VLLM = ENGINES["vllm"]


def read(phase: Phase, item: str) -> float:
    """Bytes of an item that a step moves."""
    return sum(float(np.sum(x)) for op in phase.ops for at, x in op.traffic.items() if at.item == item)


def flat(cost: Cost) -> list[tuple[str, float]]:
    """Every figure of a cost, named."""
    return [
        (f"{name} {op.name} {op.engine} {at}", float(np.sum(x)))
        for name, phase in cost.phases.items()
        for op in phase.ops
        for at, x in (*op.traffic.items(), ("flops", op.flops), ("tokens", phase.tokens), *phase.resident.items())
    ]


ABLE = replace(H100, flops_per_s={**H100.flops_per_s, "int8": 1979e12, "fp4": 1979e12})  # multiplies every format


def spread(model: Model) -> Case:
    """A case on eight GPUs that uses every degree."""
    return replace(case(model, batch=16.0, tp=2, pp=2, ep=4), dp=2, cp=2, prefix_hit_ratio=0.25)


_MIXER = Attention("linear", 8, 1, 64, state_elements=1000, projection_params=512 * 600)
STATEFUL = Model("stateful", "test", 512, 1000, (Block(4, _MIXER, FeedForward(2048)),))
# A dense model with odd widths, one published in 8 bits, one that keeps no cache; new, old and foreign GPUs.
UNSUITABLE = [
    replace(case(model, gpu, tp=7, pp=9), dp=3, cp=5)
    for model in (dense("odd", 4, 1000, 8, 8, 4000, 1000), DEEPSEEK, STATEFUL)
    for gpu in (H100, A100, replace(A100, name="MI100", vendor="amd", architecture="cdna"))
]


def test_techniques_are_found_by_file_name() -> None:
    assert list(techniques()) == sorted(techniques())
    assert {"chunked-prefill", "fp8", "w4a16"} <= set(techniques())


@pytest.mark.parametrize("name", techniques())
def test_a_technique_states_its_stage_and_its_flags(name: str) -> None:
    technique = techniques()[name]()
    assert technique.stage in Stage
    for engine in ("vllm", "sglang"):
        flags = technique.flags(engine)
        if flags is None:  # the engine cannot run it
            assert not technique.searched
            continue
        assert all(re.fullmatch("[a-z][a-z0-9-]*", flag) for flag in flags)
        assert all(isinstance(value, str) for value in flags.values())


@pytest.mark.parametrize("name", techniques())
def test_a_technique_names_its_source(name: str) -> None:
    words = " ".join(str(import_module(f"planner.techniques.{name.replace('-', '_')}").__doc__).split())
    assert re.search(r"arXiv \d{4}\.\d{5}|NVIDIA, \"|[Dd]ocumentation, \"", words), words


@pytest.mark.parametrize("name", techniques())
def test_a_technique_says_in_words_where_it_cannot_be_used(name: str) -> None:
    made = techniques()[name]
    technique = made(7) if issubclass(made, Parallelism) else made()
    words = [why for here in UNSUITABLE if (why := technique.objection(here))]
    assert words, "it objects to nothing"
    assert all(len(why.split()) > 3 and not why.endswith(".") for why in words)


@pytest.mark.parametrize("pair", list(combinations(techniques(), 2)), ids="+".join)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_techniques_of_one_stage_commute(pair: tuple[str, str], model: Model) -> None:
    first, second = (techniques()[name]() for name in pair)
    if first.stage != second.stage or first.stage == Stage.PRECISION:
        return  # the stage orders them; of formats, a recipe has one at most
    here = spread(model) if first.stage == Stage.SHARDING else replace(case(model, tp=2), prefix_hit_ratio=0.25)
    base = base_cost(case(model)) if first.stage == Stage.SHARDING else sharded(here)
    one_way, other_way = second.apply(first.apply(base, here), here), first.apply(second.apply(base, here), here)
    for (name, left), (other, right) in zip(sorted(flat(one_way)), sorted(flat(other_way)), strict=True):
        assert name == other
        assert left == pytest.approx(right)


def test_techniques_are_applied_by_stage_in_whatever_order_they_are_named() -> None:
    here = case(LLAMA_70B, tp=2)
    orders = [cost_of(here, pair) for pair in ((FP8(), ChunkedPrefill()), (ChunkedPrefill(), FP8()))]
    assert flat(orders[0]) == flat(orders[1])


@pytest.mark.parametrize("name", techniques())
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_no_technique_makes_a_demand_negative_or_no_number(name: str, model: Model) -> None:
    made = techniques()[name]
    alone = replace(case(model, batch=16.0, tp=4), prefix_hit_ratio=0.25)
    costs = [cost_of(spread(model), [] if issubclass(made, Parallelism) else [made()])]
    costs += [] if issubclass(made, Parallelism) else [cost_of(alone, [made()])]
    for cost in costs:
        figures = [figure for _, figure in flat(cost)]
        assert np.isfinite(figures).all()
        assert min(figures) >= 0
        timed = [p for p in cost.phases.values() if not any(at.place == "network" for op in p.ops for at in op.traffic)]
        assert all(float(np.max(step_time(phase, ABLE, VLLM).total_s)) > 0 for phase in timed)


@pytest.mark.parametrize("model", [LLAMA_8B, MIXTRAL], ids=lambda model: model.name)
def test_fp8_halves_the_bytes_of_weights_and_runs_their_gemms_in_fp8(model: Model) -> None:
    here = case(model)
    before, after = (cost_of(here, chosen).phases["decode"] for chosen in ([], [FP8()]))
    assert read(after, "weights") == read(before, "weights") / 2
    assert after.resident[HBM_WEIGHTS] == float(before.resident[HBM_WEIGHTS]) / 2
    assert after.resident[HBM_EMBEDDINGS] == before.resident[HBM_EMBEDDINGS]
    assert read(after, "kv") == read(before, "kv")
    assert {op.engine for op in after.ops if HBM_WEIGHTS in op.traffic} == {"fp8"}
    assert {op.engine for op in after.ops if op.name in ("attention", "head")} == {"bf16"}


def test_w4a16_keeps_4_bits_a_weight_and_a_quarter_for_its_group() -> None:
    here = case(LLAMA_70B)
    before, after = (cost_of(here, chosen).phases["decode"] for chosen in ([], [W4A16()]))
    assert read(after, "weights") / read(before, "weights") == pytest.approx(4.25 / 16)  # 4 + 2 x 16 / 128 bits
    assert [op.flops for op in after.ops] == [op.flops for op in before.ops]


def test_a_chunk_costs_its_arithmetic_but_not_the_weights_that_decode_reads_anyway() -> None:
    here = case(LLAMA_8B, input_tokens=8192.0)
    whole, chunk = (cost_of(here, chosen).phases["prefill"] for chosen in ([], [ChunkedPrefill()]))
    assert chunk.rides == "decode"
    assert chunk.tokens == 2048
    assert read(chunk, "weights") == 0
    assert read(whole, "weights") > 0
    gemms = [sum(float(op.flops) for op in phase.ops if op.name != "attention") for phase in (whole, chunk)]
    assert gemms[1] == pytest.approx(gemms[0] / 4)
    # Four chunks: the later three read what the earlier ones left, 0 + 1 + 2 + 3 chunks over four, 1.5 on average.
    assert read(chunk, "kv") == pytest.approx(2048 * 1.5 * kv_bytes_per_token(here))
    # A cache in 8 bits is read again in 8 bits.
    narrow = cost_of(here, [ChunkedPrefill(), KVFP8()]).phases["prefill"]
    assert read(narrow, "kv") == pytest.approx(2048 * 1.5 * kv_bytes_per_token(here) / 2)


def test_chunks_hold_the_activations_of_a_chunk() -> None:
    here = case(LLAMA_8B, input_tokens=8192.0)
    whole, chunk = (cost_of(here, chosen).resident(("prefill",))["activations"] for chosen in ([], [ChunkedPrefill()]))
    assert float(chunk) == float(whole) / 4


def test_a_chunk_of_a_mixture_pays_for_the_experts_that_decode_does_not_touch() -> None:
    few, many = (cost_of(case(MIXTRAL, batch=batch), [ChunkedPrefill()]).phases["prefill"] for batch in (1.0, 512.0))
    assert read(few, "weights") > read(many, "weights") >= 0


@pytest.mark.parametrize("number_format", [FP8(), W4A16()], ids=["fp8", "w4a16"])
def test_chunked_prefill_composes_with_a_number_format(number_format: Technique) -> None:
    here = case(LLAMA_8B, input_tokens=8192.0)
    alone, both = (cost_of(here, [*more, ChunkedPrefill()]) for more in ([], [number_format]))
    assert read(both.phases["decode"], "weights") < read(alone.phases["decode"], "weights")
    assert both.phases["prefill"].rides == "decode"
    steps = [float(step_time(c.phases["decode"], H100, VLLM).total_s) for c in (alone, both)]
    assert steps[1] < steps[0]


def test_flags_are_what_the_engines_document() -> None:
    assert FP8().flags("vllm") == {"quantization": "fp8"}
    assert ChunkedPrefill().flags("vllm") == {"enable-chunked-prefill": "", "max-num-batched-tokens": "2048"}
    assert ChunkedPrefill().flags("sglang") == {"chunked-prefill-size": "2048", "enable-mixed-chunk": ""}


ODD = dense("odd", 4, 1000, 8, 8, 4000, 1000)


@pytest.mark.parametrize(
    ("technique", "here", "words"),
    [
        (FP8(), case(gpu=A100), "A100 has no fp8 peak in the catalogue"),
        (FP8(), case(DEEPSEEK), "deepseek-v3 is published in fp8 already"),
        (W4A16(), case(DEEPSEEK), "deepseek-v3 is published in fp8 already"),
        (W4A16(), case(ODD), "1000 weights in a row do not split into groups of 128"),
        (W4A16(), case(LLAMA_8B, tp=256), "56 weights in a row do not split into groups of 128"),
    ],
)
def test_each_objection_in_words(technique: Technique, here: Case, words: str) -> None:
    assert technique.objection(here) == words


def test_where_nothing_speaks_against_it_there_is_no_objection() -> None:
    free = [technique for technique in techniques().values() if not issubclass(technique, Parallelism)]
    searched = [technique() for technique in free if technique.searched]
    assert [technique.objection(case()) for technique in searched] == [None] * len(searched)


def test_chunked_prefill_objects_to_layers_that_keep_a_state() -> None:
    words = "stateful has linear layers, whose state does not pass between chunks"
    assert ChunkedPrefill().objection(case(STATEFUL)) == words
