"""Counts of what the API was asked and how long it took, as Prometheus reads them."""

import threading
from collections import Counter

_EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)


class Counts:
    """Thread-safe. Routes and statuses are few, so memory is bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._slower = [0] * (len(_EDGES_S) + 1)
        self._sum_s = 0.0
        self.streams = 0

    def add(self, method: str, route: str, status: int, took_s: float) -> None:
        """A request was answered. Streams last as long as somebody follows: their time says nothing."""
        method = method if method in _METHODS else "other"
        with self._lock:
            self._requests[method, route, status] += 1
            if route.endswith("/stream"):
                return
            self._slower[sum(took_s > edge for edge in _EDGES_S)] += 1
            self._sum_s += took_s

    def text(self) -> str:
        """The metrics."""
        with self._lock:
            requests, slower, sum_s = dict(self._requests), list(self._slower), self._sum_s
        lines = ["# HELP muster_api_requests_total Requests answered.", "# TYPE muster_api_requests_total counter"]
        for (method, route, status), count in sorted(requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            lines.append(f"muster_api_requests_total{{{labels}}} {count}")
        name = "muster_api_request_seconds"
        lines += [f"# HELP {name} Time to answer a request.", f"# TYPE {name} histogram"]
        total = 0
        for edge, count in zip((*map(str, _EDGES_S), "+Inf"), slower, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{edge}"}} {total}')
        lines += [f"{name}_sum {sum_s:.6f}", f"{name}_count {total}"]
        lines += ["# HELP muster_api_streams Streams of events that are open.", "# TYPE muster_api_streams gauge"]
        return "\n".join([*lines, f"muster_api_streams {self.streams}"]) + "\n"


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
