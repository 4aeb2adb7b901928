"""Profiles a decoder's forward pass at several batch sizes: the traces that `muster detect boundness` reads.

    python -m workloads.launch_traces --out traces --batches 1 2 4 8 16 32 64

Eager PyTorch, so that each kernel is launched by the host; one trace file a batch size, with the events that matter
(operators, launches, kernels) and nothing of the machine.
"""

import argparse
import gzip
import json
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

KEPT = ("cpu_op", "cuda_runtime", "cuda_driver", "kernel", "gpu_memcpy", "gpu_memset")


class Layer(nn.Module):  # type: ignore[misc]
    """A decoder layer: attention and a gated unit, written as plain operators."""

    def __init__(self, hidden: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
        self.gate, self.up = nn.Linear(hidden, inner, bias=False), nn.Linear(hidden, inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)
        self.first, self.second = nn.RMSNorm(hidden), nn.RMSNorm(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, hidden) to the same."""
        batch, tokens, hidden = x.shape
        q, k, v = self.qkv(self.first(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, hidden))
        y = self.second(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


def trimmed(path: Path) -> dict[str, object]:
    """The events of a trace that matter, without the host's names and addresses."""
    events = json.loads(path.read_text("utf-8"))["traceEvents"]
    kept = []
    for event in events:
        if event.get("ph") == "X" and event.get("cat") in KEPT:
            small = {key: event[key] for key in ("ph", "cat", "name", "pid", "tid", "ts", "dur")}
            found = {key: event["args"][key] for key in ("correlation", "External id") if key in event.get("args", {})}
            kept.append({**small, "name": small["name"][:80], "args": found})
    return {"traceEvents": kept}


def main() -> None:
    """Write one trace a batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--layers", type=int, default=8)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    stack = nn.Sequential(*(Layer(2048, 32, 8192) for _ in range(given.layers))).to("cuda", torch.bfloat16).eval()
    with torch.no_grad():
        for batch in given.batches:
            x = torch.randn(batch, given.tokens, 2048, device="cuda", dtype=torch.bfloat16)
            for _ in range(5):
                stack(x)
            torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
                stack(x)
                torch.cuda.synchronize()
            raw = given.out / "raw.json"
            profiled.export_chrome_trace(str(raw))
            with gzip.open(given.out / f"batch-{batch:03d}.json.gz", "wt", encoding="utf-8") as file:
                json.dump(trimmed(raw), file)
            raw.unlink()


if __name__ == "__main__":
    main()
