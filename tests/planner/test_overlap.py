"""Overlap within a step: TokenWeave's tables, NanoFlow's rule, and what the techniques do to a cost, by hand."""

from pathlib import Path

import pytest

from planner.base import HBM_ACTIVATIONS, HBM_KV
from planner.calibration import ENGINES
from planner.cost import At, Op
from planner.roofline import BARE, resources_s, step_time
from planner.technique import cost_of
from planner.techniques.chunked_prefill import ChunkedPrefill
from planner.techniques.nano_batch import LINK_HIDDEN, STREAM_HIDDEN, NanoBatch
from planner.techniques.token_split_overlap import TokenSplitOverlap, waves
from tests.benchmarks.anchors_overlap import COLUMNS, nanoflow_ratio, prefill_s, served, tables, tokenweave_engine
from tests.planner.perf_factories import DEEPSEEK, H100, L4, LLAMA_70B, MIXTRAL, case

LINK = At("activations", "scale_up")
LAYERS = At("layers", "host")


def moved(ops: tuple[Op, ...], at: At, *names: str) -> float:
    return sum(float(op.traffic.get(at, 0.0)) for op in ops if not names or op.name in names)


def test_tokenweave_prefill_times_are_within_fifteen_percent(shared: Path) -> None:
    """14 prompts: baseline (two figures of the engine are fitted on it), without all-reduces, overlapped."""
    folder = shared / "data" / "perf"
    engine, (rows, _) = tokenweave_engine(folder), tables(folder)
    assert len(rows) == 14
    for row in rows:
        ours = prefill_s(row, engine)
        for name in COLUMNS:
            assert 1e3 * ours[name] == pytest.approx(float(row[name]), rel=0.15), (
                row["model"],
                row["prompt_len"],
                name,
            )


def test_tokenweave_throughputs_are_within_fifteen_percent(shared: Path) -> None:
    folder = shared / "data" / "perf"
    engine, (_, rows) = tokenweave_engine(folder), tables(folder)
    assert len(rows) == 8
    for row in rows:
        ours = served(row, engine)
        for name in COLUMNS:
            assert ours[name] == pytest.approx(float(row[name]), rel=0.15), (row["model"], row["experiment"], name)


def test_traffic_of_all_reduces_and_norms_runs_beneath_the_products() -> None:
    here = case(LLAMA_70B, input_tokens=4096.0, tp=8)
    plain, woven = (cost_of(here, chosen).phases["prefill"].ops for chosen in ([], [TokenSplitOverlap()]))
    assert moved(woven, LINK, "all_reduce", "norms") == 0
    assert moved(woven, LINK) == pytest.approx(moved(plain, LINK))
    assert moved(woven, HBM_ACTIVATIONS, "norms") == 0
    products = [op for op in woven if op.name in ("qkv", "out", "up", "down")]
    shares = [float(op.traffic[LINK]) / float(op.flops) for op in products]
    assert shares == pytest.approx([shares[0]] * 4)  # by flops


def test_eight_of_132_sms_are_lost_to_communication_and_launches_double() -> None:
    here = case(LLAMA_70B, input_tokens=4096.0, tp=8)
    plain, woven = (cost_of(here, chosen).phases["prefill"].ops for chosen in ([], [TokenSplitOverlap()]))
    flops = [sum(float(op.flops) for op in ops) for ops in (plain, woven)]
    assert flops[1] / flops[0] == pytest.approx(132 / 124)
    assert moved(woven, LAYERS) == 2 * moved(plain, LAYERS)


def test_a_step_with_few_tokens_runs_as_before() -> None:
    here = case(LLAMA_70B, input_tokens=512.0, batch=64.0, tp=8)
    for technique in (TokenSplitOverlap(), NanoBatch(1024)):
        for phase in ("prefill", "decode"):
            plain, woven = (cost_of(here, chosen).phases[phase] for chosen in ([], [technique]))
            times = [float(step_time(p, H100, ENGINES["vllm"]).total_s) for p in (plain, woven)]
            assert times[1] == pytest.approx(times[0])


