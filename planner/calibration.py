"""Every coefficient of the performance model that is not a datasheet figure, in one place, each with where it is from.

Kernels: the share of a GPU's peak that kernels of an architecture reach, the median over measured operator tables
(large shapes: each at least 100 us of ideal time for compute, 15 us for memory). Engines: seconds that a serving
engine adds to a step, fitted on measured whole-engine runs. Nothing here is per model.

vLLM operator tables: aiconfigurator-core 0.12.0 (Apache-2.0). Helix layers: Helix, arXiv 2406.01566 (Apache-2.0
repository). vLLM layers: LLMServingSim 2.0 profiles (MIT).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Kernels:
    """Shares of peak, 0 to 1: GEMMs by dtype (others: `gemm_ratio`), attention compute, HBM reads of weights and KV."""

    gemm_ratio: float
    attention_ratio: float
    hbm_ratio: float
    kv_ratio: float
    source: str
    by_dtype: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineCosts:
    """Seconds that an engine adds: per step, per layer (kernel launches and gaps), per request in the step.

    `compute_ratio`, `link_ratio`: what the engine reaches of the kernels' arithmetic and of the links.
    `overlapped`: an eager engine launches kernels while earlier ones run, so a step takes the longer of both;
    replayed graphs leave gaps between kernels, which add up.
    """

    step_s: float
    layer_s: float
    request_s: float
    overlapped: bool
    compute_ratio: float
    link_ratio: float
    source: str


KERNELS: Mapping[str, Kernels] = MappingProxyType(
    {
        "hopper": Kernels(
            0.80, 0.56, 0.80, 0.86, "vLLM 0.24.0 operator tables, H100 and H200 SXM", MappingProxyType({"fp8": 0.52})
        ),
        "ampere": Kernels(0.83, 0.54, 0.68, 0.69, "vLLM 0.14.0 operator tables, A100 SXM"),
        "blackwell": Kernels(
            0.70,
            0.51,
            0.75,
            0.85,
            "vLLM 0.24.0 operator tables, B200 SXM",
            MappingProxyType({"fp8": 0.51, "fp4": 0.45}),
        ),
        "ada": Kernels(
            0.64,
            0.43,
            0.85,
            0.85,
            "geometric mean of the two Ada GPUs measured: RTX 4090 (vLLM layers: 0.98, 0.92) and L4 (Helix layers: "
            "0.42, 0.79); attention at the ratio to GEMM that A100 and H100 have",
        ),
        "volta": Kernels(0.67, 0.45, 0.66, 0.66, "Helix layers, V100; attention as for Ada"),
        "turing": Kernels(0.40, 0.27, 0.71, 0.71, "Helix layers, T4; attention as for Ada"),
    }
)
UNMEASURED = Kernels(
    0.67,
    0.45,
    0.71,
    0.71,
    "median of the architectures above, as nothing was measured",
    MappingProxyType({"fp8": 0.51}),
)

# Fitted on mean TPOT of closed-loop runs of Llama-3.1-8B, 70B and Qwen3-32B (bf16, fp8; H100, H200, B200; TP 1-8; the
# shared "silicon" sample of aiconfigurator's repository, Apache-2.0): 243 rows, median error 4 % (vLLM); 114 rows, 6 %
# (SGLang). A fifth number, the share of prefills that fall into decoding rather than into the start of a wave of equal
# requests (0.69, 0.52), belongs to those closed-loop runs and is not carried here.
_FITTED = "fitted on whole-engine TPOT of H100, H200 and B200, {} rows, median error {} %"
FITTED, FITTED_ON = ("vllm", "sglang"), ("H100-SXM", "H200-SXM", "B200")
ENGINES: Mapping[str, EngineCosts] = MappingProxyType(
    {
        "vllm": EngineCosts(1.48e-3, 25.4e-6, 42.5e-6, False, 1.0, 0.44, _FITTED.format(243, 4)),
        "sglang": EngineCosts(0.99e-3, 17.6e-6, 23.3e-6, False, 1.0, 0.71, _FITTED.format(114, 6)),
        # The vLLM of autumn 2023 (eager, no graphs) as Splitwise measured it with Llama-2-70B on A100 and H100; only
        # for comparing with that table. Fitted on its prompt and token times: kernels 0.76 of today's, 0.4 ms a layer.
        "vllm-2023": EngineCosts(
            4.8e-3, 0.402e-3, 0.316e-3, True, 0.76, 0.273, "fitted on splitwise-sim's table (MIT)"
        ),
    }
)

# All-reduce, vLLM custom kernels under CUDA graphs and NCCL 2.27-2.29, 2 to 8 GPUs, A100 and H100 SXM, half precision:
# bus bandwidth at 512 MB is 0.70 to 0.99 of NVLink's, an 8 KB message takes 4.5 us (2 GPUs) to 6.5 us (8 GPUs).
LINK_RATIO = 0.75
COLLECTIVE_S = 4.2e-6
HOP_S = 0.15e-6

# Memory. vLLM keeps 10 % of a GPU free unless told otherwise (--gpu-memory-utilization 0.9, its documented default).
HBM_RATIO = 0.9

# Power. Splitwise (arXiv 2311.18677, simulator constants, MIT), W idle / prompt / token: A100 63 / 400 / 250 of 400,
# H100 75 / 700 / 380 of 700. A step that is all HBM traffic draws the token figure: (250-63)/(400-63) and
# (380-75)/(700-75) of the way from idle to full, 0.52 on average; all arithmetic draws full power.
HBM_POWER_RATIO = 0.52
# Idle share of the rated power where a catalogue row states none: the mean of the same two GPUs.
IDLE_POWER_RATIO = 0.13

# Cold start. ASSUMED, not measured: weights come from a node's local disk, and an engine needs a minute to import,
# compile and capture graphs. (Measured starts range from half to several minutes: arXiv 2606.07362.)
LOAD_BYTES_PER_S = 2e9
ENGINE_START_S = 60.0

# Queueing. ASSUMED: a replica is never planned above this share of what it can carry, and prompt lengths within one
# replica vary as much as their mean (squared coefficient of variation 1); arrivals are Poisson.
MAX_UTILISATION_RATIO = 0.95
PREFILL_SCV = 1.0


def kernels(architecture: str) -> Kernels:
    """The row of an architecture (any case); the median row for one that nobody measured for us."""
    return KERNELS.get(architecture.lower(), UNMEASURED)
