"""How to start an engine for one replica of an allocation: its flags, and the command as a person types it."""

import math
import shlex
from collections.abc import Mapping

from planner.catalog import checkpoint
from planner.plan import Allocation, Recipe
from planner.service import Engine
from planner.technique import flags_of
from planner.techniques import techniques
from planner.techniques.disaggregation import Disaggregation


def engine_flags(recipe: Recipe, engine: Engine, pool: str = "serve", context_tokens: int = 0) -> dict[str, str]:
    """Flag without dashes -> value ("" for a switch): degrees, techniques, and the longest and the most sequences.

    A recipe counts the sequences of one pipeline lane on all attention ranks. vLLM's limit is that of one data-parallel
    rank, for all micro-batches in its pipeline (`SchedulerConfig.max_num_seqs`, `Scheduler.running`). SGLang's is that
    of all ranks and lanes, which it divides by attention ranks and then by pipeline stages, rounding down.
    """
    known = techniques()
    chosen = [known[name]() for name in recipe.techniques if name in known]  # a stranger's recipe may name others
    told = flags_of(recipe, chosen, engine)
    for technique in chosen:
        if isinstance(technique, Disaggregation):
            told.update(technique.pool_flags(engine, pool))
    if context_tokens:
        told["context-length" if engine == "sglang" else "max-model-len"] = str(context_tokens)
    of_a_rank = math.ceil(recipe.max_batch / recipe.dp) * recipe.pp
    if engine == "sglang":
        return {**told, "max-running-requests": str(of_a_rank * recipe.dp)}
    return {**told, "max-num-seqs": str(of_a_rank)}


def command(allocation: Allocation, asked: str = "") -> str:
    """As typed. The model is its Hugging Face id: `asked`, if the owner named one; a plan's name where none is known.

    So too where a technique wants a checkpoint that somebody quantised: which, the reader decides.
    """
    start = "vllm serve" if allocation.engine == "vllm" else "python -m sglang.launch_server --model-path"
    known = techniques()
    other = any(known[name].quantised for name in allocation.recipe.techniques if name in known)
    model = (None if other else asked or checkpoint(allocation.model)) or allocation.model
    return " ".join([start, shlex.quote(model), *_typed(allocation.flags)])


def _typed(flags: Mapping[str, str]) -> list[str]:
    return [f"--{flag} {shlex.quote(value)}" if value else f"--{flag}" for flag, value in flags.items()]
