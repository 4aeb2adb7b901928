"""What a person sees of a calibration: load, latencies measured and predicted, factors, KV tokens, warnings."""

from collections.abc import Mapping

from planner.corrections import Factor
from planner.perf.calibrate import Calibration
from planner.show import Report, Table, Words

NOTABLE_CACHED_RATIO = 0.1
FEW_REQUESTS = 30


def report(answer: Calibration, kv: Mapping[str, float] | None) -> Report:
    """Tables and words, in the order in which they are read."""
    figures = ("MEASURED", "PREDICTED", "OFF", "CORRECTED")
    table = Table(("MEAN", *figures), right=figures)
    for row in answer.compared:
        times = (_time(row.measured_s), _time(row.predicted_s), f"{row.off_ratio:+.1%}", _time(row.corrected_s))
        table.rows.append((row.name, *times))
    return [Words(_load(answer)), Words(""), table, Words(""), *(Words(line) for line in _notes(answer, kv))]


def _load(answer: Calibration) -> str:
    seen, learnt = answer.observed, answer.correction
    window = f" in {seen.window_s:,.0f} s" if seen.window_s else " since the engine started"
    return (
        f"{learnt.model} on {learnt.gpu}, {learnt.engine}, tp={learnt.tp}, pp={learnt.pp} ({learnt.weight_format}): "
        f"{seen.requests:,.0f} requests{window} of {seen.input_tokens:,.0f} + {seen.output_tokens:,.0f} tokens, "
        f"{seen.concurrency:,.1f} at once; the model called itself {answer.source}"
    )


def _notes(answer: Calibration, kv: Mapping[str, float] | None) -> list[str]:
    seen, learnt = answer.observed, answer.correction
    lines = [f"factors: TTFT {_factor(learnt.prefill)}, TPOT {_factor(learnt.decode)}; TPOT measured {seen.tpot_from}"]
    p50, p90, p99 = (_time(seen.ttft.quantile(share)) for share in (0.5, 0.9, 0.99))
    lines.append(f"TTFT p50 {p50}, p90 {p90}, p99 {p99}, by buckets")
    if kv is not None:
        measured, predicted = kv["measured"], kv.get("predicted")
        words = "none predicted" if not predicted else f"{predicted:,.0f} predicted ({predicted / measured - 1:+.1%})"
        lines.append(f"KV tokens: {measured:,.0f} measured, {words}")
    if seen.cached_ratio is not None and seen.cached_ratio > NOTABLE_CACHED_RATIO:
        lines.append(
            f"note: {seen.cached_ratio:.0%} of prompt tokens came from the prefix cache, of which the model knows "
            "nothing: the factor of TTFT holds for as many only"
        )
    far = ", ".join(row.name for row in answer.compared if row.surprising)
    if far:
        lines.append(
            f"note: {far} lies outside of the interval that was predicted; look for what the model was not told (a "
            "limit on sequences, another format, prefixes, preemption) before you trust the factor elsewhere"
        )
    if seen.requests < FEW_REQUESTS:
        lines.append(f"note: {seen.requests:,.0f} requests are few; the factors stay near 1")
    return lines


def _factor(factor: Factor) -> str:
    return f"{factor.ratio:.3f} ({factor.lo_ratio:.3f} to {factor.hi_ratio:.3f})"


def _time(value_s: float) -> str:
    return f"{value_s:,.2f} s" if value_s >= 1 else f"{value_s * 1e3:,.1f} ms"
