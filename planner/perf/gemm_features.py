"""What a matrix product asks of a GPU, as counts and as features that a forest reads: no figure here is fitted.

Features follow "Understanding GEMM Performance and Energy on NVIDIA Ada Lovelace" (matrix sizes, tiles, occupancy). The
library picks its tile unseen, so that tiles counted are those that its kernels come in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.hardware import GPUType

Array = NDArray[np.float64]
# Bytes of one element that is read, and of one that is written (a product of fp8 inputs is written in bf16).
READ_BYTES: Mapping[str, float] = {"bf16": 2.0, "fp16": 2.0, "tf32": 4.0, "fp32": 4.0, "fp8": 1.0}
WRITTEN_BYTES: Mapping[str, float] = {**READ_BYTES, "fp8": 2.0}
DTYPES = tuple(READ_BYTES)
TILES = ((64, 64), (64, 128), (128, 128), (128, 256), (256, 128))
LAUNCH_S = 2e-6  # about what the smallest kernel of a CUDA graph takes: keeps the roofline off zero
# Activations smaller than this are still in the L2 cache from the kernel before; half of an H200's 50 to 60 MB.
CACHED_BYTES = 25e6


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """Outputs (m x n) = inputs (m x k) times weights (k x n), many at once; `multiprocessors` of the GPU."""

    m: Array
    n: Array
    k: Array
    dtype: NDArray[np.str_]
    peak_flops_per_s: Array
    hbm_bytes_per_s: float
    multiprocessors: int

    def _each(self, by_dtype: Mapping[str, float]) -> Array:
        return np.array([by_dtype[name] for name in self.dtype], dtype=float)

    @property
    def flops(self) -> Array:
        """Multiplications and additions."""
        return 2.0 * self.m * self.n * self.k

    @property
    def moved_bytes(self) -> tuple[Array, Array, Array]:
        """Bytes of the weights, the inputs and the outputs, each once."""
        read, written = self._each(READ_BYTES), self._each(WRITTEN_BYTES)
        return self.n * self.k * read, self.m * self.k * read, self.m * self.n * written

    @property
    def hbm_bytes(self) -> Array:
        """Bytes through HBM where weights are cold and small activations warm."""
        weights, inputs, outputs = self.moved_bytes
        return weights + inputs * (inputs > CACHED_BYTES) + outputs * (outputs > CACHED_BYTES)

    @property
    def cache_bytes(self) -> Array:
        """Bytes from L2 to the multiprocessors in tiles of 128 x 256: each tile reads its rows and its columns."""
        down, across = np.ceil(self.m / 128), np.ceil(self.n / 256)
        return self._each(READ_BYTES) * self.k * (down * self.n + across * self.m)

    @property
    def roof_s(self) -> Array:
        """Seconds at the datasheet's peaks, the longer of arithmetic and HBM, and one launch."""
        return np.maximum(self.flops / self.peak_flops_per_s, sum(self.moved_bytes) / self.hbm_bytes_per_s) + LAUNCH_S


def products(
    gpu: GPUType, multiprocessors: int, m: NDArray[Any], n: NDArray[Any], k: NDArray[Any], dtype: NDArray[Any]
) -> Products:
    """The products of these sizes on a GPU of the catalogue; raises MissingFigure for a dtype it has no peak of."""
    peaks = {name: gpu.flops(name) for name in set(dtype.tolist())}
    peak = np.array([peaks[name] for name in dtype.tolist()])
    m, n, k = (np.asarray(x, dtype=float) for x in (m, n, k))
    return Products(m, n, k, dtype.astype(np.str_), peak, gpu.hbm_bytes_per_s, multiprocessors)


def features(p: Products) -> Array:
    """One row a product: sizes, roofline, and for every tile how many, how full the last wave, how much is padding."""
    weights, inputs, outputs = p.moved_bytes
    moved = weights + inputs + outputs
    arithmetic_s, hbm_s = p.flops / p.peak_flops_per_s, moved / p.hbm_bytes_per_s
    columns = [p.m, p.n, p.k, arithmetic_s, hbm_s, p.flops / moved, p.roof_s, weights, inputs, outputs]
    columns = [np.log2(column) for column in columns]
    for rows, across in TILES:
        tiles = np.ceil(p.m / rows) * np.ceil(p.n / across)
        waves = np.ceil(tiles / p.multiprocessors)
        columns += [np.log2(tiles), tiles / p.multiprocessors / waves, waves, p.m * p.n / (tiles * rows * across)]
    columns += [_grain(p.m), _grain(p.n), _grain(p.k), p.peak_flops_per_s / 1e12]
    columns += [(p.dtype == name).astype(float) for name in DTYPES]
    return np.stack(columns, axis=1)


def _grain(size: Array) -> Array:
    """How often 2 divides a size, up to 256: kernels differ by alignment."""
    return np.asarray(np.stack([size % 2**power == 0 for power in range(3, 9)]).sum(axis=0, dtype=float))
