"""How a plan says to start its engines."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from planner.catalog import checkpoint, engine_options, models
from planner.launch import command, engine_flags
from planner.plan import Recipe
from planner.planning import plan
from planner.service import Engine
from planner.spec.plan_file import load_plan, plan_text
from planner.technique import Parallelism
from planner.techniques import techniques
from tests.planner.perf_factories import H100, inventory, service


def test_degrees_techniques_and_sequences_are_told_by_hand() -> None:
    """Two lanes of 64 sequences: 128; two ranks of data-parallel attention hold half of 64 each under vLLM."""
    piped = Recipe("H100", 2, 2, max_batch=64, techniques=("fp8",))
    told = {"tensor-parallel-size": "2", "pipeline-parallel-size": "2", "quantization": "fp8", "max-num-seqs": "128"}
    assert engine_flags(piped, "vllm") == told
    ranks = Recipe("H100", ep=2, dp=2, max_batch=64)
    assert engine_flags(ranks, "vllm")["max-num-seqs"] == "32"
    assert engine_flags(ranks, "sglang")["max-running-requests"] == "64"
    # Neither engine may round down: 65 on two ranks are 33 each; SGLang divides 132 by 2 ranks, and 66 by 2 stages.
    both = Recipe("H100", ep=2, dp=2, pp=2, max_batch=65)
    assert engine_flags(both, "vllm")["max-num-seqs"] == "66"
    assert engine_flags(both, "sglang")["max-running-requests"] == "132"
    assert engine_flags(piped, "vllm", context_tokens=4096) == {**told, "max-model-len": "4096"}
    assert engine_flags(piped, "sglang", context_tokens=4096)["context-length"] == "4096"
    apart = Recipe("H100", techniques=("disaggregation",))
    assert engine_flags(apart, "sglang", "prefill")["disaggregation-mode"] == "prefill"


def test_a_plan_says_how_to_start_its_replicas_and_is_read_back_with_it(tmp_path: Path) -> None:
    made = plan([service()], inventory(H100))
    row = made.allocations[0]
    assert row.flags == engine_flags(row.recipe, "vllm", row.pool, int(row.flags["max-model-len"]))
    assert f"--max-num-seqs {row.recipe.max_batch}" in command(row)
    path = tmp_path / "plan.yaml"
    path.write_text(plan_text(made, "p"), encoding="utf-8")
    assert load_plan(path).allocations == made.allocations


def test_the_command_is_typed_for_a_shell() -> None:
    made = plan([service()], inventory(H100)).allocations[0]
    row = replace(made, model="my own", flags={"a": "", "b": '{"c": 1}'})
    assert command(row) == "vllm serve 'my own' --a --b '{\"c\": 1}'"
    assert command(replace(row, engine="sglang")).startswith("python -m sglang.launch_server --model-path 'my own' --a")


def test_the_command_names_the_checkpoint_that_the_catalogue_knows() -> None:
    row = replace(plan([service()], inventory(H100)).allocations[0], model="qwen3-32b", flags={})
    assert command(row) == "vllm serve Qwen/Qwen3-32B"
    assert command(row, "Qwen/Qwen3-32B-chat") == "vllm serve Qwen/Qwen3-32B-chat"
    # Somebody's AWQ weights are not the model's own, and the catalogue has no id of them.
    quantised = replace(row, recipe=Recipe("H100-SXM", techniques=("w4a16",)))
    assert command(quantised) == command(quantised, "Qwen/Qwen3-32B") == "vllm serve qwen3-32b"


def test_a_checkpoint_is_one_that_the_row_names_and_its_source_where_it_can() -> None:
    assert checkpoint("llama-3.1-8b") == "meta-llama/Llama-3.1-8B"
    assert checkpoint("gemma-3-4b") == "google/gemma-3-4b-it"  # not the base model, which the row also goes by
    assert checkpoint("no such model") is None
    # An id means itself, not the row's base model, which has no chat template.
    assert checkpoint("meta-llama/llama-3.1-8b-instruct") == "meta-llama/Llama-3.1-8B-Instruct"
    assert checkpoint("Mixtral-8x7B-Instruct-v0.1") == "mistralai/Mixtral-8x7B-Instruct-v0.1"
    for alias in (alias for row in models() for alias in row.aliases if "/" in alias):
        assert checkpoint(alias) == alias
    for row in models():
        found = checkpoint(row.name)
        assert found in row.aliases


def told(engine: Engine) -> Mapping[str, set[str]]:
    """What each technique tells an engine, together with all degrees of parallelism."""
    every = Recipe("H100", tp=2, pp=2, ep=2, dp=2, cp=2)
    found: dict[str, set[str]] = {}
    for name, kind in techniques().items():
        if not issubclass(kind, Parallelism) and kind().flags(engine) is not None:
            recipe = replace(every, techniques=(name,))
            found[name] = {flag for pool in ("prefill", "decode") for flag in engine_flags(recipe, engine, pool, 4096)}
    return found


@pytest.mark.parametrize("engine", get_args(Engine))
def test_every_flag_stands_in_the_release_that_the_options_are_from(engine: Engine) -> None:
    published = engine_options(engine)
    assert published.version in published.source
    assert {name: flags - published.flags for name, flags in told(engine).items() if flags - published.flags} == {}


def test_an_option_that_a_release_does_not_have_would_be_found() -> None:
    assert "max-num-seqs" in engine_options("vllm").flags
    assert "max-num-seqs" not in engine_options("sglang").flags
    assert "enable-dp-attention" not in engine_options("sglang").flags  # deprecated
