"""Demand before hardware: what a way of running a model asks for, whatever GPU it lands on.

A `Cost` holds phases (prefill, decode), a phase holds ops, an op holds flops on one engine and traffic by (item,
place). Resources within an op overlap, ops of a phase follow one another. A technique changes a Cost through the verbs
below, each of which returns a new one; nothing here knows a second or a watt (`planner.roofline`, `planner.power` do).

Every figure is per GPU and may be an array: one Cost can carry a whole grid of (request size, batch) at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.architecture import Shard
from planner.hardware import GPUType
from planner.model import Block, Model

Figure = float | NDArray[np.float64]
NO_PRODUCTS = ("attention", "head")  # they compute, but not as one of the layers' matrix products


class At(NamedTuple):
    """Something held or moved, and where: `At("weights", "hbm")`, `At("activations", "scale_up")`.

    Places that carry bytes: hbm, scale_up, pcie, network. Counts of things that cost time each are items too:
    `At("layers", "host")`, `At("hops", "scale_up")`.
    """

    item: str
    place: str


class Degrees(NamedTuple):
    """How many GPUs share what: tensors, layers, experts, sequences, and one sequence's cache (see `Case`)."""

    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1
    cp: int = 1


ONE_GPU = Degrees()


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One point to cost, or a grid of points (the figures broadcast): a model on `tp` x `pp` x `dp` GPUs of a type.

    `batch` sequences decode together; `prompts` prompts of `input_tokens` are prefilled in one step; both count all
    `dp` ranks. `ep`: over how many GPUs whole experts are spread. `cp` of the `tp` GPUs share a sequence's cache.
    `prefix_hit_ratio`: the share of prompt tokens that a cache of prefixes would have.
    """

    model: Model
    gpu: GPUType
    batch: Figure = 1.0
    input_tokens: Figure = 1024.0
    output_tokens: Figure = 128.0
    prompts: Figure = 1.0
    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1
    cp: int = 1
    prefix_hit_ratio: float = 0.0

    @property
    def degrees(self) -> "Degrees":
        """How many ways what is split."""
        return Degrees(self.tp, self.pp, self.ep, self.dp, self.cp)

    def sequences(self, phase: str) -> Figure:
        """Sequences that advance in one step of "prefill" or "decode", on all ranks together."""
        return self.prompts if phase == "prefill" else self.batch

    def rank_share(self, phase: str) -> Figure:
        """The share of a step's sequences that the busiest of `dp` ranks has: at least one whole one."""
        return 1.0 if self.dp == 1 else np.maximum(1 / self.dp, 1 / np.maximum(self.sequences(phase), 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One kernel, or equal kernels of equal layers: `flops` on `engine` (a dtype) while `traffic` moves.

    `shard`: what the GPUs of a replica split it by ("none" = each does all of it); `block`: the layers it belongs to.
    """

    name: str
    flops: Figure = 0.0
    engine: str = "bf16"
    traffic: Mapping[At, Figure] = field(default_factory=dict)
    shard: Shard = "none"
    block: Block | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """One engine step: its ops, what must stay resident meanwhile, and the `tokens` by which it makes progress.

    `rides`: the phase whose steps this one shares; it then costs its own ops on top and waits for the other's.
    `beside`: the phase whose steps run at the same time on the same GPUs. `compute_ratio`, `hbm_ratio`: what this one
    then has of the GPU's arithmetic and of its memory bandwidth.
    """

    ops: tuple[Op, ...]
    resident: Mapping[At, Figure]
    tokens: Figure
    rides: str | None = None
    beside: str | None = None
    compute_ratio: Figure = 1.0
    hbm_ratio: Figure = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """Phases by name; `pools` says which of them share GPUs, `kv_ratio` what the cache's elements take of 16 bits."""

    phases: Mapping[str, Phase]
    pools: tuple[tuple[str, ...], ...]
    kv_ratio: float = 1.0

    def scale(self, item: str, factor: Figure, *phases: str) -> "Cost":
        """`item` takes `factor` as many bytes wherever it is held or moved."""
        cost = self.hold(item, factor, *phases)
        return cost.map_ops(lambda op: replace(op, traffic=_scaled(op.traffic, item, factor)), *phases)

    def hold(self, item: str, factor: Figure, *phases: str) -> "Cost":
        """`item` takes `factor` as many bytes where it is held; what is moved stays."""
        return self._each(lambda p: replace(p, resident=_scaled(p.resident, item, factor)), *phases)

    def move(self, item: str, share: Figure, held: str, via: str) -> "Cost":
        """A `share` of `item` leaves HBM: it is held at `held`, and each read of that share goes through `via`."""
        cost = self._each(lambda p: replace(p, resident=_split(p.resident, item, share, held)))
        return cost.map_ops(lambda op: replace(op, traffic=_split(op.traffic, item, share, via)))

    def add(self, phase: str, *ops: Op) -> "Cost":
        """More ops at the end of a phase."""
        return self._each(lambda p: replace(p, ops=p.ops + ops), phase)

    def map_ops(self, change: Callable[[Op], Op], *phases: str) -> "Cost":
        """Every op of the phases (all, if none is named) through `change`."""
        return self._each(lambda p: replace(p, ops=tuple(change(op) for op in p.ops)), *phases)

    def fuse(self, phase: str, first: str, second: str, share: Figure = 1.0) -> "Cost":
        """A `share` of an op moves into another op of each group of layers, so that their demands overlap there.

        Pairs are taken in order, the last to the last: layers of fewer kinds of ops than others are left alone. Raises
        ValueError where the phase has no such pair.
        """

        def fused(p: Phase) -> Phase:
            ones, twos = ([op for op in p.ops if op.name == name] for name in (first, second))
            pairs = list(zip(reversed(ones), reversed(twos), strict=False))
            if not pairs:
                raise ValueError(f"cannot fuse {len(ones)} ops {first!r} with {len(twos)} ops {second!r}")
            both = {id(one): _both(one, _times(two, share)) for one, two in pairs}
            gone = {id(two): None if np.all(share == 1) else _times(two, 1 - share) for _, two in pairs}
            ops = (gone.get(id(op), both.get(id(op), op)) for op in p.ops)
            return replace(p, ops=tuple(op for op in ops if op is not None))

        return self._each(fused, phase)

    def beneath(self, phase: str, name: str, share: Figure = 1.0) -> "Cost":
        """A `share` of what the ops called `name` move runs at the same time as the phase's matrix products.

        It is spread over them by their flops, so that each hides as much of it as it has time for. Nothing is moved
        where there is no such op or no product.
        """

        def hidden(p: Phase) -> Phase:
            products = [op for op in p.ops if op.name not in NO_PRODUCTS and np.any(op.flops)]
            total = sum((op.flops for op in products), 0.0)
            moved: dict[At, Figure] = {}
            for op in p.ops:
                for at, amount in op.traffic.items() if op.name == name and products else ():
                    moved[at] = moved.get(at, 0.0) + amount * share
            ops = []
            for op in p.ops:
                if op.name == name and products:
                    op = replace(op, traffic={at: amount * (1 - share) for at, amount in op.traffic.items()})
                elif moved and any(op is product for product in products):
                    op = _both(op, Op(op.name, traffic={at: x * op.flops / total for at, x in moved.items()}))
                ops.append(op)
            return replace(p, ops=tuple(ops))

        return self._each(hidden, phase)

    def part(self, phase: str, name: str, *ops: str) -> "Cost":
        """The named ops of a phase become a phase of their own, which makes the same progress and holds nothing yet."""
        whole = self.phases[phase]
        mine = tuple(op for op in whole.ops if op.name in ops)
        left = replace(whole, ops=tuple(op for op in whole.ops if op.name not in ops))
        return replace(self, phases={**self.phases, phase: left, name: Phase(mine, {}, whole.tokens)})

    def change(self, phase: str, change: Callable[[Phase], Phase]) -> "Cost":
        """One phase through `change`."""
        return self._each(change, phase)

    def times(self, phase: str, factor: Figure) -> "Cost":
        """A step of the phase does `factor` as much: its work and its progress; what is resident stays."""
        return self._each(
            lambda p: replace(p, ops=tuple(_times(op, factor) for op in p.ops), tokens=p.tokens * factor), phase
        )

    def keep(self, *phases: str) -> "Cost":
        """Only these phases, on the same pools as before."""
        pools = tuple(kept for pool in self.pools if (kept := tuple(name for name in pool if name in phases)))
        return Cost({name: p for name, p in self.phases.items() if name in phases}, pools, self.kv_ratio)

    def resident(self, pool: tuple[str, ...], place: str = "hbm") -> Mapping[str, Figure]:
        """Bytes by item that one GPU of a pool holds at `place`: phases on the same GPUs share what they hold."""
        held: dict[str, Figure] = {}
        for name in pool:
            for at, amount in self.phases[name].resident.items():
                if at.place == place:
                    held[at.item] = np.maximum(held[at.item], amount) if at.item in held else amount
        return held

    def _each(self, change: Callable[[Phase], Phase], *phases: str) -> "Cost":
        names = phases or tuple(self.phases)
        return replace(self, phases={name: change(p) if name in names else p for name, p in self.phases.items()})


def _times(op: Op, factor: Figure) -> Op:
    return replace(op, flops=op.flops * factor, traffic={at: x * factor for at, x in op.traffic.items()})


def _both(one: Op, two: Op) -> Op:
    """One op that does the work of two, on the engine of the first that computes."""
    traffic = dict(one.traffic)
    for at, amount in two.traffic.items():
        traffic[at] = traffic.get(at, 0.0) + amount
    engine = one.engine if np.any(one.flops) else two.engine
    name = one.name if one.name == two.name else f"{one.name}+{two.name}"
    return replace(one, name=name, flops=one.flops + two.flops, engine=engine, traffic=dict(sorted(traffic.items())))


def _scaled(amounts: Mapping[At, Figure], item: str, factor: Figure) -> Mapping[At, Figure]:
    return {at: x * factor if at.item == item else x for at, x in amounts.items()}


def _split(amounts: Mapping[At, Figure], item: str, share: Figure, place: str) -> Mapping[At, Figure]:
    here, there = At(item, "hbm"), At(item, place)
    if here not in amounts:
        return amounts
    moved = amounts[here] * share
    return {**amounts, here: amounts[here] - moved, there: amounts.get(there, 0.0) + moved}
