"""What an engine holds on a GPU besides weights and KV: activations of a step, the sampler, graphs, libraries, buffers.

Counts come from how engines allocate; bytes that only a device can tell come from a probe of ours
(`workloads/memory_probe.py`): PyTorch 2.11 on an H100 (80 GB), no engine, peaks read from the allocator. Nothing here
was solved from a run of an engine, so that a run can check it. Every figure may be an array.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from planner.calibration import HBM_RATIO
from planner.cost import Figure
from planner.model import Block, Model

WIDE_BYTES = 2.0  # activations are kept in 16 bits
# A step's largest layer: its feed-forward unit keeps both halves of its first product and what they make (3 x inner);
# beside them lie residuals, queries, keys, values and outputs (7 x hidden). The probe's peak at 8,192 tokens of
# Llama-3.1-8B shapes was 1,174,405,120 bytes = 2 x 8,192 x (3 x 14,336 + 7 x 4,096) exactly.
INNER_COPIES, HIDDEN_COPIES = 3.0, 7.0
# Bytes per logit while a batch samples, all sequences at once, not split by tensor parallelism (logits are gathered).
# Probe, 256 x 128,256: 36.1 where top-p sorts the vocabulary (PyTorch's sampler), 16.1 where a kernel masks in place
# (16-bit logits, and in 32 bits logits, probabilities, noise; vLLM since early 2026, pull request 33538, SGLang).
SORTED_LOGIT_BYTES, MASKED_LOGIT_BYTES = 36.1, 16.1
# cuBLAS workspace (33.6 MB) and modules that CUDA loads with the first kernels (165.7 MB with the workspace): probe.
LIBRARY_BYTES = 0.166e9
# CUDA graphs of 51 batch sizes (1 to 512, the default of vLLM) of a 32-layer stack: 257.9 MB in the probe.
GRAPH_LAYER_BYTES = 257.9e6 / 32
# NCCL 2.28.9 on 2 H200 (NVLink, multicast off), another probe: 384 MB with the communicator and 497 MB with its first
# collective; a second group over the same GPUs takes 510 MB more.
NCCL_BYTES, NCCL_GROUP_BYTES = 0.881e9, 0.51e9
# What some attention kernels keep beside all that (FlashInfer's workspace in vLLM: 394 MiB); where an engine uses them
# is not known beforehand, so that it widens the interval only.
KERNEL_WORKSPACE_BYTES = 394 * 2.0**20
# What an engine takes of a GPU unless told otherwise: vLLM's documented default, 0.92 since 0.22, and whether the KV
# cache is sized with CUDA graphs counted in (vLLM's own log: by default since 0.21).
VLLM_RATIO, VLLM_RATIO_SINCE_22 = HBM_RATIO, 0.92
TRTLLM_FREE_RATIO = 0.9  # of what is free once weights and activations lie (free_gpu_memory_fraction)
# SGLang keeps free, in MB: 512, 1.5 a token of a prefill chunk, 2 a captured batch size, 128 a GPU; at least 10 GB on
# cards above 60 GB (its server_args.py, 2025 to 2026).
SGLANG_MB: Mapping[str, float] = MappingProxyType({"fixed": 512.0, "token": 1.5, "batch": 2.0, "gpu": 128.0})
SGLANG_LARGE_MB, SGLANG_LARGE_RESERVE_MB = 60 * 1024.0, 10 * 1024.0
MIB = 2.0**20


def forward_bytes(model: Model, tokens: Figure, tp: int = 1) -> Figure:
    """Peak of a forward pass over `tokens`: the largest layer, its routed experts' buffers included."""
    layers = [_layer_elements(model, block, tp) for block in model.blocks]
    return WIDE_BYTES * tokens * max(layers)


def sampler_bytes(model: Model, sequences: Figure, logit_bytes: float = SORTED_LOGIT_BYTES) -> Figure:
    """Peak while `sequences` sample from their logits."""
    return sequences * (model.vocab * logit_bytes)


def activation_bytes(
    model: Model, tokens: Figure, sequences: Figure, tp: int = 1, logit_bytes: float = SORTED_LOGIT_BYTES
) -> Figure:
    """Peak of one step: the forward pass or, after it, the sampler beside the last hidden states."""
    after = sampler_bytes(model, sequences, logit_bytes) + WIDE_BYTES * model.hidden * tokens
    return np.maximum(forward_bytes(model, tokens, tp), after)


def graph_bytes(layers: float) -> float:
    """CUDA graphs of the default batch sizes for so many layers of one GPU."""
    return GRAPH_LAYER_BYTES * layers


def link_bytes(gpus: int) -> float:
    """Communication buffers of one GPU in a group."""
    return NCCL_BYTES if gpus > 1 else 0.0


def fixed_bytes(layers: float, gpus: int, graphs: bool = True) -> float:
    """What does not depend on the load: libraries, CUDA graphs and communication buffers."""
    return LIBRARY_BYTES + link_bytes(gpus) + (graph_bytes(layers) if graphs else 0.0)


def usable_ratio(engine: str, version: tuple[int, ...] = ()) -> float:
    """Share of a GPU that vLLM takes by default; no version means today's."""
    old = engine == "vllm" and version and version < (0, 22)
    return VLLM_RATIO if old else VLLM_RATIO_SINCE_22


def counts_graphs(version: tuple[int, ...] = ()) -> bool:
    """Whether vLLM sizes its KV cache with CUDA graphs counted in; no version means today's."""
    return not version or version >= (0, 21)


def sglang_reserve_bytes(hbm_bytes: float, step_tokens: float, graph_batch: float, gpus: int) -> float:
    """What SGLang leaves free for activations, graphs and all else."""
    mb = SGLANG_MB
    reserve = mb["fixed"] + mb["token"] * max(step_tokens, 2048) + mb["batch"] * graph_batch + mb["gpu"] * gpus
    if hbm_bytes > SGLANG_LARGE_MB * MIB:
        reserve = max(reserve, SGLANG_LARGE_RESERVE_MB)
    return reserve * MIB


def _layer_elements(model: Model, block: Block, tp: int) -> float:
    """Elements that one token keeps in a layer while it is computed.

    A fused kernel of routed experts has two buffers over tokens x experts per token: the first product (or the output,
    whichever is wider), and what is made of it.
    """
    elements = HIDDEN_COPIES * model.hidden
    if block.ffn is None:
        return elements
    dense = block.ffn.shared_inner if block.ffn.experts else block.ffn.inner
    elements += INNER_COPIES / 3 * block.ffn.matrices * dense / tp
    if block.ffn.experts:
        inner = block.ffn.inner / tp
        wide, narrow = max((block.ffn.matrices - 1) * inner, model.hidden), max(inner, model.hidden)
        elements += block.ffn.experts_per_token * (wide + narrow)
    return elements
