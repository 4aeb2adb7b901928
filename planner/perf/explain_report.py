"""What `muster explain` says of a case: whether it fits, where time and bytes go, what the numbers are from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.calibration import ENGINES, FITTED, FITTED_ON, kernels
from planner.cost import Case
from planner.perf.explain import Breakdown
from planner.perf.explain_load import WAVES, Loaded
from planner.perf.memory import Budget, sequence_bytes
from planner.perf.under_load import PERCENTILES, Figures
from planner.show import Report, Table, Words, seconds
from planner.show_tables import breakdown_table, memory_table
from planner.units import rate_words


def report(
    case: Case,
    engine: str,
    note: str,
    phases: Sequence[Breakdown],
    made: Budget | str,
    loaded: Loaded | str | None = None,
) -> Report:
    """All of it for people."""
    parts: list[Table | Words] = [Words(words_on_fit(case, made)[1])]
    parts += [Words(note)] if note else []
    if loaded is not None:
        parts += [Words(""), *load_report(loaded)]
    for phase in phases:
        parts += [Words(""), breakdown_table(phase)]
        if phase.rides:
            words = f"a chunk of {phase.tokens:,.0f} prompt tokens rides on a {phase.rides} step: what it adds to that"
            parts.append(Words(words))
    parts += [Words(""), *(Words(words) for words in words_on_times(case, engine))]
    if not isinstance(made, str):
        parts += [Words(""), memory_table(made, case.gpu.hbm_bytes), Words(_memory_words(made, case))]
    return parts


def load_report(loaded: Loaded | str) -> Report:
    """Percentiles under load, or why there are none."""
    if isinstance(loaded, str):
        return [Words(f"no figures under load: {loaded}")]
    parts: list[Table | Words] = [Words(loaded.overload, "red")] if loaded.overload else []
    if str(loaded.answer.overload):
        return parts
    names = ("MEAN", *(f"P{100 * p:g}" for p in PERCENTILES))
    table = Table((_asked(loaded), *names), right=names)
    for name, figures in _figures(loaded).items():
        table.rows.append((name.upper(), *(_time(x) for x in figures.values())))
    words = (
        f"{rate_words(float(loaded.answer.requests_per_s))} requests/s (at most {rate_words(loaded.most_per_s)}), "
        f"{float(loaded.answer.in_flight):,.1f} in flight of at most {loaded.places:,}"
    )
    parts += [table, Words(words), Words(_sure(loaded))]
    if loaded.users is not None:
        parts.append(Words(f"each user sends {WAVES} requests, the next when the last is answered; all start at once"))
    return parts


def load_numbers(loaded: Loaded | str | None) -> dict[str, Any] | None:
    """The same as plain numbers, None for what cannot be carried."""
    if loaded is None:
        return None
    if isinstance(loaded, str):
        return {"refusal": loaded}
    fine = not str(loaded.answer.overload)
    return {
        "users": loaded.users,
        "requests_per_s": loaded.rate_per_s if loaded.users is None else float(loaded.answer.requests_per_s),
        "most_requests_per_s": loaded.most_per_s,
        "in_flight": float(loaded.answer.in_flight) if fine else None,
        "places": loaded.places,
        "overload": loaded.overload,
        **(_figures(loaded) if fine else {}),
        "ttft_interval_ratio": loaded.ttft_ratio,
        "tpot_interval_ratio": loaded.tpot_ratio,
        "source": loaded.source,
        "refusal": "",
    }


def _asked(loaded: Loaded) -> str:
    return f"{rate_words(loaded.rate_per_s or 0.0)} REQUESTS/S" if loaded.users is None else f"{loaded.users:,} USERS"


def _time(value_s: float) -> str:
    return f"{value_s * 1e3:,.1f} ms" if value_s < 0.1 else seconds(value_s)


def _figures(loaded: Loaded) -> dict[str, dict[str, float]]:
    def plain(figures: Figures) -> dict[str, float]:
        each = figures.percentiles_s.tolist()
        percentiles = {f"p{100 * p:g}_s": x for p, x in zip(PERCENTILES, each, strict=True)}
        return {"mean_s": float(figures.mean_s), **percentiles}

    # An answer of one token has none that come after the first.
    names = [name for name in ("ttft", "tpot", "e2e") if name != "tpot" or float(loaded.answer.tpot.mean_s) > 0]
    return {name: plain(getattr(loaded.answer, name)) for name in names}


def _sure(loaded: Loaded) -> str:
    if loaded.ttft_ratio is None or loaded.tpot_ratio is None:
        return f"steps: {loaded.source}, by the roofline; how far off is not known"
    return (
        f"steps: {loaded.source}, as engines were measured; 90 % intervals: "
        f"TTFT a factor of {loaded.ttft_ratio:.2f} either way, TPOT {loaded.tpot_ratio:.2f}"
    )


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
