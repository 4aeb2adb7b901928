"""What two phases get of a GPU whose SMs are divided between them, and how to divide them.

Nexus (arXiv 2507.06608): a phase takes the sum over its ops of max(T_compute, T_memory). T_compute falls as 1 over the
share of SMs up to a saturation point and slowly after it; the memory bandwidth goes to both by what they ask for,
attention and dense part of a prefill apart. The curves are our own measurements of an H200, made with
`workloads/sm_partition.py`: green contexts of 8 to 124 SMs, one kernel on each side, PyTorch 2.11.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.cost import Cost, Figure, Phase
from planner.hardware import GPUType
from planner.roofline import BARE, resources_s

Array = NDArray[np.float64]
# How much slower than on a whole GPU each phase may become (Nexus): prefill while decoding comes first, and vice versa.
PREFILL_SLOWDOWN, DECODE_SLOWDOWN = 1.3, 1.1
SHARES = np.arange(0.1, 0.91, 0.1)  # of the SMs, that prefill may have


class Curve(NamedTuple):
    """Speed on a share r of the SMs, over that on all: min(early x r, 1 - late x (1 - r))."""

    early: float
    late: float

    def speed(self, share: Figure) -> Figure:
        """Between 0 and 1."""
        return np.minimum(self.early * share, 1 - self.late * (1 - share))

    @property
    def saturation(self) -> float:
        """Nexus' R_sat: the share above which more SMs gain little."""
        return (1 - self.late) / (self.early - self.late)


# The other SMs idle. Products and prompt attention (40 points, 3.4 % off on average): a part of the GPU runs at a
# higher clock than all of it, which its power limit holds down. Decode attention (20 points, 4.4 %); weights of few
# rows and copies (40 points, 8.8 %).
ALONE = {"compute": Curve(1.26, 0.82), "kv": Curve(1.30, 0.80), "other": Curve(2.62, 0.22)}
# The other SMs busy with the other phase (17, 10 and 10 points; 9.4, 5.1 and 7.1 % off): the clock is down for both.
BESIDE = {"compute": Curve(1.0, 1.0), "kv": Curve(1.0, 1.0), "other": Curve(1.98, 0.50)}


class Loads(NamedTuple):
    """Ops of a phase as seconds on a whole GPU, one row an op: arithmetic, cache read, other memory traffic, links."""

    compute_s: Array
    kv_s: Array
    other_s: Array
    link_s: Array
    is_attention: Array

    def total_s(self, curves: dict[str, Curve], share: Figure, hbm_ratio: Figure = 1.0) -> Array:
        """Seconds on a share of the SMs and of the bandwidth."""
        compute_s = self.compute_s / curves["compute"].speed(share)
        hbm_s = self.kv_s / curves["kv"].speed(share) + self.other_s / curves["other"].speed(share)
        hbm_s = np.maximum(hbm_s, (self.kv_s + self.other_s) / hbm_ratio)
        found: Array = np.maximum(np.maximum(compute_s, hbm_s), self.link_s).sum(axis=0)
        return found

    def asked(self, share: float) -> Array:
        """The share of the memory bandwidth that the phase would draw if it had it for itself."""
        asked_s, took_s = (self.kv_s + self.other_s).sum(axis=0), self.total_s(BESIDE, share)
        found: Array = np.minimum(asked_s / np.maximum(took_s, 1e-12), 1.0)
        return found

    def part(self, attention: bool) -> "Loads":
        """Only attention, or all but it."""
        wanted = self.is_attention if attention else 1 - self.is_attention
        compute_s, kv_s, other_s, link_s = (figure * wanted for figure in self[:4])
        return Loads(compute_s, kv_s, other_s, link_s, self.is_attention)


