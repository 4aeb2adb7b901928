"""Hardware as the planner sees it: GPU types (rows of the catalogue) and the inventory of a cluster.

All figures are SI base units; a figure that no source states is None, and what needs it refuses in words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.errors import MissingFigure


@dataclass(frozen=True, slots=True)
class GPUType:
    """One GPU (or one MIG slice, or one graphics compute die) of a type.

    `flops_per_s` is dense, by dtype: fp32, tf32, fp16, bf16, fp8, int8, fp4.
    `scale_up_bytes_per_s` is one direction, one GPU to all its peers in the node (NVLink, xGMI); None = PCIe only.
    `network_bytes_per_s` is one GPU to other nodes, one direction: the inventory says it, not the catalogue.
    `min_cap_w`, `max_cap_w`: what the driver accepts as a power limit.
    `usd_per_hour`: a published on-demand price, None where nobody publishes one.
    `sources`: figure name -> where it was published.
    """

    name: str
    vendor: str
    architecture: str
    hbm_bytes: float
    hbm_bytes_per_s: float
    flops_per_s: Mapping[str, float]
    tdp_w: float
    idle_w: float | None = None
    scale_up_bytes_per_s: float | None = None
    pcie_bytes_per_s: float | None = None
    min_cap_w: float | None = None
    max_cap_w: float | None = None
    usd_per_hour: float | None = None
    aliases: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    network_bytes_per_s: float | None = None

    def flops(self, dtype: str) -> float:
        """Dense FLOP/s in `dtype`; raises MissingFigure where the catalogue has none."""
        if dtype not in self.flops_per_s:
            have = ", ".join(sorted(self.flops_per_s))
            raise MissingFigure(f"{self.name} has no {dtype} peak in the catalogue (has: {have})")
        return self.flops_per_s[dtype]


@dataclass(frozen=True, slots=True)
class Commitment:
    """GPUs of a node group that are paid for whether used or not (reserved, committed use)."""

    gpus: int
    usd_per_gpu_hour: float


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Equal nodes in one zone. `usd_per_gpu_hour` is the on-demand or spot price; 0 for owned nodes."""

    name: str
    gpu: GPUType
    gpus_per_node: int
    nodes: int
    zone: str
    usd_per_gpu_hour: float
    owned: bool = False
    spot: bool = False
    power_domain: str | None = None
    commitment: Commitment | None = None
    network_bytes_per_s: float | None = None  # one node, one direction, to other nodes

    @property
    def gpus(self) -> int:
        """All GPUs of the group."""
        return self.gpus_per_node * self.nodes


@dataclass(frozen=True, slots=True)
class Link:
    """Bandwidth and delay between two zones (or within one, when `a == b`)."""

    a: str
    b: str
    bytes_per_s: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class PowerDomain:
    """A set of node groups behind one breaker."""

    name: str
    budget_w: float


@dataclass(frozen=True, slots=True)
class Quota:
    """The most GPUs that the services of one namespace may have between them.

    `held_gpus`: what counts against it and is not planned here. `services`: names of those that it is on; None = all.
    """

    name: str
    namespace: str
    gpus: int
    held_gpus: int = 0
    services: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Stock:
    """A group of nodes as its owner knows it, where a plan may use some of its GPUs only: those that are free.

    `parts`: the node groups of the inventory that its nodes with free GPUs are in.
    """

    name: str
    nodes: int
    gpus: int
    free_gpus: int
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hardware that a plan may use, and who may use how much of it.

    `usd_per_joule` prices the energy of owned nodes (and of all, if asked). `stock`: what there is in all, where the
    node groups are not.
    """

    name: str
    node_groups: tuple[NodeGroup, ...]
    links: tuple[Link, ...] = ()
    power_domains: tuple[PowerDomain, ...] = ()
    usd_per_joule: float = 0.0
    quotas: tuple[Quota, ...] = ()
    stock: tuple[Stock, ...] = ()
