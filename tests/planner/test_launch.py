"""How a plan says to start its engines."""

from dataclasses import replace
from pathlib import Path

from planner.launch import command, engine_flags
from planner.plan import Recipe
from planner.planning import plan
from planner.spec.plan_file import load_plan, plan_text
from tests.planner.perf_factories import H100, inventory, service


def test_degrees_techniques_and_sequences_are_told_by_hand() -> None:
    """Two lanes of 64 sequences: 128; two ranks of data-parallel attention hold half of 64 each under vLLM."""
    piped = Recipe("H100", 2, 2, max_batch=64, techniques=("fp8",))
    told = {"tensor-parallel-size": "2", "pipeline-parallel-size": "2", "quantization": "fp8", "max-num-seqs": "128"}
    assert engine_flags(piped, "vllm") == told
    ranks = Recipe("H100", ep=2, dp=2, max_batch=64)
    assert engine_flags(ranks, "vllm")["max-num-seqs"] == "32"
    assert engine_flags(ranks, "sglang")["max-running-requests"] == "64"
    apart = Recipe("H100", techniques=("disaggregation",))
    assert engine_flags(apart, "sglang", "prefill")["disaggregation-mode"] == "prefill"


def test_a_plan_says_how_to_start_its_replicas_and_is_read_back_with_it(tmp_path: Path) -> None:
    made = plan([service()], inventory(H100))
    row = made.allocations[0]
    assert row.flags == engine_flags(row.recipe, "vllm", row.pool)
    assert f"--max-num-seqs {row.recipe.max_batch}" in command(row)
    path = tmp_path / "plan.yaml"
    path.write_text(plan_text(made, "p"), encoding="utf-8")
    assert load_plan(path).allocations == made.allocations


def test_the_command_is_typed_for_a_shell() -> None:
    row = replace(plan([service()], inventory(H100)).allocations[0], model="llama-8b", flags={"a": "", "b": '{"c": 1}'})
    assert command(row) == "vllm serve llama-8b --a --b '{\"c\": 1}'"
    assert command(replace(row, engine="sglang")).startswith("python -m sglang.launch_server --model-path llama-8b --a")
