"""What `muster explain` says of a case: whether it fits, where time and bytes go, what the numbers are from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.calibration import ENGINES, FITTED, FITTED_ON, kernels
from planner.cost import Case
from planner.perf.explain import Breakdown
from planner.perf.memory import Budget, sequence_bytes
from planner.show import Report, Table, Words
from planner.show_tables import breakdown_table, memory_table


def report(case: Case, engine: str, note: str, phases: Sequence[Breakdown], made: Budget | str) -> Report:
    """All of it for people."""
    parts: list[Table | Words] = [Words(words_on_fit(case, made)[1])]
    parts += [Words(note)] if note else []
    for phase in phases:
        parts += [Words(""), breakdown_table(phase)]
        if phase.rides:
            words = f"a chunk of {phase.tokens:,.0f} prompt tokens rides on a {phase.rides} step: what it adds to that"
            parts.append(Words(words))
    parts += [Words(""), *(Words(words) for words in words_on_times(case, engine))]
    if not isinstance(made, str):
        parts += [Words(""), memory_table(made, case.gpu.hbm_bytes), Words(_memory_words(made, case))]
    return parts


def numbers(case: Case, made: Budget | str) -> Mapping[str, Any]:
    """Whether it fits and where the bytes go, as plain numbers."""
    fits, words = words_on_fit(case, made)
    return {"fits": fits, "words": words, "memory": _memory(made, case)}


def words_on_times(case: Case, engine: str) -> tuple[str, ...]:
    """What the times are made from and how far off they are, and what the row `engine` is."""
    costs, shares = ENGINES[engine], kernels(case.gpu.architecture)
    known = case.gpu.name in FITTED_ON and engine in FITTED
    how = "modelled" if known else f"extrapolated to {case.gpu.name}"
    far = "the error below is of decode steps, a prefill's is not known" if known else "how far off is not known"
    each = (
        f"{costs.step_s * 1e3:g} ms a step, {costs.layer_s * 1e6:g} us a layer, {costs.request_s * 1e6:g} us a request"
    )
    return (
        f"times: {how}, from the shares of peak that kernels reach ({shares.source}); {far}",
        f"engine: {each} ({costs.source})",
    )


def words_on_fit(case: Case, made: Budget | str) -> tuple[bool, str]:
    """Whether a case fits on its GPUs, and in words what it needs and what the engine may take."""
    if isinstance(made, str):
        return False, f"does not fit: {made}"
    tokens, users = float(np.max(case.input_tokens + case.output_tokens)), float(np.max(case.batch))
    kv = users * float(sequence_bytes(made.model, made.running, tokens))
    fits = kv <= made.kv_bytes
    most = made.sequences_of([(tokens, 1.0)])
    words = (
        f"{(made.usable_bytes - made.kv_bytes + kv) / 1e9:,.1f} GB for {users:,.0f} sequences of {tokens:,.0f} tokens, "
        f"{made.running.engine} may take {made.usable_bytes / 1e9:,.1f} of {case.gpu.name}'s "
        f"{case.gpu.hbm_bytes / 1e9:,.1f} GB"
    )
    if fits:
        return True, f"fits: needs {words}"
    return False, f"does not fit: needs {words}; {most:,} such sequences fit at once, times are as if all did"


def _memory(made: Budget | str, case: Case) -> dict[str, Any]:
    """The budget as plain numbers, or the refusal."""
    if isinstance(made, str):
        return {"refusal": made}
    lo, hi = made.kv_tokens_interval
    fits = made.sequences_of([(float(case.input_tokens + case.output_tokens), 1.0)])
    tokens = {"kv_blocks": made.kv_blocks, "kv_tokens": made.kv_tokens, "kv_tokens_lo": lo, "kv_tokens_hi": hi}
    return {"bytes": dict(made.items), "usable_bytes": made.usable_bytes, **tokens, "sequences": fits, "refusal": ""}


def _memory_words(made: Budget, case: Case) -> str:
    plain = _memory(made, case)
    length = case.input_tokens + case.output_tokens
    words = f"{plain['sequences']:,} sequences of {length:,.0f} tokens fit at once (at most {made.running.sequences:,})"
    if not made.kv_blocks:
        return f"no KV cache; {words}"
    return (
        f"KV for {plain['kv_tokens']:,} tokens ({plain['kv_tokens_lo']:,} to {plain['kv_tokens_hi']:,}) in "
        f"{plain['kv_blocks']:,} blocks of {made.running.block_tokens}; {words}"
    )
