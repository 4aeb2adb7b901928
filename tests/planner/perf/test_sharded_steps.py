"""Two ways of counting what one GPU of many does agree: the planner's techniques, and the steps of many rows."""

from dataclasses import replace

import numpy as np
import pytest

from planner.base import HBM_EMBEDDINGS, HBM_KV, HBM_STATE, HBM_WEIGHTS
from planner.catalog import gpu, model
from planner.cost import Case, Cost, Degrees
from planner.perf.steps import Layout, Peaks, Work, held_bytes, kv_bytes, table, work
from planner.technique import Parallelism, parallelisms, sharded

CARD = gpu("H100-SXM")
ONE = np.ones(1)
UNIT = Peaks(ONE, ONE, ONE, ONE, ONE, 2 * ONE, 2 * ONE, 2 * ONE)  # FLOPs and bytes instead of seconds
SPLITS = {
    "llama-3.1-70b": [Degrees(2), Degrees(8)],
    "gemma-3-27b": [Degrees(4)],
    "mixtral-8x7b": [Degrees(4), Degrees(8, ep=8), Degrees(2, ep=8, dp=4)],
    "qwen3-30b-a3b": [Degrees(4, ep=4), Degrees(1, ep=8, dp=8)],
    "deepseek-v2-lite": [Degrees(8), Degrees(8, ep=8), Degrees(1, ep=8, dp=8), Degrees(2, ep=8, dp=4)],
}
CASES = [(name, split) for name, splits in SPLITS.items() for split in splits]


def both(name: str, split: Degrees) -> tuple[Cost, Work, Layout]:
    """A decode step of 64 sequences half way through 200 tokens; routing even, as steps count it."""
    here = Case(model(name), CARD, batch=64.0, input_tokens=1000.0, output_tokens=200.0)
    here = replace(here, **split._replace(ep=1)._asdict())
    tp, dp, experts = float(split.tp), float(split.dp), float(split.tp * split.dp)
    sliced = split.ep == 1
    layout = Layout(tp * ONE, dp * ONE, (experts if sliced else 1.0) * ONE, (1.0 if sliced else experts) * ONE)
    steps = work(table([here.model]), UNIT, layout, 64 / dp * ONE, ONE, 1100 * ONE)
    return sharded(here), steps, layout


@pytest.mark.parametrize(("name", "split"), CASES, ids=str)
def test_a_gpu_of_many_computes_and_reads_the_same_in_both_counts(name: str, split: Degrees) -> None:
    cost, steps, _ = both(name, split)
    ops = cost.phases["decode"].ops
    experts = [op for op in ops if op.shard == "expert"]
    dense = [op for op in ops if HBM_WEIGHTS in op.traffic and op.shard != "expert"]
    attention = [op for op in ops if op.name == "attention"]
    assert sum(float(op.flops) for op in dense) == pytest.approx(steps.gemm_flops[0])
    assert sum(float(op.traffic[HBM_WEIGHTS]) for op in dense) == pytest.approx(steps.gemm_hbm[0])
    assert sum(float(op.flops) for op in experts) == pytest.approx(steps.moe_flops[0])
    assert sum(float(op.traffic[HBM_WEIGHTS]) for op in experts) == pytest.approx(steps.moe_hbm[0])
    assert sum(float(op.flops) for op in attention) == pytest.approx(steps.attention_flops[0])
    assert sum(float(op.traffic[HBM_KV]) for op in attention) == pytest.approx(steps.kv[0])
    reduced = sum(float(x) for op in ops if op.name == "all_reduce" for at, x in op.traffic.items() if "act" in at.item)
    assert reduced == pytest.approx(steps.reduce_link[0])


@pytest.mark.parametrize(("name", "split"), CASES, ids=str)
def test_a_gpu_of_many_holds_the_same_in_both_counts(name: str, split: Degrees) -> None:
    cost, _, layout = both(name, split)
    held = cost.phases["decode"].resident
    t = table([model(name)])
    cache = kv_bytes(t, UNIT, layout, 1200 * ONE)[0] * 64 / split.dp
    assert float(held[HBM_KV] + held[HBM_STATE]) == pytest.approx(cache)
    tables = 1 if model(name).tied_embeddings else 2
    embeddings = 2.0 * model(name).hidden * model(name).vocab * 2 / split.tp
    rest = held_bytes(t, UNIT, layout)[0] - embeddings
    assert float(held[HBM_WEIGHTS]) == pytest.approx(rest)
    assert float(held[HBM_EMBEDDINGS]) == pytest.approx(embeddings * tables / 2)


def test_every_split_here_suits_its_techniques() -> None:
    for name, split in CASES:
        here = replace(Case(model(name), CARD), **split._asdict())
        made: list[Parallelism] = parallelisms(here)
        assert [why for one in made if (why := one.objection(here))] == []
