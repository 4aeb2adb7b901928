"""Times kernels of prefill and decode on a part of this GPU's SMs, alone and beside each other, one JSON row a line.

    python -m workloads.sm_partition --out FILE.jsonl

Partitions are green contexts of the CUDA driver (12.4 and later), which give a stream some SMs for its own; nothing of
the GPU is changed, and all is gone when the process ends. Kernels are those that PyTorch serves with: cuBLAS products
of a Llama-3.1-8B layer, FlashAttention of a prompt and of a decode step.
"""

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import pynvml
import torch
import torch.nn.functional as F

SMS = (8, 16, 24, 32, 48, 64, 80, 96, 112, 120)
PAIRS = (
    ("prompt_product", "decode_attention"),
    ("prompt_product", "decode_product"),
    ("prompt_attention", "decode_attention"),
    ("prompt_product", "copy"),
)
PAIR_SMS = (16, 32, 64, 96, 112)
WARM_S, TIMED_S, REPEATS = 0.015, 0.04, 3
_RESOURCE_BYTES, _SM, _SM_COUNT_AT = 256, 1, 96  # a CUdevResource has 144 bytes; its smCount follows 96 of them

Run = Callable[[], object]


class Partition:
    """Two streams: one with `sms` SMs for its own, one with the rest of the GPU."""

    def __init__(self, sms: int) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        whole, one, rest = (ctypes.create_string_buffer(_RESOURCE_BYTES) for _ in range(3))
        self._call("cuDeviceGetDevResource", 0, whole, _SM)
        groups = ctypes.c_uint(1)
        self._call("cuDevSmResourceSplitByCount", one, ctypes.byref(groups), whole, rest, 0, sms)
        self.sms, self.rest_sms = (
            int.from_bytes(r.raw[_SM_COUNT_AT : _SM_COUNT_AT + 4], "little") for r in (one, rest)
        )
        self.mine, self.rest = self._stream(one), self._stream(rest)

    def _stream(self, resource: object) -> torch.cuda.Stream:
        description, context, stream = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDevResourceGenerateDesc", ctypes.byref(description), resource, 1)
        self._call("cuGreenCtxCreate", ctypes.byref(context), description, 0, 1)
        self._call("cuGreenCtxStreamCreate", ctypes.byref(stream), context, 1, 0)
        return torch.cuda.ExternalStream(stream.value)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self.cuda, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} answered {status}")


def kernels() -> Mapping[str, Run]:
    """What runs, each over data that no cache holds."""
    bf16: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    weights = [torch.randn(4096, 28672, **bf16) for _ in range(3)]
    prompt, few, some = (torch.randn(tokens, 4096, **bf16) for tokens in (2048, 16, 256))
    q = torch.randn(1, 32, 4096, 128, **bf16)
    # Four query heads that share a cache head are four rows of one query: 64 sequences, 8 heads, 4,096 tokens.
    asked = torch.randn(64, 8, 4, 128, **bf16)
    keys, values = (torch.randn(64, 8, 4096, 128, **bf16) for _ in range(2))
    flat, copied = torch.empty(2**28, **bf16), torch.empty(2**28, **bf16)
    turn = [0]

    def product(tokens: torch.Tensor) -> torch.Tensor:
        turn[0] += 1
        return tokens @ weights[turn[0] % 3]

    return {
        "prompt_product": lambda: product(prompt),
        "batch_product": lambda: product(some),
        "decode_product": lambda: product(few),
        "prompt_attention": lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True),
        "decode_attention": lambda: F.scaled_dot_product_attention(asked, keys, values),
        "copy": lambda: copied.copy_(flat),
    }


def timed_s(run: Run, stream: torch.cuda.Stream, guess_s: float, seconds: float = TIMED_S) -> float:
    """Seconds of one run on a stream, by the wall clock over many; nothing else must be running."""
    with torch.cuda.stream(stream):
        for _ in range(max(2, int(WARM_S / guess_s))):
            run()
        stream.synchronize()
        count = max(4, int(seconds / guess_s))
        start = time.perf_counter()
        for _ in range(count):
            run()
        stream.synchronize()
    return (time.perf_counter() - start) / count


