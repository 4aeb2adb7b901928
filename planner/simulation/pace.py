"""How long an engine's steps take and what they draw, in the few numbers that a simulation needs of the cost model.

A step in which n sequences decode over S tokens of context takes `decode_s[n] + context_s[n] x S`; prompt tokens
add to it by the length of their prompt. All of it is read off the planner's cost model (`planner.simulation.model`).
"""

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """One replica. Rows of `decode_*` are by sequences in flight, from 0; those of `prompt_*` by `prompt_tokens`.

    `decode_s`, `context_s`: seconds of a step, and more for each token of context. `prompt_s`: seconds that each token
    of a prompt of such a length adds. `first_s`: what a first token waits for besides. `max_sequences`,
    `max_step_tokens`: the engine's limits; `kv_tokens`: tokens that the KV cache holds. `idle_w`, `decode_w`,
    `prompt_w`: watts of the whole replica at rest, in steps of so many sequences, and while it computes prompts.
    """

    max_sequences: int
    max_step_tokens: int
    kv_tokens: int
    decode_s: tuple[float, ...]
    context_s: tuple[float, ...]
    prompt_tokens: tuple[float, ...]
    prompt_s: tuple[float, ...]
    first_s: float
    idle_w: float
    decode_w: tuple[float, ...]
    prompt_w: float
    lookahead: bool = True
    gpus: int = 1
    tokens_per_step: float = 1.0

    def token_s(self, prompt: float) -> float:
        """Seconds that each token of a prompt of so many adds."""
        xs, ys = self.prompt_tokens, self.prompt_s
        at = bisect_right(xs, prompt)
        if at in (0, len(xs)):
            return ys[max(at - 1, 0)]
        share = (prompt - xs[at - 1]) / (xs[at] - xs[at - 1])
        return ys[at - 1] + share * (ys[at] - ys[at - 1])