def divided(cost: Cost, gpu: GPUType, replica_s: Callable[[Array, Array], Array]) -> Cost:
    """Prefill and decode, each with what it gets of the GPU when both run all the time.

    Nexus changes between two modes: the fastest prefill that leaves a decode step within `DECODE_SLOWDOWN` of its
    best, and the fastest decode that leaves prefill within `PREFILL_SLOWDOWN`. In steady state the division lies
    between them where the replica carries most: where `replica_s(prefill_s, decode_s)`, its seconds for one request if
    steps take so long, are least.
    """
    prefill, decode = loads(cost.phases["prefill"], gpu), loads(cost.phases["decode"], gpu)
    hbm = [_contended(prefill, decode, share) for share in SHARES]
    prefill_s = _stacked([prefill.total_s(BESIDE, r, one) for r, (one, _) in zip(SHARES, hbm, strict=True)])
    decode_s = _stacked([decode.total_s(BESIDE, 1 - r, two) for r, (_, two) in zip(SHARES, hbm, strict=True)])
    prefill_s, decode_s = np.broadcast_arrays(prefill_s, decode_s)
    first = (prefill_s <= PREFILL_SLOWDOWN * prefill.total_s(ALONE, 1.0)).argmax(axis=0)
    fast = decode_s <= DECODE_SLOWDOWN * decode.total_s(ALONE, 1.0)
    last = np.where(fast.any(axis=0), len(SHARES) - 1 - fast[::-1].argmax(axis=0), 0)
    first = np.where(first == 0, len(SHARES) - 1, first)  # even the largest share is too slow
    at = np.arange(len(SHARES)).reshape(-1, *(1,) * first.ndim)
    between = (at >= np.minimum(first, last)) & (at <= np.maximum(first, last))
    best = np.where(between, replica_s(prefill_s, decode_s), np.inf).argmin(axis=0)
    share = SHARES[best]
    granted = [np.take_along_axis(_stacked(side), best[None], axis=0)[0] for side in zip(*hbm, strict=True)]
    phases = {
        **cost.phases,
        "prefill": _narrowed(cost.phases["prefill"], prefill, share, granted[0]),
        "decode": _narrowed(cost.phases["decode"], decode, 1 - share, granted[1]),
    }
    return replace(cost, phases=phases)


def loads(phase: Phase, gpu: GPUType) -> Loads:
    """The ops of a phase in seconds of kernels alone."""
    rows: list[tuple[Figure, ...]] = []
    for op in phase.ops:
        needs = resources_s(op, gpu, BARE)
        kv = resources_s(replace(op, traffic={at: x for at, x in op.traffic.items() if at.item == "kv"}), gpu, BARE)
        kv_s, links = kv.get("hbm", 0.0), [s for place, s in needs.items() if place not in ("compute", "hbm")]
        link_s: Figure = 0.0
        for one_s in links:
            link_s = np.maximum(link_s, one_s)
        rows.append((needs["compute"], kv_s, needs.get("hbm", 0.0) - kv_s, link_s, float(op.name == "attention")))
    shape = np.broadcast_shapes(*(np.shape(figure) for row in rows for figure in row))
    columns = [np.stack([np.broadcast_to(row[i], shape) for row in rows]) for i in range(5)]
    return Loads(*columns)


def _contended(prefill: Loads, decode: Loads, share: float) -> tuple[Array, Array]:
    """What each gets of the memory bandwidth: by demand where both ask for more than there is.

    B_d = B [P_a m_d / (m_d + m_attention) + (1 - P_a) m_d / (m_d + m_dense)], P_a = share of a prefill's time in
    attention (Nexus); who asks for less than that leaves the rest.
    """
    mine = decode.asked(1 - share)
    attention, dense = prefill.part(True), prefill.part(False)
    spent = [part.total_s(BESIDE, share) for part in (attention, dense)]
    in_attention = spent[0] / np.maximum(spent[0] + spent[1], 1e-12)
    both = [part.asked(share) for part in (attention, dense)]
    one = in_attention * _granted(both[0], mine) + (1 - in_attention) * _granted(both[1], mine)
    two = in_attention * _granted(mine, both[0]) + (1 - in_attention) * _granted(mine, both[1])
    return one, two


def _granted(mine: Array, other: Array) -> Array:
    found: Array = np.maximum(mine / np.maximum(mine + other, 1e-12), 1 - other)
    return np.clip(found, 0.05, 1.0)


def _narrowed(phase: Phase, load: Loads, share: Array, granted: Array) -> Phase:
    whole_s = load.kv_s + load.other_s
    slower_s = load.kv_s / BESIDE["kv"].speed(share) + load.other_s / BESIDE["other"].speed(share)
    hbm_ratio = whole_s.sum(axis=0) / np.maximum(np.maximum(slower_s, whole_s / granted).sum(axis=0), 1e-12)
    return replace(phase, compute_ratio=BESIDE["compute"].speed(share), hbm_ratio=np.maximum(hbm_ratio, 1e-6))


def _stacked(rows: Sequence[Array]) -> Array:
    return np.stack(np.broadcast_arrays(*rows))
