"""Inputs for planner tests, every field defaulted: name only what the test is about."""

from collections.abc import Mapping

from planner.hardware import Commitment, GPUType, Inventory, NodeGroup, PowerDomain
from planner.model import Attention, Block, FeedForward, Model
from planner.plan import PoolProfile, Prediction, Profile, Recipe
from planner.service import SLO, Bucket, Constraints, ServiceSpec, Workload

SMALL = Bucket("std", 512, 128)
LARGE = Bucket("std", 4096, 512)


def model(name: str = "tiny") -> Model:
    """A small dense model."""
    block = Block(4, Attention("gqa", heads=8, kv_heads=2, head_dim=64), FeedForward(2048))
    return Model(name, "test", hidden=512, vocab=32000, blocks=(block,))


def gpu(name: str = "G1", **changes: object) -> GPUType:
    """A GPU type; figures are round and belong to no product."""
    fields: dict[str, object] = {
        "name": name,
        "vendor": "test",
        "architecture": "test",
        "hbm_bytes": 80e9,
        "hbm_bytes_per_s": 2e12,
        "flops_per_s": {"bf16": 300e12},
        "tdp_w": 400.0,
    }
    return GPUType(**{**fields, **changes})  # type: ignore[arg-type]  # field types are checked where they are used


def group(
    name: str = "a",
    gpu_name: str = "G1",
    *,
    gpus_per_node: int = 8,
    nodes: int = 4,
    zone: str = "z1",
    usd: float = 1.0,
    spot: bool = False,
    owned: bool = False,
    domain: str | None = None,
    commitment: Commitment | None = None,
    idle_w: float = 0.0,
) -> NodeGroup:
    """A node group of 4 nodes with 8 GPUs at $1 each, which draw nothing at rest."""
    made = gpu(gpu_name, idle_w=idle_w)
    return NodeGroup(
        name, made, gpus_per_node, nodes, zone, usd, owned, spot, power_domain=domain, commitment=commitment
    )


def inventory(*groups: NodeGroup, domains: tuple[PowerDomain, ...] = (), usd_per_joule: float = 0.0) -> Inventory:
    """An inventory of the given groups."""
    return Inventory("test", groups or (group(),), power_domains=domains, usd_per_joule=usd_per_joule)


def service(
    name: str = "chat",
    rates: Mapping[Bucket, float] | None = None,
    **constraints: object,
) -> ServiceSpec:
    """A service with 10 requests/s in two sizes."""
    return ServiceSpec(
        name,
        model(),
        Workload(dict(rates if rates is not None else {SMALL: 8.0, LARGE: 2.0})),
        (SLO("std", ttft_s=1.0, tpot_s=0.1),),
        constraints=Constraints(**constraints),  # type: ignore[arg-type]  # names are checked by the dataclass
    )


def prediction(power_w: float = 300.0) -> Prediction:
    """A prediction with round figures."""
    return Prediction(0.2, 0.05, 10.0, 1000.0, 0.7, 1e9, 1e9, power_w, 60.0)


def profile(
    service_name: str = "chat",
    gpu_name: str = "G1",
    load: Mapping[Bucket, float] | None = None,
    *,
    gpus: int = 1,
    power_w: float = 300.0,
    techniques: tuple[str, ...] = (),
) -> Profile:
    """A recipe of which one replica carries 1 / load requests/s of a bucket."""
    table = dict(load if load is not None else {SMALL: 0.1, LARGE: 0.5})
    pool = PoolProfile("serve", gpus, table, power_w, prediction(power_w))
    return Profile(service_name, Recipe(gpu_name, tp=gpus, techniques=techniques), (pool,))
