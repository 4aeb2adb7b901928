"""Which kernels the sweep times: matrix products, attention and elementwise operations, drawn by seed, with no GPU."""

import math
import random
from dataclasses import dataclass

# Bytes of one element of the inputs; a product of fp8 inputs is written in bf16.
INPUT_BYTES = {"bf16": 2, "fp16": 2, "tf32": 4, "fp32": 4, "fp8": 1}
# FLOPs of the largest product in each dtype: a few milliseconds on the fastest GPU of today.
MOST_FLOPS = {"bf16": 6e12, "fp16": 6e12, "tf32": 3e12, "fp32": 3e11, "fp8": 1e13}
MOST_INPUTS = 2**29  # elements of m x k, and of the output m x n
MOST_WEIGHTS = 2**29  # elements of n x k
GRAIN = 16  # n and k are multiples of it: what fp8 products demand, and every serving engine has
SEED = 14
# (outputs n, inputs k) of weight matrices of published models, whole and as tensor parallelism cuts them: Llama-3.1
# 8B (first four), 70B, Qwen3 8B and 32B, Mistral Small 24B, Gemma 3 27B, and two heads.
LLM_WEIGHTS = (
    *((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)),
    *((10240, 8192), (8192, 8192), (57344, 8192), (8192, 28672)),
    *((2560, 8192), (8192, 2048), (14336, 8192), (8192, 7168)),
    *((24576, 4096), (4096, 12288), (51200, 5120), (5120, 25600), (10240, 5120), (5120, 8192)),
    *((65536, 5120), (5120, 32768), (43008, 5376), (5376, 21504), (3072, 4096), (4096, 2048), (14336, 4096)),
    *((4096, 7168), (128256, 4096), (151936, 5120)),
)


@dataclass(frozen=True, slots=True, order=True)
class Product:
    """Outputs (m x n) = inputs (m x k) times weights (n x k) transposed, as a linear layer does it."""

    m: int
    n: int
    k: int
    dtype: str

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.m * self.n * self.k

    @property
    def fits(self) -> bool:
        """Whether it is small enough for the sweep."""
        sizes = self.m * self.k <= MOST_INPUTS and self.m * self.n <= MOST_INPUTS and self.n * self.k <= MOST_WEIGHTS
        return sizes and self.flops <= MOST_FLOPS[self.dtype]


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """An operation of a Llama-3.1-8B layer that is no matrix product.

    `batch` sequences of `new` tokens each; `context` cached tokens before them. Operations that see tokens only
    have batch 1 and context 0.
    """

    op: str
    batch: int
    new: int
    context: int = 0


Case = Product | Layer
TOKEN_OPS = ("norm", "residual", "rope", "keep", "gate")
# The layer stack and its grid: prompts (batch, tokens) and decoding (batch, context).
LAYERS = 32
STACK = (
    *(Layer("prompt", 1, new) for new in (96, 300, 700, 1500, 3000, 6000, 10000)),
    *(Layer("prompt", b, s) for b, s in ((4, 128), (4, 512), (3, 3000), (8, 1024), (16, 256), (24, 600))),
    *(Layer("decode", 1, 1, context) for context in (256, 2000, 16384)),
    *(Layer("decode", 4, 1, context) for context in (512, 6000)),
    *(Layer("decode", 16, 1, context) for context in (256, 1500, 8192)),
    *(Layer("decode", b, 1, c) for b, c in ((24, 1000), (32, 512), (32, 4096), (64, 300), (64, 2048), (64, 6000))),
    *(Layer("decode", b, 1, c) for b, c in ((128, 256), (128, 1024), (128, 3000), (200, 1000), (256, 1500))),
)


def _log_uniform(draw: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** draw.random())


def _rows(draw: random.Random) -> int:
    """m: half of them any number, half powers of two and halves between, as engines pad batches."""
    m = _log_uniform(draw, 1, 24576)
    if draw.random() < 0.5:
        return round(m)
    power = 2 ** int(draw.random() * 15)
    return int(power * draw.choice((1, 1, 1.5))) or 1


