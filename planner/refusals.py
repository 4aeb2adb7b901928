"""Why recipes are refused, in words, and which of many reasons tells most about a GPU type.

All wording that is read again lies here, beside the function that reads it.
"""

import re
from collections.abc import Sequence

from planner.plan import Recipe, Refusal
from planner.service import Bucket

_AN_OBJECTIVE = re.compile(r", the objective is |^no batch meets ")
_MEMORY = re.compile(r" GB of weights")
_BEATEN = re.compile(r" does as much with no more GPUs or energy$")
_GPUS = re.compile(r"^(?:(\d+)x)?(\S+)")


def too_slow(figure: str, best_s: float, limit_s: float, bucket: Bucket) -> str:
    """One latency misses its objective even at best, for the request size that comes closest."""
    size = f"{bucket.input_tokens} in, {bucket.output_tokens} out"
    return f"{figure} is {best_s:.3g} s at best ({size}), the objective is {limit_s:.3g} s"


def too_slow_together() -> str:
    """Each objective alone can be met."""
    return "no batch meets TTFT, TPOT and end-to-end time together"


def too_large(model: str, recipe: Recipe, weights_bytes: float, rest_bytes: float, room_bytes: float) -> str:
    """The memory that is missing: for weights alone, or for the least that a request needs beside them."""
    where = f"{recipe.gpus}x{recipe.gpu} holds {room_bytes / 1e9:.1f} GB"
    if weights_bytes > room_bytes:
        return f"{model} needs {weights_bytes / 1e9:.1f} GB of weights, {where}"
    beside = f"no room for {rest_bytes / 1e9:.1f} GB of KV cache, activations and workspace"
    return f"{weights_bytes / 1e9:.1f} GB of weights leave {beside}: {where}"


def beaten(winner: Recipe) -> str:
    """Another recipe of the GPU type makes this one needless."""
    return f"{winner} does as much with no more GPUs or energy"


def telling(refused: Sequence[Refusal], gpu: str) -> str | None:
    """The most telling reason among one service's refusals of a GPU type; None if nothing was refused, or one serves.

    An objective that the largest recipe misses tells more than memory that smaller ones lack, and that more than a
    technique's objection. Of equals the earlier one, which has fewer techniques.
    """
    mine = [refusal for refusal in refused if gpu_of_refusal(refusal) == gpu]
    if not mine or any(_BEATEN.search(refusal.reason) for refusal in mine):
        return None
    best = min(mine, key=lambda refusal: (_rank(refusal.reason), -_gpus(refusal.recipe)))
    return best.reason if best.recipe == gpu else f"{best.recipe}: {best.reason}"


def gpu_of_refusal(refusal: Refusal) -> str:
    """The GPU type that a refused recipe names; for what is refused on every type, its first word."""
    found = _GPUS.match(refusal.recipe)
    return found.group(2) if found else ""


def distinct(refused: Sequence[Refusal]) -> list[Refusal]:
    """One refusal for each GPU type and reason: the first."""
    seen: dict[tuple[str, str], Refusal] = {}
    for refusal in refused:
        seen.setdefault((gpu_of_refusal(refusal), refusal.reason), refusal)
    return list(seen.values())


def _rank(reason: str) -> int:
    return 0 if _AN_OBJECTIVE.search(reason) else 1 if _MEMORY.search(reason) else 2


def _gpus(recipe: str) -> int:
    found = _GPUS.match(recipe)
    return int(found.group(1) or 1) if found else 1