def test_no_half_gains_a_wave() -> None:
    """2,048 x 8,192: 16 x 32 tiles of 128 x 256 are 512, 4 waves of 132 SMs; halves of 8 x 32 = 256 are 2 waves each.

    1,280 x 8,192: 10 x 32 = 320 tiles, 3 waves. Halves of 5 x 32 = 160 would be 2 + 2; 4 + 6 are 128 and 192: 1 + 2.
    """
    woven = TokenSplitOverlap()
    assert waves(16, 32) == 4
    assert woven.halves(2048, 8192) == (1024, 1024)
    assert (waves(5, 32) + waves(5, 32), waves(4, 32) + waves(6, 32), waves(10, 32)) == (4, 3, 3)
    assert sorted(woven.halves(1280, 8192)) == [512, 768]


def test_nanobatches_hide_52_percent_of_the_cache_and_88_percent_of_the_links() -> None:
    here = case(LLAMA_70B, batch=1024.0, tp=8)
    plain, nano = (cost_of(here, chosen).phases["decode"].ops for chosen in ([], [NanoBatch()]))
    assert moved(nano, HBM_KV, "attention") == pytest.approx(0.48 * moved(plain, HBM_KV))
    assert moved(nano, LINK, "all_reduce") == pytest.approx(16 / 132 * moved(plain, LINK))
    assert moved(nano, HBM_KV) == pytest.approx(moved(plain, HBM_KV))
    assert pytest.approx(0.52) == STREAM_HIDDEN
    assert pytest.approx(1 - 16 / 132) == LINK_HIDDEN


def test_what_hides_beneath_a_product_costs_nothing_until_it_takes_longer() -> None:
    """T = max(T_compute, T_memory, T_network) of a fused op; in turns it is their sum."""
    here = case(LLAMA_70B, batch=1024.0, tp=8)
    ops = cost_of(here, [NanoBatch()]).phases["decode"].ops
    up = next(op for op in ops if op.name == "up")
    needs = resources_s(up, H100, BARE)
    assert set(needs) == {"compute", "hbm", "scale_up"}
    times = [float(step_time(cost_of(here, c).phases["decode"], H100, BARE).total_s) for c in ([], [NanoBatch()])]
    assert times[1] < times[0]


def test_nanobatches_reach_what_nanoflow_measured_of_the_optimum() -> None:
    assert nanoflow_ratio("llama-2-70b", (512, 512), "sglang", NanoBatch()) == pytest.approx(0.685, rel=0.15)
    assert nanoflow_ratio("llama-2-70b", (512, 512), "sglang") < 0.6


def test_both_compose_with_chunked_prefill() -> None:
    here = case(LLAMA_70B, input_tokens=4096.0, tp=8)
    for technique in (TokenSplitOverlap(), NanoBatch()):
        chunk = cost_of(here, [technique, ChunkedPrefill()]).phases["prefill"]
        assert chunk.rides == "decode"
        assert moved(chunk.ops, LINK, "all_reduce") < 0.2 * moved(chunk.ops, LINK)


@pytest.mark.parametrize(
    ("technique", "here", "words"),
    [
        (TokenSplitOverlap(), case(), "on one GPU there is no all-reduce to hide"),
        (TokenSplitOverlap(), case(gpu=L4, tp=2), "no link between GPUs that reduces within the switch"),
        (TokenSplitOverlap(), case(MIXTRAL, tp=2), "has experts, whose exchange the halves do not cover"),
        (NanoBatch(), case(DEEPSEEK, tp=2), "has experts, whose weights half a batch would have to read again"),
    ],
)
def test_objections_in_words(technique: TokenSplitOverlap | NanoBatch, here: object, words: str) -> None:
    assert words in str(technique.objection(here))  # type: ignore[arg-type]


def test_no_release_of_an_engine_has_a_flag_for_dense_models() -> None:
    for technique in (TokenSplitOverlap(), NanoBatch()):
        assert technique.flags("vllm") is technique.flags("sglang") is None
