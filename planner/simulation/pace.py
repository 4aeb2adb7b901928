"""How long an engine's steps take and what they draw, in the few numbers that a simulation needs of the cost model.

A step in which n sequences decode over S tokens of context takes `decode_s[n] + context_s[n] x S`. Prompt tokens add
what so many take together, whose they may be, and what each prompt takes over what came before in it. All of it is read
off the planner's cost model (`planner.simulation.model`).
"""

from bisect import bisect_right
from dataclasses import dataclass

from planner.paged_cache import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Pace:
    """One replica. Rows of `decode_*` are by sequences in flight, from 0; of `prompt_*` and `chunk_*` by their tokens.

    `decode_s`, `context_s`: seconds of a step, and more for each token of context. `chunk_s`: seconds that so many
    prompt tokens add to a step; `prompt_s`: those that each token of a prompt of such a length adds on top. `first_s`:
    what a first token waits for besides. `max_sequences`, `max_step_tokens`: the engine's limits; `kv_tokens`: tokens
    that the KV cache holds. `idle_w`, `decode_w`, `prompt_w`: watts of the whole replica at rest, in steps of so many
    sequences, and while it computes prompts. `tokens_per_step`: tokens that a step gives each sequence. `reuse`:
    prompts that begin alike share KV blocks.
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
    reuse: bool = False
    chunk_tokens: tuple[float, ...] = (1.0, 2.0)
    chunk_s: tuple[float, ...] = (0.0, 0.0)

    @property
    def kv_blocks(self) -> int:
        """Blocks of KV memory."""
        return self.kv_tokens // BLOCK_TOKENS

    @property
    def quickest_s(self) -> float:
        """No step in which a sequence decodes takes less."""
        return self.decode_s[1]

    def holds(self, tokens: int) -> bool:
        """Whether a request of so many tokens, prompt and answer, ever fits."""
        return -(-tokens // BLOCK_TOKENS) <= self.kv_blocks

    def prompts_s(self, tokens: float) -> float:
        """Seconds that so many prompt tokens together add to a step."""
        xs, ys = self.chunk_tokens, self.chunk_s
        at = min(max(bisect_right(xs, tokens), 1), len(xs) - 1)
        return ys[at - 1] + (ys[at] - ys[at - 1]) * (tokens - xs[at - 1]) / (xs[at] - xs[at - 1])

    def prompt_until_s(self, tokens: float) -> float:
        """Seconds that a prompt adds on top, up to a token of it."""
        xs, ys = self.prompt_tokens, self.prompt_s
        at = bisect_right(xs, tokens)
        if at == 0:
            return tokens * ys[0]
        if at == len(xs):
            return tokens * ys[-1]
        share = (tokens - xs[at - 1]) / (xs[at] - xs[at - 1])
        return tokens * (ys[at - 1] + share * (ys[at] - ys[at - 1]))