def beside_s(
    run: Run, stream: torch.cuda.Stream, run_s: float, other: Run, there: torch.cuda.Stream, other_s: float
) -> float | None:
    """Seconds of one run while the other stream is kept busy all the time."""
    count = max(4, int(TIMED_S / run_s))
    for attempt in (3.0, 6.0, 12.0):
        with torch.cuda.stream(there):
            for _ in range(min(900, int(attempt * TIMED_S / other_s) + 4)):
                other()
        with torch.cuda.stream(stream):
            run()
            stream.synchronize()
            start = time.perf_counter()
            for _ in range(count):
                run()
            stream.synchronize()
        took_s = (time.perf_counter() - start) / count
        covered = not there.query()
        there.synchronize()
        if covered:
            return took_s
    return None  # the other stream ran dry each time


def clock_hz() -> float:
    """The SM clock now."""
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    return float(pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)) * 1e6


def alone(runs: Mapping[str, Run], partitions: Mapping[int, Partition], out: TextIO) -> dict[tuple[str, int], float]:
    """Every kernel on every partition and on the whole GPU."""
    found: dict[tuple[str, int], float] = {}
    whole = torch.cuda.get_device_properties(0).multi_processor_count
    streams = {whole: torch.cuda.Stream()}
    for part in partitions.values():
        streams |= {part.sms: part.mine, part.rest_sms: part.rest}
    for name, run in runs.items():
        guess_s = 1e-3
        for sms in sorted(streams, reverse=True):
            times = [timed_s(run, streams[sms], guess_s) for _ in range(REPEATS)]
            found[name, sms] = guess_s = statistics.median(times)
            write(out, kind="alone", kernel=name, sms=sms, time_s=guess_s, sm_hz=clock_hz())
    return found


def together(
    runs: Mapping[str, Run], partitions: Mapping[int, Partition], known: Mapping[tuple[str, int], float], out: TextIO
) -> None:
    """Pairs on the two parts of the GPU, and on two plain streams that share all of it."""
    whole = torch.cuda.get_device_properties(0).multi_processor_count
    plain = (torch.cuda.Stream(), torch.cuda.Stream())
    for first, second in PAIRS:
        places = [(partitions[n].sms, partitions[n].mine, partitions[n].rest_sms, partitions[n].rest) for n in PAIR_SMS]
        for sms, mine, rest_sms, rest in [*places, (whole, plain[0], whole, plain[1])]:
            one_s, two_s = known[first, sms], known[second, rest_sms]
            a = [beside_s(runs[first], mine, one_s, runs[second], rest, two_s) for _ in range(REPEATS)]
            b = [beside_s(runs[second], rest, two_s, runs[first], mine, one_s) for _ in range(REPEATS)]
            figures = {"first_s": _median(a), "second_s": _median(b)}
            write(out, kind="pair", first=first, second=second, sms=sms, rest_sms=rest_sms, **figures, sm_hz=clock_hz())


def _median(times: Sequence[float | None]) -> float | None:
    known = [time_s for time_s in times if time_s is not None]
    return statistics.median(known) if known else None


def write(out: TextIO, **row: object) -> None:
    """One row."""
    out.write(json.dumps(row) + "\n")
    out.flush()


def main() -> None:
    """Measure all and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    path = parser.parse_args().out
    pynvml.nvmlInit()
    runs = kernels()
    torch.cuda.synchronize()
    with path.open("w", encoding="utf-8") as out:
        gpu = torch.cuda.get_device_properties(0)
        write(out, kind="gpu", name=gpu.name, sms=gpu.multi_processor_count, torch=torch.__version__)
        partitions = {sms: Partition(sms) for sms in SMS}
        known = alone(runs, partitions, out)
        together(runs, partitions, known, out)


if __name__ == "__main__":
    main()
