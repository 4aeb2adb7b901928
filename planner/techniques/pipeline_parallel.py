"""Pipeline parallelism: each GPU, or group of them, holds some of the layers and hands activations to the next.

Huang et al., "GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism", arXiv 1811.06965. A case
is then one of `ways` micro-batches in flight, followed through all stages: its ops stay, and what is resident is one
stage's share for all of them (a stage holds 1/n of the layers' cache for each of n micro-batches).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from planner.base import ACTIVATION_BYTES, HBM_EMBEDDINGS, HBM_WEIGHTS, HBM_WORKSPACE, held_fixed, link, tables
from planner.cost import At, Case, Cost, Op
from planner.technique import Parallelism


@dataclass(frozen=True)
class PipelineParallel(Parallelism):
    """Layers over `ways` stages."""

    degree: ClassVar[Literal["pp"]] = "pp"

    def objection(self, case: Case) -> str | None:
        """At least a layer each."""
        layers = sum(block.count for block in case.model.blocks)
        return f"{case.model.name} has {layers} layers for {self.ways} stages" if layers < self.ways else None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """A stage's share of the weights, and what is handed over; first and last stage hold one table each."""
        shares = {HBM_WEIGHTS: 1 / self.ways, HBM_EMBEDDINGS: 1 / tables(case.model)}
        phases = {}
        for name, phase in cost.phases.items():
            message_bytes = phase.tokens * case.rank_share(name) * case.model.hidden * ACTIVATION_BYTES
            handed_over = Op("stages", traffic={At("activations", link(case.gpu)): message_bytes * (self.ways - 1)})
            resident = {at: amount * shares.get(at, 1.0) for at, amount in phase.resident.items()}
            spared = held_fixed(case.model) - held_fixed(case.model, pp=self.ways)
            resident[HBM_WORKSPACE] = resident[HBM_WORKSPACE] - spared
            phases[name] = replace(phase, ops=(*phase.ops, handed_over), resident=resident)
        return replace(cost, phases=phases)

    def flags(self, engine: str) -> Mapping[str, str]:
        """The same flag for both engines."""
        return {"pipeline-parallel-size": str(self.ways)}


TECHNIQUE = PipelineParallel
