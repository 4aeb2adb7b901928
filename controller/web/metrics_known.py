"""The measurements that a history has, by what they are of; `controller.web.site.History` says what each means."""

OF_SERVICE = (
    "rate_per_s", "planned_per_s", "ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s", "e2e_p95_s",
    "attainment_ratio", "goodput_per_s", "waiting", "kv_cache_ratio", "replicas_ready", "usd_per_hour", "power_w",
)  # fmt: skip
OF_FLEET = ("budget_w", "gpus_used", "gpus_total")
OF_GPU = ("temperature_c", "busy_ratio")
METRICS = (*OF_SERVICE, *OF_FLEET, *OF_GPU)
