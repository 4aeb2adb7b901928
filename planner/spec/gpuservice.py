"""The shape of kind `GPUService`, as it is written and as its JSON Schema says."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from planner.service import Engine
from planner.sizes import DistributionName
from planner.spec.fields import (
    Budget,
    Context,
    Count,
    CountOrZero,
    Duration,
    GPUName,
    KubernetesObject,
    Label,
    ModelName,
    Percentile,
    PercentileOrPeak,
    Problem,
    Rate,
    ServiceMetadata,
    Shape,
    Share,
    TechniqueName,
    Text,
    Tokens,
    shares_sum,
    twins,
)
from planner.spec.serving import ServingShape
from planner.units import DURATION

_LATENCIES = "at least one of ttft, tpot, e2e"


class BucketRow(Shape):
    """Requests of about one size."""

    input_tokens: Tokens
    """Tokens of the prompt, at most (the bucket's upper edge)."""
    output_tokens: Tokens
    """Tokens of the answer, at most (the bucket's upper edge)."""
    share: Annotated[float, Field(ge=0, le=1)]
    """Share of all requests, 0 to 1; the shares of all buckets sum to 1."""


class TokenCounts(Shape):
    """Tokens of a prompt or an answer, drawn from a named distribution."""

    name: DistributionName
    """Kind of distribution."""
    mean: Annotated[float, Field(ge=1, le=100_000_000)]
    """Mean, in tokens."""
    spread: Annotated[float, Field(ge=0, le=100_000_000)] = 0.0
    """Standard deviation, in tokens."""
    max: Tokens | None = None
    """Longest there is, in tokens: what is drawn above counts as this. Default: what 1 in 1,000 exceeds, rounded up."""


class SizeDistribution(Shape):
    """Request sizes from two distributions that know nothing of each other."""

    input: TokenCounts
    """Tokens of the prompt."""
    output: TokenCounts
    """Tokens of the answer."""


class Rates(Shape):
    """Requests per second over time."""

    step: Duration
    """Length of one window, such as 10m."""
    per_second: Annotated[list[Rate], Field(min_length=1)] | None = None
    """Requests per second in each window; left out, they are counted in the trace."""
    plan_for: PercentileOrPeak = 1.0
    """The rate to plan for: a percentile of the windows (p95), or peak (the default). It may come out as 0."""


class WorkloadShape(Shape):
    """How many requests come, and how large they are."""

    rate_per_second: Rate | None = None
    """Requests per second, all SLO classes together; 0 for a service that nobody calls yet. Either this or rates."""
    rates: Rates | None = None
    """A time series of request rates. Either this or ratePerSecond."""
    buckets: Annotated[list[BucketRow], Field(min_length=1, max_length=10_000)] | None = None
    """Request sizes as a table. One of buckets, trace, distribution. Sizes times SLO classes: at most 20,000."""
    trace: Text | None = None
    """Request sizes from a trace file (Azure LLM, BurstGPT, Mooncake; plain or gzip), path relative to this file."""
    distribution: SizeDistribution | None = None
    """Request sizes from named distributions."""
    prefix_hit_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of prompt tokens that a cache of prefixes would have, 0 to 1: the technique prefix-caching needs it."""

    def problems(self, context: Context) -> Iterator[Problem]:
        yield from self._one_of("ratePerSecond", "rates")
        yield from self._one_of("buckets", "trace", "distribution")
        if self.rates is not None and self.rates.per_second is None and self.trace is None:
            yield ("rates",), "got no perSecond and no trace to count it in, allowed: perSecond, a list of rates"
        if self.buckets is not None:
            yield from shares_sum((row.share for row in self.buckets), ("buckets",))
            seen: dict[tuple[int, int], int] = {}
            for index, row in enumerate(self.buckets):
                first = seen.setdefault((row.input_tokens, row.output_tokens), index)
                if first != index:
                    yield ("buckets", index), f"got the sizes of buckets[{first}] again, allowed: every size once"

    def _one_of(self, *keys: str) -> Iterator[Problem]:
        fields = {info.alias: name for name, info in WorkloadShape.model_fields.items()}
        there = [key for key in keys if getattr(self, fields[key]) is not None]
        if len(there) != 1:
            found = " and ".join(there) or "none of them"
            yield (there[-1:] and (there[-1],)) or (), f"got {found}, allowed: one of {', '.join(keys)}"


class SLOClass(Shape):
    """A latency objective and the share of the requests it holds for."""

    name: Label
    """Name of the class."""
    ttft: Duration | None = None
    """Time to the first token, such as 500ms."""
    tpot: Duration | None = None
    """Time per output token after the first, such as 50ms."""
    e2e: Duration | None = None
    """Time from request to last token, such as 30s."""
    percentile: Percentile = 0.95
    """The share of requests that must meet it, such as p95 (the default)."""
    share: Share | None = None
    """Share of all requests that are of this class, 0 to 1; may be left out when there is only one class."""

    def problems(self, context: Context) -> Iterator[Problem]:
        if self.ttft is None and self.tpot is None and self.e2e is None:
            yield (), f"got no latency, allowed: {_LATENCIES}"
        if self.e2e is not None and self.ttft is not None and self.e2e < self.ttft:
            got_e2e, ttft = DURATION.show(self.e2e), DURATION.show(self.ttft)
            yield ("e2e",), f"got {got_e2e}, below the ttft of {ttft}, allowed: at least the ttft"


class GPUTypes(Shape):
    """Which GPU types may be used, by catalogue name or alias."""

    allowed: Annotated[list[GPUName], Field(min_length=1, max_length=100)] | None = None
    """Only these; left out, all of the inventory."""
    excluded: list[GPUName] = Field(default=[], max_length=100)
    """None of these."""

    def problems(self, context: Context) -> Iterator[Problem]:
        excluded = {context.catalog.gpu(name).name for name in self.excluded}
        for index, name in enumerate(self.allowed or []):
            if context.catalog.gpu(name).name in excluded:
                yield ("allowed", index), f"got {name!r}, which is also excluded, allowed: a GPU type in one list only"


class Redundancy(Shape):
    """What may be lost while every request is still carried."""

    replicas: CountOrZero = 0
    """Any so many replicas."""
    nodes: Annotated[int, Field(ge=0, le=1)] = 0
    """Any one node (0 or 1)."""


class Zones(Shape):
    """How the service is spread over zones."""

    min: Annotated[int, Field(ge=1, le=1000)] = 1
    """In at least so many zones there is a replica that can serve every request size of the service."""
    max_share: Share = 1.0
    """At most this share of the service's requests is carried in any one zone."""


class ConstraintsShape(Shape):
    """What is forbidden or demanded besides latency."""

    gpu_types: GPUTypes | None = None
    """GPU types that may be used."""
    budget_per_hour: Budget | None = None
    """Dollars per hour for this service, such as $40."""
    redundancy: Redundancy | None = None
    """Losses that the service survives."""
    zones: Zones | None = None
    """Spread over zones."""
    max_spot_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """At most this share of the service's requests is carried on spot nodes."""
    min_replicas: CountOrZero = 0
    """At least so many replicas that can serve every request size; with 0, none is kept where no request comes."""
    max_replicas: Count | None = None
    """At most so many replicas."""
    techniques: Annotated[list[TechniqueName], Field(max_length=100)] | None = None
    """Only these techniques may be tried (fp8, w4a16, ...); left out, all; [] for none."""

    def problems(self, context: Context) -> Iterator[Problem]:
        if self.max_replicas is None:
            return
        if self.min_replicas > self.max_replicas:
            yield (
                ("minReplicas",),
                f"got {self.min_replicas}, above maxReplicas {self.max_replicas}, allowed: at most maxReplicas",
            )
        lost = self.redundancy.replicas if self.redundancy else 0
        if lost >= self.max_replicas:
            yield (
                ("redundancy", "replicas"),
                f"got {lost} with maxReplicas {self.max_replicas}, allowed: fewer than maxReplicas",
            )


class ServiceShape(Shape):
    """What a service needs."""

    model: ModelName
    """Catalogue name, alias, or the path of a Hugging Face config.json relative to this file."""
    workload: WorkloadShape
    """Request rate and sizes."""
    slos: Annotated[list[SLOClass], Field(min_length=1, max_length=64)] | None = None
    """Latency objectives by class of requests; none in a batch deployment."""
    quality_floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Least accuracy kept against the 16-bit model, 0 to 1: rules out number formats that lose more."""
    priority: Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)] = 0
    """Higher is served first when not all services fit."""
    constraints: ConstraintsShape | None = None
    """What is forbidden or demanded besides latency."""
    engine: Engine = "vllm"
    """Serving engine."""
    deployment: Literal["online", "batch"] = "online"
    """online: people wait, latency counts. batch: only throughput counts."""
    approval: Literal["Auto", "Manual"] = "Auto"
    """Manual: a changed plan waits for a person before it is applied."""
    serving: ServingShape | None = None
    """How the engines run in a cluster; a plan does not depend on it."""

    def problems(self, context: Context) -> Iterator[Problem]:
        if self.deployment == "batch" and self.slos is not None:
            yield ("slos",), "got latency objectives in a batch deployment, allowed: none, or deployment: online"
        if self.deployment == "online" and self.slos is None:
            yield ("slos",), f"got nothing, allowed: a list of classes with {_LATENCIES}, or deployment: batch"
        if self.slos is None:
            return
        yield from twins((slo.name for slo in self.slos), lambda index: ("slos", index, "name"))
        if len(self.slos) == 1 and self.slos[0].share is None:
            return
        unsaid = [index for index, slo in enumerate(self.slos) if slo.share is None]
        for index in unsaid:
            yield ("slos", index), "got no share, allowed: a share in each of several classes, which sum to 1"
        if not unsaid:
            yield from shares_sum((slo.share or 0.0 for slo in self.slos), ("slos",))


class GPUService(KubernetesObject):
    """A language model to serve: its workload, its latency objectives and its constraints."""

    kind: Literal["GPUService"]
    """What this object is."""
    metadata: ServiceMetadata
    """Name, namespace, labels and annotations."""
    spec: ServiceShape
    """What the service needs."""
