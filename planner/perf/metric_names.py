"""What serving engines call their Prometheus metrics: vLLM and SGLang, 2024 to 2026."""

from collections.abc import Mapping
from types import MappingProxyType

# What is wanted -> the names that engines give it, newest first, with the prefix and punctuation left out.
NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "vllm": {
            "ttft": ("time_to_first_token_seconds",),
            "tpot": ("request_time_per_output_token_seconds",),
            "itl": ("inter_token_latency_seconds", "time_per_output_token_seconds"),
            "e2e": ("e2e_request_latency_seconds",),
            "input": ("request_prompt_tokens",),
            "output": ("request_generation_tokens",),
            "input_total": ("prompt_tokens_total", "prompt_tokens"),
            "output_total": ("generation_tokens_total", "generation_tokens"),
            "running": ("num_requests_running",),
            "waiting": ("num_requests_waiting",),
            "kv": ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
            "steps": ("iteration_tokens_total",),
            "cached": ("prefix_cache_hits_total", "gpu_prefix_cache_hits_total"),
            "asked": ("prefix_cache_queries_total", "gpu_prefix_cache_queries_total"),
            "config": ("cache_config_info",),
        },
        "sglang": {
            "ttft": ("time_to_first_token_seconds",),
            "tpot": (),
            "itl": ("inter_token_latency_seconds", "time_per_output_token_seconds"),
            "e2e": ("e2e_request_latency_seconds",),
            "input": ("prompt_tokens_histogram",),
            "output": ("generation_tokens_histogram",),
            "input_total": ("prompt_tokens_total",),
            "output_total": ("generation_tokens_total",),
            "running": ("num_running_reqs",),
            "waiting": ("num_queue_reqs", "num_waiting_reqs"),
            "kv": ("token_usage",),
            "steps": (),
            "cached": ("cached_tokens_total",),
            "asked": ("prompt_tokens_total",),
            "config": (),
        },
    }
)
