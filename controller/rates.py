"""What Prometheus heard of services: arrivals, latencies, sizes. Silence is None, never zero.

Each query answers for all services of an engine at once, so the number of queries does not grow with the fleet. Series
carry the labels `namespace`, `muster_dev_service` and `muster_dev_role` (a PodMonitor copies the pods' labels
`muster.dev/service` and `muster.dev/role`).

An engine counts requests when they end. Under overload more arrive than end, so arrivals are what ended plus what the
number in the engine (running and waiting) grew by. A service of which fewer replicas are heard than serve is scaled up
to all of them, while at least half are heard; of fewer, nothing is said.

With pools of prefill and decode a request passes an engine of each and is counted by both. So what comes in (arrivals,
replicas, prompts, TTFT) is asked of the engines that requests come in by, what goes out (answers, TPOT) of those that
decode, and the time of a whole request, which neither sees, of engines that do both. Series without a role do both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.prometheus import Ask, Point
from planner.perf.metric_names import NAMES

_LEAST_HEARD_RATIO = 0.5
_BY = "by (namespace, muster_dev_service"
_IN, _OUT, _WHOLE = '{muster_dev_role!="decode"}', '{muster_dev_role!="prefill"}', '{muster_dev_role!~"prefill|decode"}'
_SEEN_BY = {"ttft": _IN, "tpot": _OUT, "itl": _OUT, "e2e": _WHOLE, "input": _IN, "output": _OUT}


class ServiceKey(NamedTuple):
    """A service's namespace and name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A service in the last window. None: nothing was heard, or no request ended.

    `latency_s`: by metric ("ttft", "tpot", "e2e") and quantile. Tokens are means of the requests that ended, of which
    there were `ended` in `window_s`; `attained_ratio`: the share of them that met its objective, where that is told.
    """

    replicas: int
    rate_per_s: float | None = None
    running: float | None = None
    waiting: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    latency_s: Mapping[tuple[str, float], float] = field(default_factory=dict)
    ended: float | None = None
    attained_ratio: float | None = None
    window_s: float = 60.0


def heard(
    ask: Ask,
    ready: Mapping[ServiceKey, int],
    engines: Iterable[str] = ("vllm", "sglang"),
    quantiles: Sequence[float] = (0.5, 0.95, 0.99),
    window_s: float = 60.0,
) -> dict[ServiceKey, Heard]:
    """Every service of `ready` (replicas that serve, of the pools that requests come in by) of which enough is heard.

    Raises PrometheusFault.
    """
    found: dict[ServiceKey, Heard] = {}
    for engine in engines:
        table = _Engine(ask, engine, f"[{window_s:g}s]")
        replicas = table.by_service(f"count {_BY}) ({table.gauge('running', _IN)})")
        for key, count in replicas.items():
            if key in ready and count >= _LEAST_HEARD_RATIO * ready[key]:
                found[key] = Heard(int(count))
        if any(key in found for key in replicas):
            _fill(table, found, ready, quantiles, window_s)
    return found


def _fill(
    table: "_Engine",
    found: dict[ServiceKey, Heard],
    ready: Mapping[ServiceKey, int],
    quantiles: Sequence[float],
    window_s: float,
) -> None:
    ended = table.by_service(f"sum {_BY}) ({table.rate('e2e', '_count', _IN)})")
    grown = table.by_service(f"sum {_BY}) ({table.growth('running')})")
    queued = table.by_service(f"sum {_BY}) ({table.growth('waiting')})")
    running = table.by_service(f"sum {_BY}) ({table.gauge('running')})")
    waiting = table.by_service(f"sum {_BY}) ({table.gauge('waiting')})")
    tokens = [table.mean(name) for name in ("input", "output")]
    latency = {
        (name, quantile): table.quantile(name, quantile) for name in ("ttft", "tpot", "e2e") for quantile in quantiles
    }
    for key in ended.keys() & found.keys():
        scale = max(ready[key] / found[key].replicas, 1.0)
        arrived = ended[key] + grown.get(key, 0.0) + queued.get(key, 0.0)
        found[key] = Heard(
            replicas=found[key].replicas,
            rate_per_s=max(arrived, 0.0) * scale,
            running=running[key] * scale if key in running else None,
            waiting=waiting[key] * scale if key in waiting else None,
            input_tokens=tokens[0].get(key),
            output_tokens=tokens[1].get(key),
            latency_s={which: values[key] for which, values in latency.items() if key in values},
            ended=ended[key] * window_s * scale,
            window_s=window_s,
        )


class _Engine:
    """Queries in the names of one engine; where a metric was renamed, the newer name wins where both are there."""

    def __init__(self, ask: Ask, engine: str, window: str) -> None:
        self._ask, self._engine, self._window = ask, engine, window

    def by_service(self, query: str) -> dict[ServiceKey, float]:
        points: list[Point] = self._ask(query)
        keyed = ((point.labels.get("namespace"), point.labels.get("muster_dev_service"), point) for point in points)
        return {ServiceKey(space, name): point.value for space, name, point in keyed if space and name}

    def gauge(self, metric: str, which: str = "") -> str:
        return self._either(metric, "", which, "{}")

    def growth(self, metric: str) -> str:
        return self._either(metric, "", _IN + self._window, "deriv({})")

    def rate(self, metric: str, suffix: str, which: str) -> str:
        return self._either(metric, suffix, which + self._window, "rate({})")

    def mean(self, metric: str) -> dict[ServiceKey, float]:
        parts = (self.rate(metric, suffix, _SEEN_BY[metric]) for suffix in ("_sum", "_count"))
        total, count = (f"sum {_BY}) ({part})" for part in parts)
        return self.by_service(f"{total} / ({count} > 0)")

    def quantile(self, metric: str, quantile: float) -> dict[ServiceKey, float]:
        names = "itl" if metric == "tpot" and not NAMES[self._engine]["tpot"] else metric
        seen = self.rate(names, "_bucket", _SEEN_BY[metric])
        return self.by_service(f"histogram_quantile({quantile:g}, sum {_BY}, le) ({seen}))")

    def _either(self, metric: str, suffix: str, which: str, form: str) -> str:
        """A form of every name that a metric has: its series of some roles, over the window where that is said."""
        return " or ".join(form.format(f"{self._engine}:{name}{suffix}{which}") for name in NAMES[self._engine][metric])
