"""Hardware and models for tests of the performance model: published figures, typed by hand so that sums can be checked.

GPUs: NVIDIA data sheets, dense (H100 SXM, A100 80GB SXM, L4). Models: the `config.json` of each on Hugging Face.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from planner.cost import Case, Figure
from planner.hardware import GPUType, Inventory, NodeGroup, PowerDomain
from planner.model import Attention, Block, FeedForward, Model
from planner.service import SLO, Bucket, Constraints, ServiceSpec, Workload

H100 = GPUType(
    "H100",
    "nvidia",
    "hopper",
    hbm_bytes=80e9,
    hbm_bytes_per_s=3.35e12,
    flops_per_s={"bf16": 989e12, "fp16": 989e12, "fp8": 1979e12},
    tdp_w=700.0,
    scale_up_bytes_per_s=450e9,
    pcie_bytes_per_s=64e9,
    min_cap_w=200.0,
    max_cap_w=700.0,
)
A100 = GPUType(
    "A100",
    "nvidia",
    "ampere",
    hbm_bytes=80e9,
    hbm_bytes_per_s=2.039e12,
    flops_per_s={"bf16": 312e12, "fp16": 312e12},
    tdp_w=400.0,
    scale_up_bytes_per_s=300e9,
    pcie_bytes_per_s=32e9,
    min_cap_w=100.0,
    max_cap_w=400.0,
)
L4 = GPUType(
    "L4",
    "nvidia",
    "ada",
    hbm_bytes=24e9,
    hbm_bytes_per_s=300e9,
    flops_per_s={"bf16": 121e12, "fp16": 121e12, "fp8": 242e12},
    tdp_w=72.0,
    pcie_bytes_per_s=32e9,
)
GPUS = (H100, A100, L4)


def dense(name: str, layers: int, hidden: int, heads: int, kv_heads: int, inner: int, vocab: int) -> Model:
    """A dense decoder with grouped-query attention and a gated feed-forward unit."""
    attention = Attention("gqa", heads, kv_heads, hidden // heads)
    return Model(name, "test", hidden, vocab, (Block(layers, attention, FeedForward(inner)),), max_context=131072)


LLAMA_8B = dense("llama-8b", 32, 4096, 32, 8, 14336, 128256)
LLAMA_70B = dense("llama-70b", 80, 8192, 64, 8, 28672, 128256)
LLAMA2_70B = replace(dense("llama2-70b", 80, 8192, 64, 8, 28672, 32000), weight_dtype="fp16", max_context=4096)
MIXTRAL = Model(
    "mixtral-8x7b",
    "test",
    4096,
    32000,
    (Block(32, Attention("gqa", 32, 8, 128), FeedForward(14336, experts=8, experts_per_token=2)),),
    max_context=32768,
)
_MLA = Attention("mla", 128, 128, 128, q_lora_rank=1536, kv_lora_rank=512, rope_dim=64, v_head_dim=128)
_ROUTED = FeedForward(2048, experts=256, experts_per_token=8, shared_inner=2048)
DEEPSEEK = Model(
    "deepseek-v3",
    "test",
    7168,
    129280,
    (Block(3, _MLA, FeedForward(18432)), Block(58, _MLA, _ROUTED)),
    max_context=163840,
    weight_dtype="fp8",
)
MODELS = (LLAMA_8B, LLAMA_70B, MIXTRAL, DEEPSEEK)
CHAT = SLO("chat", ttft_s=1.0, tpot_s=0.05, percentile=0.95)
BULK = SLO("bulk", ttft_s=10.0, tpot_s=0.2, percentile=0.95)
SIZES = (Bucket("chat", 512, 128), Bucket("chat", 2048, 256))


def case(
    model: Model = LLAMA_8B,
    gpu: GPUType = H100,
    batch: Figure = 1.0,
    input_tokens: Figure = 1024.0,
    output_tokens: Figure = 128.0,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    prompts: Figure = 1.0,
) -> Case:
    """One sequence of Llama-8B on an H100."""
    return Case(model, gpu, batch, input_tokens, output_tokens, prompts, tp, pp, ep)


def service(
    model: Model = LLAMA_8B,
    rates_per_s: Mapping[Bucket, float] | None = None,
    slos: tuple[SLO, ...] = (CHAT, BULK),
    means: Mapping[Bucket, tuple[float, float]] | None = None,
    **constraints: object,
) -> ServiceSpec:
    """Ten requests/s of Llama-8B in two sizes."""
    rates = dict(rates_per_s if rates_per_s is not None else dict.fromkeys(SIZES, 5.0))
    work = Workload(rates, mean_tokens=dict(means or {}))
    limits = Constraints(**constraints)  # type: ignore[arg-type]  # names are checked by the dataclass
    return ServiceSpec("chat", model, work, slos, constraints=limits)


def grid(classes: tuple[str, ...] = ("chat", "bulk")) -> tuple[Bucket, ...]:
    """Sixty buckets in two classes: what a trace of conversations fills."""
    inputs, outputs = (128, 256, 512, 1024, 2048, 4096), (32, 64, 128, 256, 512)
    return tuple(Bucket(name, i, o) for name, i, o in product(classes, inputs, outputs))


def inventory(*gpus: GPUType, gpus_per_node: int = 8, metered: bool = False) -> Inventory:
    """One node group of four nodes for each GPU type, in one power domain with few watts if `metered`."""
    domain = "hall" if metered else None
    groups = tuple(
        NodeGroup(gpu.name.lower(), gpu, gpus_per_node, 4, "z1", 1.0, power_domain=domain) for gpu in gpus or GPUS
    )
    return Inventory("test", groups, power_domains=(PowerDomain("hall", 10e3),) if metered else ())
