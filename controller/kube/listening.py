"""Hears services, round after round: rates and latencies become samples for the triggers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from controller import names
from controller.effect import LATENCIES, in_ms
from controller.kube.cache import WORKLOADS
from controller.kube.known import Known
from controller.kube.view import running
from controller.prometheus import Prometheus, PrometheusFault
from controller.rates import Heard, ServiceKey, heard
from controller.specs import key_of
from controller.trigger import Sample
from planner.service import ServiceSpec

Object = Mapping[str, Any]
_LOG = logging.getLogger("muster")
Hear = Callable[[Mapping[ServiceKey, int], Sequence[float]], Mapping[ServiceKey, Heard]]
"""What is heard of services, given how many replicas of each serve, and the quantiles of latency to tell."""

_LAST = "decode"  # the pool that requests reach by way of another
_LONG_S = 10.0  # from which seconds are easier to read than milliseconds


class Listening:
    """One look at all services that serve. Of a service that is not heard a sample says so: None is not zero.

    `also`: quantiles to hear besides those of the objectives; `last`: what was heard the last time.
    """

    def __init__(self, known: Known, hear: Hear, also: Sequence[float] = ()) -> None:
        self._known, self._hear, self._also = known, hear, also
        self.last: Mapping[ServiceKey, Heard] = {}
        self.failures = 0

    def listen(self) -> None:
        """Listen once. Where nobody can be asked, nothing is concluded."""
        read = {key_of(obj): self._known.spec(obj) for obj in self._known.items("gpuservices")}
        specs = {key: spec for key, spec in read.items() if isinstance(spec, ServiceSpec)}
        ready = {ServiceKey(*key.split("/", 1)): count for key in specs if (count := self._ready(key))}
        if not ready:
            self.last = {}
            return
        quantiles = sorted({slo.percentile for spec in specs.values() for slo in spec.slos} | {*self._also})
        try:
            found = self._hear(ready, quantiles or (0.95,))
        except PrometheusFault as error:
            self.failures += 1
            _LOG.warning("prometheus: %s", error)
            found = {}
        self.last = found
        now_s = self._known.clock()
        for key in ready:
            name = f"{key.namespace}/{key.name}"
            one = found.get(key)
            met = None if one is None else slo_met(specs[name], one)
            sample = Sample(now_s)
            if one is not None:
                words = missed(specs[name], one) if met is False else ""
                sample = Sample(now_s, one.rate_per_s, met, one.input_tokens, one.output_tokens, words)
            self._known.hear(name, sample)

    def _ready(self, key: str) -> int:
        """Replicas that serve, of the pools that requests come in by: those of other pools see the same requests."""
        pods: dict[str, list[Object]] = {}
        for pod in self._known.cache.of(key, "pods"):
            pods.setdefault(pod["metadata"]["labels"].get(names.KIND, ""), []).append(pod)
        now_s = self._known.clock()
        workloads = self._known.cache.of(key, *WORKLOADS)
        counted = (running(one, pods.get(one["metadata"]["name"], ()), now_s) for one in workloads)
        return sum(one.ready for one in counted if one is not None and one.kind.pool != _LAST)


def by_prometheus(known: Known, url: str, token_file: Path | None, also: Sequence[float] = ()) -> Listening:
    """Hears what a Prometheus has of the engines. The token is read anew each time, as it may be renewed."""
    server = Prometheus(url, token=lambda: token_file.read_text("utf-8").strip() if token_file else "")
    return Listening(known, lambda ready, quantiles: heard(server.ask, ready, quantiles=quantiles), also)


def slo_met(spec: ServiceSpec, seen: Heard) -> bool | None:
    """Whether what was heard meets the loosest objective there is for each latency; None where nothing was heard.

    Engines do not tell classes of requests apart, so a miss is said only where even the loosest is missed.
    """
    if seen.attained_ratio == 1.0:
        return True
    verdicts = [latency_s <= limit_s for _, _, latency_s, limit_s in _looked_at(spec, seen)]
    return all(verdicts) if verdicts else None


def missed(spec: ServiceSpec, seen: Heard) -> str:
    """The worst miss: `p99 TTFT 812 ms over 500 ms in the last 60 s (97.2 % of 240 requests in time, 99 % asked)`."""
    rows = [row for row in _looked_at(spec, seen) if row[2] > row[3]]
    if not rows:
        return ""
    metric, percentile, latency_s, limit_s = max(rows, key=lambda row: row[2] / row[3])
    asked = f"{100 * percentile:.3g}"
    text = f"p{asked} {LATENCIES[f'{metric}_s']} {_apart(latency_s, limit_s)} in the last {seen.window_s:.0f} s"
    of = "all requests" if seen.ended is None else f"{seen.ended:,.0f} requests"
    if seen.attained_ratio is None:
        return f"{text} (of {of})"
    return f"{text} ({100 * seen.attained_ratio:.3g} % of {of} in time, {asked} % asked)"


def _looked_at(spec: ServiceSpec, seen: Heard) -> list[tuple[str, float, float, float]]:
    """Metric, percentile, what was heard of it, and the loosest limit that every class has for it."""
    rows = []
    for metric in ("ttft", "tpot", "e2e"):
        limits = [(limit, slo.percentile) for slo in spec.slos if (limit := getattr(slo, f"{metric}_s")) is not None]
        if limits and len(limits) == len(spec.slos):
            limit_s, percentile = max(limits)
            if (latency_s := seen.latency_s.get((metric, percentile))) is not None:
                rows.append((metric, percentile, latency_s, limit_s))
    return rows


def _ms(time_s: float) -> str:
    return f"{in_ms(time_s)} ms" if time_s < _LONG_S else f"{time_s:,.0f} s"


def _apart(got_s: float, limit_s: float) -> str:
    """One over the other, with as many digits as tell them apart."""
    got, limit = _ms(got_s), _ms(limit_s)
    return f"{got} over {limit}" if got != limit else f"{1000 * got_s:.6g} ms over {1000 * limit_s:.6g} ms"
