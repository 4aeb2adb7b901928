"""The figures of a plan file: what is expected of a replica, and how efficient a service is.

Keys are those of `planner.view`, in camelCase; figures are plain numbers in the unit that the key names.
"""

from typing import Annotated

from pydantic import Field

from planner.plan import ClassLatency, Prediction, Source
from planner.spec.fields import Shape

MOST_RATIO = 1.000001  # what is worked out as 1 may be off in its last digits
Figure = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=MOST_RATIO)]


class ClassLatencyShape(Shape):
    """The worst latency of an SLO class, at the percentile of its SLO."""

    slo_class: str
    """Name of the class."""
    ttft_s: Figure
    """Seconds to the first token."""
    tpot_s: Figure
    """Seconds per output token after the first."""
    e2e_s: Figure
    """Seconds from request to last token."""


class PredictionShape(Shape):
    """What is expected of one replica under its planned load."""

    ttft_s: Figure
    """Seconds to the first token, the worst of all request sizes."""
    tpot_s: Figure
    """Seconds per output token after the first, the worst of all request sizes."""
    e2e_s: Figure
    """Seconds from request to last token, the worst of all request sizes."""
    tokens_per_s: Figure
    """Output tokens per second at full load."""
    utilisation_ratio: Ratio
    """Load that keeps the objective, of what the replica could carry without one."""
    kv_cache_bytes: Figure
    """KV cache at full load, in bytes."""
    weights_bytes: Figure
    """Weights, in bytes."""
    power_w: Figure
    """Watts at full load."""
    cold_start_s: Figure
    """Seconds from start to first request."""
    source: Source = "modelled"
    """Where these figures come from."""
    by_class: list[ClassLatencyShape] = Field(default=[])
    """The same latencies by SLO class."""
    ttft_lo_s: Figure | None = None
    """Lower end of the 90 % interval of the time to the first token."""
    ttft_hi_s: Figure | None = None
    """Upper end of the same interval."""
    tpot_lo_s: Figure | None = None
    """Lower end of the 90 % interval of the time per output token."""
    tpot_hi_s: Figure | None = None
    """Upper end of the same interval."""
    mean_latency_s: Figure = 0.0
    """Mean seconds from request to last token."""
    memory_utilisation_ratio: Figure = 0.0
    """Memory in use, of what the GPUs have."""
    compute_utilisation_ratio: Figure = 0.0
    """Arithmetic done, of the peak of the number formats in use."""
    compression_ratio: Figure = 1.0
    """Size of the published weights over that of those held, times accuracy kept."""


class EfficiencyShape(Shape):
    """The six metrics of EfficientLLM (arXiv 2505.13840) of a service at full load; what is read is not used."""

    memory_utilisation_ratio: Figure
    """AMU: memory in use, of what the GPUs have."""
    compute_utilisation_ratio: Figure
    """PCU: arithmetic done, of the peak of the number formats in use."""
    mean_latency_s: Figure
    """AL: mean seconds from request to last token."""
    tokens_per_s: Figure
    """IT: output tokens per second."""
    power_w: Figure
    """AEC: average watts of all GPUs."""
    compression_ratio: Figure
    """MCR: size of the published weights over that of those held, times accuracy kept."""


def prediction(shape: PredictionShape) -> Prediction:
    """What a document says of a replica."""
    figures = shape.model_dump(exclude={"by_class"})
    by_class = (ClassLatency(row.slo_class, row.ttft_s, row.tpot_s, row.e2e_s) for row in shape.by_class)
    return Prediction(**figures, by_class=tuple(by_class))
