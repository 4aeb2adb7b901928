"""Bytes of a GPU that only a device can tell: contexts, libraries, peaks of a forward pass and a sampler, graphs, NCCL.

No serving engine: PyTorch alone, buffers as a serving engine's runner allocates them, shapes of Llama-3.1-8B. Peaks are
those of PyTorch's allocator; what it does not see is the driver's figure less what the allocator has reserved.

    python -m workloads.memory_probe > probe.json
    torchrun --nproc-per-node 2 -m workloads.memory_probe > probe.json
"""

import json
import os
import sys
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.distributed

HIDDEN, INNER, LAYERS, VOCAB = 4096, 14336, 32, 128256
SEQUENCES, TOKENS = 256, (2048, 8192)
GRAPH_SIZES = (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))  # vLLM's default
Weights = tuple[torch.Tensor, ...]


def used() -> int:
    """Bytes of the device that are taken, by anyone."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def unseen() -> int:
    """Bytes taken that the allocator knows nothing of."""
    return used() - int(torch.cuda.memory_reserved())


def peak(work: Callable[[], torch.Tensor]) -> int:
    """Most bytes that the allocator gave out at once beyond what was there."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = work()
    most = torch.cuda.max_memory_allocated() - before
    del result
    return int(most)


def wide(*shape: int) -> torch.Tensor:
    """16 bits, whatever they hold."""
    return torch.empty(*shape, dtype=torch.bfloat16, device="cuda")


def layer(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    """A decoder layer without attention's own kernel, which keeps nothing; values live until the layer ends."""
    qkv, out, up, down = weights
    mixed = x @ qkv
    y = mixed[:, :HIDDEN] @ out + x
    both = y @ up
    return (torch.nn.functional.silu(both[:, :INNER]) * both[:, INNER:]) @ down + y


def forward(x: torch.Tensor, stack: list[Weights]) -> torch.Tensor:
    """All layers."""
    for weights in stack:
        x = layer(x, weights)
    return x


def masked() -> torch.Tensor:
    """A sampler that masks in place: logits, their copy in 32 bits, probabilities and noise."""
    logits = wide(SEQUENCES, VOCAB).float()
    chances = logits.softmax(-1)
    noise = torch.empty_like(chances).exponential_()
    return (chances / noise).argmax(-1)


def sorting() -> torch.Tensor:
    """A sampler that sorts the vocabulary for top-p; values live until it ends."""
    logits = wide(SEQUENCES, VOCAB).float()
    ordered, at = logits.sort(-1)
    summed = ordered.softmax(-1).cumsum(-1)
    ordered.masked_fill_(summed < 0.1, -9)
    logits = ordered.scatter(-1, at, ordered)
    chances = logits.softmax(-1)
    noise = torch.empty_like(chances).exponential_()
    return (chances / noise).argmax(-1)


def graphs(stack: list[Weights]) -> int:
    """Bytes of CUDA graphs of all sizes in one pool."""
    torch.cuda.empty_cache()
    before, kept, pool = used(), [], None
    for tokens in reversed(GRAPH_SIZES):
        x = torch.zeros(tokens, HIDDEN, dtype=torch.bfloat16, device="cuda")
        forward(x, stack)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            forward(x, stack)
        pool = graph.pool()
        kept.append(graph)
    torch.cuda.empty_cache()
    return used() - before


def nccl() -> dict[str, int]:
    """Bytes of a communicator, of its first collective, and of a second group over the same GPUs."""
    x = wide(8192 * HIDDEN)
    steps = [unseen()]
    torch.distributed.init_process_group("nccl", device_id=torch.device("cuda", torch.cuda.current_device()))
    steps.append(unseen())
    torch.distributed.all_reduce(x)
    steps.append(unseen())
    torch.distributed.all_reduce(x, group=torch.distributed.new_group(list(range(torch.distributed.get_world_size()))))
    steps.append(unseen())
    torch.distributed.destroy_process_group()
    names = ("communicator", "first_collective", "second_group")
    return dict(zip(names, (b - a for a, b in pairwise(steps)), strict=True))


def main() -> None:
    """Print what was read, as JSON; rank 0 where there are several."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    torch.cuda.set_device(rank)
    before = used()
    stack = [
        (wide(HIDDEN, 6144), wide(HIDDEN, HIDDEN), wide(HIDDEN, 2 * INNER), wide(INNER, HIDDEN)) for _ in range(LAYERS)
    ]
    found: dict[str, object] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "context": before}
    for tokens in TOKENS:
        found[f"forward_{tokens}"] = peak(lambda tokens=tokens: forward(wide(tokens, HIDDEN), stack))  # type: ignore[misc]
    found["libraries"] = unseen() - before
    found["masked_logit"], found["sorted_logit"] = (peak(one) / SEQUENCES / VOCAB for one in (masked, sorting))
    found["graphs"] = graphs(stack)
    if "RANK" in os.environ:
        found["nccl"] = nccl()
    if rank == 0:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