def _width(draw: random.Random) -> int:
    """n or k: a multiple of 16, more often of 128."""
    grain = draw.choice((GRAIN, 64, 128, 128, 256))
    return max(grain, round(_log_uniform(draw, 64, 40000) / grain) * grain)


def products(count: int, seed: int = SEED) -> list[Product]:
    """Distinct products: half of any shape, half with the weights of published models."""
    draw = random.Random(seed)
    found: dict[Product, None] = {}
    while len(found) < count:
        dtype = draw.choices(tuple(INPUT_BYTES), (8, 2, 2, 2, 6))[0]
        if draw.random() < 0.5:
            n, k = _width(draw), _width(draw)
        else:
            # Llama-3.1-8B's four more often: a layer stack of that model is predicted from this sweep.
            n, k = LLM_WEIGHTS[draw.randrange(4)] if draw.random() < 0.25 else draw.choice(LLM_WEIGHTS)
        one = Product(_rows(draw), n, k, dtype)
        if one.fits:
            found[one] = None
            if draw.random() < 0.15:  # the same shape in another dtype too
                other = Product(one.m, n, k, draw.choice([name for name in INPUT_BYTES if name != dtype]))
                if other.fits:
                    found[other] = None
    return list(found)[:count]


def power_products(count: int, seed: int = SEED) -> list[Product]:
    """Products to draw power at: as many from each stretch of (log) FLOPs, from launch-bound to the largest."""
    stretches: list[list[Product]] = [[] for _ in range(10)]
    for one in products(20 * count, seed + 1):
        half_decade = int(2 * (math.log10(one.flops) - 8))
        stretches[max(0, min(9, half_decade))].append(one)
    picked: list[Product] = []
    for at in range(max(map(len, stretches))):
        picked += [stretch[at] for stretch in stretches if at < len(stretch)]
    return picked[:count]


def layers() -> list[Layer]:
    """Attention over batch x length, prompts and decoding, and elementwise operations over tokens."""
    cases = [Layer(op, 1, tokens) for op in TOKEN_OPS for tokens in _tokens()]
    for batch in (1, 2, 4, 8, 16, 32, 64):
        cases += [Layer("prompt", batch, new) for new in _steps(32, 16384) if batch * new <= 32768]
    for batch in (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256):
        cases += [Layer("decode", batch, 1, context) for context in _steps(128, 32768) if batch * context <= 2**20]
    return cases


def power_layers() -> list[Layer]:
    """A few of `layers`, to draw power at."""
    cases = [Layer(op, 1, tokens) for op in TOKEN_OPS for tokens in (16, 1024, 16384)]
    cases += [
        Layer("prompt", b, s) for b, s in ((1, 128), (16, 128), (1, 512), (8, 512), (2, 2048), (8, 2048), (2, 8192))
    ]
    decode = ((1, 1024), (1, 8192), (8, 512), (8, 4096), (32, 1024), (64, 256), (64, 4096), (128, 1024), (256, 512))
    return cases + [Layer("decode", b, 1, c) for b, c in (*decode, (256, 2048))]


def _tokens() -> list[int]:
    return sorted({int(2**e * f) for e in range(16) for f in (1, 1.5)} - {49152})


def _steps(low: int, high: int) -> list[int]:
    found = []
    while low <= high:
        found.append(low)
        low *= 2
    return found


def part(cases: list[Case], which: int, of: int) -> list[Case]:
    """Part `which` (1 to `of`) of disjoint parts that make the whole together, in an order shuffled by seed."""
    if not 1 <= which <= of:
        raise ValueError(f"part {which} of {of}, allowed: 1 to {of}")
    shuffled = sorted(set(cases), key=repr)
    random.Random(SEED).shuffle(shuffled)
    return shuffled[which - 1 :: of]
