"""What a serving engine's own Prometheus metrics say of a window of time: requests, lengths, latencies, load, KV cache.

vLLM and SGLang, by the names of their metrics of 2024 to 2026. Counters and histograms are taken as increases between
the first scrape and the last (a counter that falls has started anew), or since start where there is one scrape. What
is silent is refused in words: no request is no measurement of zero.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.perf.metric_names import NAMES

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of an exposition."""

    name: str
    labels: Labels
    value: float

    def label(self, name: str) -> str:
        """A label's value, "" where it is not there."""
        return dict(self.labels).get(name, "")


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of one moment; `at_s` since 1970, None where nobody noted it."""

    samples: tuple[Sample, ...]
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations up to each bound (cumulative), their sum and their number."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float
    count: float

    @property
    def mean(self) -> float:
        """Exact: the sum over the number."""
        return self.total / self.count

    def quantile(self, share: float) -> float:
        """By straight lines within buckets, as Prometheus does; the last finite bound for what lies beyond it."""
        wanted, low, below = share * self.count, 0.0, 0.0
        for bound, upto in zip(self.bounds, self.counts, strict=True):
            if upto >= wanted and upto > below:
                return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (upto - below)
            if not math.isinf(bound):
                low, below = bound, upto
        return low

    @property
    def variation_ratio(self) -> float:
        """Standard deviation over mean, from the middles of buckets."""
        square, low, below = 0.0, 0.0, 0.0
        for bound, upto in zip(self.bounds, self.counts, strict=True):
            middle = low if math.isinf(bound) else (low + bound) / 2
            square += max(upto - below, 0.0) * (middle - self.mean) ** 2
            low, below = (low if math.isinf(bound) else bound), upto
        return math.sqrt(square / self.count) / self.mean if self.mean else 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """A window of one deployment. Times in seconds, means; `tpot_from` says which metric TPOT is from.

    `concurrency`: requests in the engine, running or waiting. None: the engine does not say.
    """

    engine: str
    model: str
    requests: float
    ttft: Histogram
    tpot_s: float
    tpot_from: str
    tpot: Histogram | None
    e2e: Histogram | None
    input_tokens: float
    output_tokens: float
    concurrency: float
    running: float | None
    waiting: float | None
    kv_usage_ratio: float | None
    kv_blocks: int | None
    block_tokens: int | None
    utilisation_ratio: float | None
    cached_ratio: float | None
    window_s: float | None


def observe(scrapes: Sequence[Scrape], model: str = "", concurrency: float | None = None) -> Observed | str:
    """The window between the first scrape and the last, or in words why nothing can be said.

    `model`: the label of the model where several are served. `concurrency`: where the metrics cannot tell it.
    """
    engine = _engine(scrapes)
    if not engine:
        return "no metric of vLLM or SGLang (names that begin with vllm: or sglang:)"
    times = [one.at_s for one in scrapes if one.at_s is not None]
    if times != sorted(times):
        return "the scrapes are not in order of time"
    names = sorted({s.label("model_name") for one in scrapes for s in one.samples if s.label("model_name")})
    if model and model not in names:
        return f"no metrics of a model called {model!r}; there are: {', '.join(names) or 'none'}"
    if not model and len(names) > 1:
        return f"metrics of {len(names)} models ({', '.join(names[:5])}): say which with --served-name"
    chosen = model or (names[0] if names else "")
    return _observe(_Window(engine, scrapes, chosen), chosen, concurrency)


class _Window:
    """Increases and levels of one model's metrics, summed over ranks and replicas."""

    def __init__(self, engine: str, scrapes: Sequence[Scrape], model: str) -> None:
        self.engine, self.names = engine, NAMES[engine]
        kept = [
            Scrape(tuple(s for s in one.samples if s.label("model_name") in ("", model)), one.at_s) for one in scrapes
        ]
        self.scrapes = kept
        self.increases = _increases(kept)
        times = [one.at_s for one in kept if one.at_s is not None]
        self.seconds = times[-1] - times[0] if len(times) > 1 and times[-1] > times[0] else None

    def histogram(self, what: str) -> Histogram | None:
        """The first of the names that has observations."""
        for name in self._full(what):
            buckets: dict[float, float] = {}
            for (sample, labels), value in self.increases.items():
                if sample == f"{name}_bucket":
                    bound = _number(dict(labels).get("le", ""))
                    buckets[bound] = buckets.get(bound, 0.0) + value
            total, count = self._sum(f"{name}_sum"), self._sum(f"{name}_count")
            bounds = tuple(sorted(bound for bound in buckets if not math.isnan(bound)))
            if count and total is not None and bounds:
                return Histogram(bounds, tuple(buckets[bound] for bound in bounds), total, count)
        return None

    def bare(self, what: str) -> bool:
        """Whether there are observations whose buckets somebody dropped."""
        return any(self._sum(f"{name}_count") for name in self._full(what))

    def counted(self, what: str) -> float | None:
        """The increase of a counter."""
        return next((value for name in self._full(what) if (value := self._sum(name)) is not None), None)

    def level(self, what: str, whole: bool = True) -> float | None:
        """A gauge's mean over the scrapes; summed over ranks if `whole`, else their mean."""
        for name in self._full(what):
            found = [[s.value for s in one.samples if _plain(s.name) == name] for one in self.scrapes]
            levels = [sum(values) if whole else sum(values) / len(values) for values in found if values]
            if levels:
                return sum(levels) / len(levels)
        return None

    def label(self, what: str, key: str) -> str:
        """A label of an info metric, from the last scrape that has it."""
        for name in self._full(what):
            for one in reversed(self.scrapes):
                for sample in one.samples:
                    if _plain(sample.name) == name and sample.label(key):
                        return sample.label(key)
        return ""

    def _full(self, what: str) -> list[str]:
        return [f"{self.engine}_{name}" for name in self.names[what]]

    def _sum(self, name: str) -> float | None:
        found = [value for (sample, _), value in self.increases.items() if sample == name]
        return sum(found) if found else None


