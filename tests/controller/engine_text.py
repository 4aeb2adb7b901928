"""Prometheus text as vLLM and SGLang write it, made of a run's requests: bucket bounds are vLLM's own (2025, 2026)."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TTFT = (0.001, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0)
TPOT = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
E2E = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0)
LENGTHS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)
MODEL = "meta-llama/Llama-3.1-8B"


@dataclass(frozen=True)
class Served:
    """One finished request; times in seconds from the start of the run."""

    arrival_s: float
    first_s: float
    last_s: float
    input_tokens: int
    output_tokens: int

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.arrival_s

    @property
    def tpot_s(self) -> float:
        return (self.last_s - self.first_s) / max(self.output_tokens - 1, 1)

    @property
    def e2e_s(self) -> float:
        return self.last_s - self.arrival_s


def run_of(folder: Path) -> list[Served]:
    """The requests of a recorded run."""
    with (folder / "requests.csv").open() as file:
        return [
            Served(
                float(row["arrival_s"]),
                float(row["first_token_s"]),
                float(row["last_token_s"]),
                int(row["input_tokens"]),
                int(row["output_tokens"]),
            )
            for row in csv.DictReader(file)
        ]


def steady(
    count: int = 100, ttft_s: float = 0.2, tpot_s: float = 0.02, lengths: tuple[int, int] = (1000, 200)
) -> list[Served]:
    """Equal requests, one a second."""
    return [Served(i, i + ttft_s, i + ttft_s + tpot_s * (lengths[1] - 1), *lengths) for i in range(count)]


def histogram(name: str, bounds: Sequence[float], values: Iterable[float], labels: str) -> list[str]:
    """The lines of one histogram."""
    seen = list(values)
    lines = [f"# HELP {name} Histogram.", f"# TYPE {name} histogram"]
    for bound in bounds:
        lines.append(f'{name}_bucket{{le="{bound}",{labels}}} {float(sum(v <= bound for v in seen))}')
    lines.append(f'{name}_bucket{{le="+Inf",{labels}}} {float(len(seen))}')
    return [*lines, f"{name}_count{{{labels}}} {float(len(seen))}", f"{name}_sum{{{labels}}} {sum(seen)!r}"]


def gauge(name: str, value: float, labels: str, kind: str = "gauge") -> list[str]:
    return [f"# HELP {name} One number.", f"# TYPE {name} {kind}", f"{name}{{{labels}}} {float(value)!r}"]


def vllm(
    done: Sequence[Served],
    *,
    running: float = 0.0,
    waiting: float = 0.0,
    blocks: int = 2588,
    model: str = MODEL,
    engine: str = "0",
    at_s: float | None = None,
) -> str:
    """What vLLM would say once these requests are done."""
    labels = f'engine="{engine}",model_name="{model}"'
    mark = [] if at_s is None else [f"# scrape {at_s}"]
    config = f'block_size="16",gpu_memory_utilization="0.9",num_gpu_blocks="{blocks}",engine="{engine}"'
    lines = [
        *mark,
        *gauge("vllm:num_requests_running", running, labels),
        *gauge("vllm:num_requests_waiting", waiting, labels),
        *gauge("vllm:kv_cache_usage_perc", 0.5, labels),
        *gauge("vllm:cache_config_info", 1.0, config),
        *gauge("vllm:prompt_tokens_total", sum(r.input_tokens for r in done), labels, "counter"),
        *gauge("vllm:generation_tokens_total", sum(r.output_tokens for r in done), labels, "counter"),
        *histogram("vllm:time_to_first_token_seconds", TTFT, (r.ttft_s for r in done), labels),
        *histogram("vllm:request_time_per_output_token_seconds", TPOT, (r.tpot_s for r in done), labels),
        *histogram("vllm:e2e_request_latency_seconds", E2E, (r.e2e_s for r in done), labels),
        *histogram("vllm:request_prompt_tokens", LENGTHS, (r.input_tokens for r in done), labels),
        *histogram("vllm:request_generation_tokens", LENGTHS, (r.output_tokens for r in done), labels),
    ]
    return "\n".join(lines) + "\n"


def sglang(done: Sequence[Served], *, running: float = 0.0, waiting: float = 0.0, at_s: float | None = None) -> str:
    """What SGLang would say: no time per token of a request, and lengths as counters only."""
    labels = f'model_name="{MODEL}"'
    mark = [] if at_s is None else [f"# scrape {at_s}"]
    lines = [
        *mark,
        *gauge("sglang:num_running_reqs", running, labels),
        *gauge("sglang:num_queue_reqs", waiting, labels),
        *gauge("sglang:token_usage", 0.28, labels),
        *gauge("sglang:gen_throughput", 100.0, labels),
        *gauge("sglang:prompt_tokens_total", sum(r.input_tokens for r in done), labels, "counter"),
        *gauge("sglang:generation_tokens_total", sum(r.output_tokens for r in done), labels, "counter"),
        *histogram("sglang:time_to_first_token_seconds", TTFT, (r.ttft_s for r in done), labels),
        *histogram("sglang:inter_token_latency_seconds", TPOT, (r.tpot_s for r in done), labels),
        *histogram("sglang:e2e_request_latency_seconds", E2E, (r.e2e_s for r in done), labels),
    ]
    return "\n".join(lines) + "\n"
