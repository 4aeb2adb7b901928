"""What the planner answers: options that were profiled, the plan, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from planner.service import Bucket, Engine

Source = Literal["measured", "modelled", "extrapolated"]
Status = Literal["optimal", "feasible", "infeasible", "unknown"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one replica runs, apart from where. `techniques` are names in `planner.techniques`, in order of name."""

    gpu: str
    tp: int = 1
    pp: int = 1
    ep: int = 1
    max_batch: int = 1
    techniques: tuple[str, ...] = ()
    power_cap_w: float | None = None
    dp: int = 1
    cp: int = 1  # among the GPUs of `tp`

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tp * self.pp * self.dp

    def __str__(self) -> str:
        """As shown to people: `2xL4 tp2 fp8 cap250W`."""
        count = f"{self.gpus}x" if self.gpus > 1 else ""
        degrees = [f"{k}{v}" for k in ("tp", "pp", "ep", "dp", "cp") if (v := getattr(self, k)) > 1]
        cap = [f"cap{self.power_cap_w:.0f}W"] if self.power_cap_w else []
        return " ".join([f"{count}{self.gpu}", *degrees, *self.techniques, *cap])


def uncapped(recipe: Recipe) -> Recipe:
    """A recipe at full power. A cap is set while a replica runs, so it makes no other kind of replica."""
    return recipe if recipe.power_cap_w is None else replace(recipe, power_cap_w=None)


@dataclass(frozen=True, slots=True)
class ClassLatency:
    """The worst latency of an SLO class's buckets, at the percentile of its SLO."""

    slo_class: str
    ttft_s: float
    tpot_s: float
    e2e_s: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the performance model expects of one replica under its planned load, at the SLO's percentile.

    `ttft_s`, `tpot_s` and `e2e_s` are the worst over all buckets that the replica serves; `by_class` tells them apart.
    `*_lo_s` and `*_hi_s` are the ends of their 90 % intervals, None where nothing measured stands behind them.
    The last four are what `planner.efficiency` adds up for a service.
    """

    ttft_s: float
    tpot_s: float
    e2e_s: float
    tokens_per_s: float
    utilisation_ratio: float
    kv_cache_bytes: float
    weights_bytes: float
    power_w: float
    cold_start_s: float
    source: Source = "modelled"
    by_class: tuple[ClassLatency, ...] = ()
    ttft_lo_s: float | None = None
    ttft_hi_s: float | None = None
    tpot_lo_s: float | None = None
    tpot_hi_s: float | None = None
    mean_latency_s: float = 0.0
    memory_utilisation_ratio: float = 0.0
    compute_utilisation_ratio: float = 0.0
    compression_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class PoolProfile:
    """One pool of a recipe ("serve", or "prefill" and "decode").

    `load`: bucket -> replicas needed to carry 1 request/s at the SLO; a bucket that is absent cannot be served.
    `power_w`: one replica (all its GPUs) at full load.
    """

    pool: str
    gpus_per_replica: int
    load: Mapping[Bucket, float]
    power_w: float
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Profile:
    """A recipe that can serve at least one bucket of a service; `context_tokens`: the longest request it takes."""

    service: str
    recipe: Recipe
    pools: tuple[PoolProfile, ...]
    source: Source = "modelled"
    context_tokens: int = 0  # not known


@dataclass(frozen=True, slots=True)
class Refusal:
    """A recipe (or a whole GPU type) that was not offered to the solver, and why, in words for the user."""

    service: str
    recipe: str
    reason: str


@dataclass(frozen=True, slots=True)
class Allocation:
    """`replicas` equal replicas of one pool in one node group, and the share of each bucket they carry.

    `busy_ratio`: what these shares keep busy of all that the replicas could carry at the objective (0 to 1).
    `flags`: what the engine is told, flag without dashes -> value ("" for a switch).
    """

    service: str
    model: str
    pool: str
    node_group: str
    zone: str
    recipe: Recipe
    replicas: int
    gpus_per_replica: int
    usd_per_hour: float
    power_w: float
    predicted: Prediction
    shares: Mapping[Bucket, float]
    busy_ratio: float = 1.0
    engine: Engine = "vllm"
    flags: Mapping[str, str] = field(default_factory=dict)


ChangeKind = Literal[
    "nodes",
    "power",
    "quota",
    "budget",
    "max_replicas",
    "min_replicas",
    "min_zones",
    "max_zone_share",
    "max_spot_share",
    "survive_replicas",
    "survive_nodes",
]


@dataclass(frozen=True, slots=True)
class Change:
    """A constraint set to a new value: nodes of a node group, watts of a power domain, GPUs of a quota
    (`namespace/name`), or a demand of a service."""

    kind: ChangeKind
    target: str
    value: float


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Why there is no plan: constraints that conflict, and the cheapest change that would make one exist.

    `relaxation` says it in words; `changes`, made together, are the same for a program (empty where no number helps).
    """

    why: str
    constraints: tuple[str, ...]
    relaxation: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to one planning problem.

    `usd_per_hour` counts commitments whole and changes not at all; `bound_usd_per_hour` is proved: no plan is better
    by more than the difference, changes counted. Power is at full load.
    """

    status: Status
    usd_per_hour: float | None
    bound_usd_per_hour: float | None
    gap_ratio: float | None
    power_w: float | None
    solve_s: float
    allocations: tuple[Allocation, ...] = ()
    refused: tuple[Refusal, ...] = ()
    infeasible: Infeasible | None = None
    one_type: Mapping[str, float] = field(default_factory=dict)  # GPU type -> $/h of the best fleet of it alone
    one_type_unknown: tuple[str, ...] = ()  # GPU types for which the limit was reached before that was known
    idle_cold_start_s: Mapping[str, float] = field(default_factory=dict)  # service scaled to zero -> its first wait
    usable_gpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # service -> types that serve a part of it