def _observe(window: _Window, model: str, concurrency: float | None) -> Observed | str:
    ttft, e2e, tpot = (window.histogram(what) for what in ("ttft", "e2e", "tpot"))
    seen = f" within {window.seconds:,.0f} s" if window.seconds else ""
    if ttft is None and window.bare("ttft"):
        return "time to first token comes as a sum and a count without buckets: read the engine's own /metrics"
    if ttft is None:
        return f"no request got its first token{seen}: nothing was measured (silence is no latency of zero)"
    lengths = [_length(window, what, ttft.count) for what in ("input", "output")]
    if not lengths[0] or not lengths[1]:
        return f"{ttft.count:,.0f} requests, but no counter of their {'output' if lengths[0] else 'prompt'} tokens"
    decode = _tpot(window, ttft, e2e, tpot, lengths[1])
    if isinstance(decode, str):
        return decode
    running, waiting = window.level("running"), window.level("waiting")
    users = concurrency or _users(window, e2e, running, waiting)
    if not users:
        return (
            "no requests in the engine at the time of the scrape, and one scrape alone has no duration: "
            "scrape twice, or say --concurrency"
        )
    blocks, tokens = (_number(window.label("config", key)) for key in ("num_gpu_blocks", "block_size"))
    share = _number(window.label("config", "gpu_memory_utilization"))
    cached, asked = window.counted("cached"), window.counted("asked")
    return Observed(
        window.engine, model, ttft.count, ttft, decode[0], decode[1], tpot or decode[2], e2e, lengths[0], lengths[1],
        max(users, 1.0), running, waiting, window.level("kv", whole=False),
        None if math.isnan(blocks) else int(blocks), None if math.isnan(tokens) else int(tokens),
        None if math.isnan(share) else share, cached / asked if cached is not None and asked else None, window.seconds,
    )  # fmt: skip


def _tpot(
    window: _Window, ttft: Histogram, e2e: Histogram | None, tpot: Histogram | None, output_tokens: float
) -> tuple[float, str, Histogram | None] | str:
    """Mean time per output token after the first, where from, and its histogram: per request if the engine says so."""
    if tpot is not None:
        return tpot.mean, "per request", tpot
    itl = window.histogram("itl")
    if itl is not None:
        return itl.mean, "between tokens", itl
    if e2e is not None and output_tokens > 1 and e2e.mean > ttft.mean:
        return (e2e.mean - ttft.mean) / (output_tokens - 1), "end to end less first token", None
    return "no metric tells the time per output token"


def _length(window: _Window, what: str, requests: float) -> float:
    """Mean tokens of a request: of those that finished, else all tokens over all requests."""
    found = window.histogram(what)
    if found is not None:
        return found.mean
    return (window.counted(f"{what}_total") or 0.0) / requests


def _users(window: _Window, e2e: Histogram | None, running: float | None, waiting: float | None) -> float:
    """Requests in the engine: Little's law over the window, else the gauges' mean."""
    if window.seconds and e2e is not None:
        return e2e.total / window.seconds
    return (running or 0.0) + (waiting or 0.0)


def _increases(scrapes: Sequence[Scrape]) -> dict[tuple[str, Labels], float]:
    """What every series grew by; since start where there is one scrape. Restarts count from zero."""
    first, *later = scrapes
    last = {(_plain(s.name), s.labels): s.value for s in first.samples if math.isfinite(s.value)}
    grown = dict.fromkeys(last, 0.0) if later else dict(last)
    for scrape in later:
        for s in scrape.samples:
            if math.isfinite(s.value):
                key = (_plain(s.name), s.labels)
                before = last.get(key, 0.0)
                grown[key] = grown.get(key, 0.0) + (s.value - before if s.value >= before else s.value)
                last[key] = s.value
    return grown


def _engine(scrapes: Iterable[Scrape]) -> str:
    found = {_plain(s.name).partition("_")[0] for one in scrapes for s in one.samples}
    return next((engine for engine in NAMES if engine in found), "")


def _of(sample: Sample, model: str) -> bool:
    return sample.label("model_name") in ("", model)


def _plain(name: str) -> str:
    return name.replace(":", "_")


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
