"""A stack of decoder layers with Llama-3.1-8B's shapes and random weights, timed and its power read on this GPU.

    python -m workloads.layer_stack --predicted FILE.json --out FILE.jsonl

Prints the SHA-256 of the file of predictions before anything is measured, and writes it into the result's head. Plain
torch under CUDA graphs: no embedding, no head, no sampling. Time and power are means of a second of steady replays.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from workloads.cases import LAYERS, STACK, Layer
from workloads.gemm_sweep import SETTLE_S, WINDOW_S, say, write
from workloads.meter import Meter
from workloads.operations import (
    ALL_HEADS,
    FFN,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    decode_attention,
    gate,
    keep,
    noise,
    norm,
    prompt_attention,
    residual,
    rope,
)
from workloads.replay import burst, capture, sustained

WIDTHS = {
    "qkv": (ALL_HEADS * HEAD_DIM, HIDDEN),
    "out": (HIDDEN, HIDDEN),
    "up": (2 * FFN, HIDDEN),
    "down": (HIDDEN, FFN),
}


class Stack:
    """Weights of all layers, scaled so that the hidden state keeps its size."""

    def __init__(self, layers: int = LAYERS) -> None:
        self.weights = [
            {name: noise(n * k, torch.bfloat16, 0.5 / k**0.5).view(n, k).t() for name, (n, k) in WIDTHS.items()}
            for _ in range(layers)
        ]
        self.scale = torch.ones(HIDDEN, dtype=torch.bfloat16, device="cuda")

    def step(self, case: Layer) -> Callable[[int], object]:
        """`run(i)`: all layers over a prompt, or over one new token of each sequence."""
        decode = case.op == "decode"
        length = case.context if decode else case.new
        shape = (len(self.weights), 2, case.batch, KV_HEADS, length, HEAD_DIM)
        caches = noise(torch.Size(shape).numel(), torch.bfloat16).view(shape)
        x = noise(case.batch * case.new * HIDDEN, torch.bfloat16).view(-1, HIDDEN)
        angles = torch.randn(case.new, 1, HEAD_DIM // 2, device="cuda")
        cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()

        def run(_: int) -> Tensor:
            hidden = x
            for weights, cache in zip(self.weights, caches, strict=True):
                heads = (norm(hidden, self.scale) @ weights["qkv"]).view(case.batch, case.new, ALL_HEADS, HEAD_DIM)
                turned = rope(heads[:, :, : HEADS + KV_HEADS], cos, sin).transpose(1, 2)
                q, k = turned.split((HEADS, KV_HEADS), dim=1)
                v = heads[:, :, HEADS + KV_HEADS :].transpose(1, 2)
                keep(cache[0], cache[1], k, v, length - case.new)
                seen = decode_attention(q, cache[0], cache[1]) if decode else prompt_attention(q, k, v)
                hidden = residual(hidden, seen @ weights["out"])
                hidden = residual(hidden, gate(norm(hidden, self.scale) @ weights["up"]) @ weights["down"])
            return hidden

        return run


def main() -> None:
    """Measure the grid, one JSON row a case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--predicted", type=Path, required=True, help="predictions, made before")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    began = time.monotonic()
    predicted = hashlib.sha256(asked.predicted.read_bytes()).hexdigest()
    say(f"predictions made before, SHA-256 {predicted}")
    with Meter() as meter, torch.cuda.stream(torch.cuda.Stream()), asked.out.open("w", encoding="utf-8") as out:
        head = {"kind": "head", **meter.describe(), "torch": torch.__version__, "predicted_sha256": predicted}
        write(out, head)
        stack = Stack()
        for case in STACK:
            if time.monotonic() - began > asked.seconds:
                say("out of time")
                break
            run = stack.step(case)  # holds the caches that the graph reads
            graph = capture(run, 1)
            short = burst(graph, 1, meter, replays=3)
            row = asdict(sustained(graph, 1, short.time_s, meter, SETTLE_S, WINDOW_S))
            row = {"kind": "stack", **asdict(case), "burst_s": short.time_s, **row.pop("reading"), **row}
            write(out, row)
            say(json.dumps(row))
            del graph, run
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
