"""How to start an engine for one replica of an allocation: its flags, and the command as a person types it."""

import math
import shlex
from collections.abc import Mapping

from planner.plan import Allocation, Recipe
from planner.service import Engine
from planner.technique import flags_of
from planner.techniques import techniques
from planner.techniques.disaggregation import Disaggregation


def engine_flags(recipe: Recipe, engine: Engine, pool: str = "serve") -> dict[str, str]:
    """Flag without dashes -> value ("" for a switch): degrees, techniques, and the most sequences in flight.

    A recipe counts sequences per pipeline lane; vLLM those of one data-parallel rank, SGLang all of the replica.
    """
    known = techniques()
    chosen = [known[name]() for name in recipe.techniques if name in known]  # a stranger's recipe may name others
    told = flags_of(recipe, chosen, engine)
    for technique in chosen:
        if isinstance(technique, Disaggregation):
            told.update(technique.pool_flags(engine, pool))
    sequences = recipe.max_batch * recipe.pp
    if engine == "sglang":
        return {**told, "max-running-requests": str(sequences)}
    return {**told, "max-num-seqs": str(math.ceil(sequences / recipe.dp))}


def command(allocation: Allocation) -> str:
    """As typed; the model is the catalogue's name, for which the checkpoint's own stands in."""
    start = "vllm serve" if allocation.engine == "vllm" else "python -m sglang.launch_server --model-path"
    return " ".join([start, shlex.quote(allocation.model), *_typed(allocation.flags)])


def _typed(flags: Mapping[str, str]) -> list[str]:
    return [f"--{flag} {shlex.quote(value)}" if value else f"--{flag}" for flag, value in flags.items()]
