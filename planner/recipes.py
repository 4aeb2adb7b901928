"""Every way worth trying to run one replica of a service: GPU type x degrees x techniques x power cap.

Memory, latency and the techniques' own objections are judged later (`planner.profile`); what is left out here cannot
be run at all, or is excluded by the service's owner.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain, combinations
from typing import NamedTuple

from planner.architecture import kv_elements, kv_heads, parameters
from planner.calibration import HBM_RATIO
from planner.catalog import engine_options, recovery
from planner.cost import Degrees
from planner.hardware import GPUType, Inventory
from planner.model import Model
from planner.perf.formats import WEIGHT_BYTES, known_as
from planner.plan import Recipe, Refusal
from planner.power import cap_objection, capped
from planner.service import Constraints, Engine, ServiceSpec
from planner.technique import Parallelism, Stage
from planner.techniques import techniques

DEGREES = (1, 2, 4, 8)
# Power caps to try on GPUs behind a breaker, as shares of the rated power: H100s keep nearly all of their speed in
# decode at a half, most of it in prefill at 0.7 (see planner.power).
CAP_RATIOS = (0.7, 0.5)


class Offer(NamedTuple):
    """One GPU type of an inventory: how many a node holds at most, and whether watts are scarce for some of them."""

    gpu: GPUType
    gpus_per_node: int
    metered: bool


def offers(inventory: Inventory, constraints: Constraints) -> list[Offer]:
    """The GPU types that the service may use, in the inventory's order."""
    found: dict[str, Offer] = {}
    scarce = _scarce(inventory)
    for group in inventory.node_groups:
        name = group.gpu.name
        if (constraints.gpu_types and name not in constraints.gpu_types) or name in constraints.excluded_gpu_types:
            continue
        before = found.get(name, Offer(group.gpu, 0, False))
        metered = before.metered or group.power_domain in scarce
        found[name] = Offer(before.gpu, max(before.gpus_per_node, group.gpus_per_node), metered)
    return list(found.values())


def _scarce(inventory: Inventory) -> set[str | None]:
    """Power domains whose budget is less than all their GPUs may draw: only there is a cap worth trying."""
    most_w: dict[str | None, float] = {}
    for group in inventory.node_groups:
        most_w[group.power_domain] = most_w.get(group.power_domain, 0.0) + group.gpus * group.gpu.tdp_w
    return {domain.name for domain in inventory.power_domains if domain.budget_w < most_w.get(domain.name, 0.0)}


def recipes(service: ServiceSpec, inventory: Inventory) -> tuple[list[Recipe], list[Refusal]]:
    """All recipes with `max_batch` 1, and what the quality floor or the model's shape excludes."""
    sets, refused = technique_sets(service)
    named = service.constraints.techniques or ()
    made = [
        Recipe(offer.gpu.name, **split._asdict(), techniques=names, power_cap_w=cap_w)
        for offer in offers(inventory, service.constraints)
        for split, names in _ways(service.model, offer, named, sets)
        for cap_w in caps_w(offer)
    ]
    return made, refused


def technique_sets(service: ServiceSpec) -> tuple[list[tuple[str, ...]], list[Refusal]]:
    """Names by set: at most one number format, any of the rest; sets below the quality floor are refused.

    So is what no release of the service's engine can run.
    """
    wanted = service.constraints.techniques
    free = {name: made for name, made in techniques().items() if not issubclass(made, Parallelism)}
    asked = {name: made for name, made in free.items() if (made.searched if wanted is None else name in wanted)}
    known = {name: made for name, made in asked.items() if made().flags(service.engine) is not None}
    formats = [name for name, made in known.items() if made.stage == Stage.PRECISION]
    rest = [name for name in known if name not in formats]
    sets: list[tuple[str, ...]] = []
    refused = [Refusal(service.name, name, _unswitched(service.engine, name)) for name in asked if name not in known]
    for one in [(), *((name,) for name in formats)]:
        for others in _subsets(rest):
            names = tuple(sorted(one + others))
            found = [kept for name in names if (kept := recovery(name, service.model)) is not None]
            ratio = math.prod(kept.kept_ratio for kept in found)
            if ratio >= service.quality_floor:
                sets.append(names)
                continue
            reason = f"keeps {ratio:.4f} of the 16-bit model's accuracy ({'; '.join(kept.evidence for kept in found)})"
            floor = f"the quality floor is {service.quality_floor:g}"
            refused.append(Refusal(service.name, " ".join(names), f"{reason}, {floor}"))
    return sets, refused


def _unswitched(engine: Engine, name: str) -> str:
    return f"{engine} has no switch for {name} (looked for in {engine} {engine_options(engine).version})"


def degrees(model: Model, gpus_per_node: int, named: Collection[str] = ()) -> list[Degrees]:
    """How one replica may be spread within a node: tp divides the heads, ep is all GPUs or 1 and divides the experts.

    Pipeline stages only where the heads leave GPUs of a node that no tp can use: memory is what they are for. Ranks of
    data-parallel attention and context parallelism only where a service names these techniques.
    """
    mixers = [block.attention for block in model.blocks if block.attention is not None]
    experts = [block.ffn.experts for block in model.blocks if block.ffn is not None and block.ffn.experts]
    widths = [tp for tp in DEGREES if tp <= gpus_per_node and not any(mixer.heads % tp for mixer in mixers)]
    wide = [tp for tp in widths if experts and tp > 1 and not any(count % tp for count in experts)]
    shapes = [Degrees(tp) for tp in widths] + [Degrees(tp, ep=tp) for tp in wide]
    shapes += [Degrees(widths[-1], pp) for pp in DEGREES if pp > 1 and widths[-1] * pp <= gpus_per_node]
    if "data-parallel-attention" in named and experts:
        ranks = ((tp, dp) for tp in widths for dp in DEGREES if dp > 1 and tp * dp <= gpus_per_node)
        shapes += [Degrees(tp, ep=tp * dp, dp=dp) for tp, dp in ranks if not any(n % (tp * dp) for n in experts)]
    if "context-parallel" in named:
        copies = {tp: min((tp // min(tp, kv_heads(m)) for m in mixers if kv_elements(m)), default=1) for tp in widths}
        shapes += [shape._replace(cp=cp) for shape in shapes for cp in DEGREES if 1 < cp <= copies[shape.tp]]
    return shapes


def _ways(
    model: Model, offer: Offer, named: Collection[str], sets: Sequence[tuple[str, ...]]
) -> list[tuple[Degrees, tuple[str, ...]]]:
    """Degrees with techniques, each pair once."""
    ways = [(split, names) for split in degrees(model, offer.gpus_per_node, named) for names in sets]
    return list(dict.fromkeys([*ways, *((split, names) for names in sets for split in stages(model, offer, names))]))


def stages(model: Model, offer: Offer, names: Sequence[str] = ()) -> list[Degrees]:
    """Pipelines of each tp that one replica may have without them.

    They cost no less time and link traffic than they save, but make room for the KV cache: so they are tried where
    weights, in the format that is among the techniques, fill more than half of the memory, and no deeper than until
    they do not.
    """
    each_bytes = min(WEIGHT_BYTES.get(known_as(name), math.inf) for name in (model.weight_dtype, *names))
    weights_bytes = parameters(model) * each_bytes
    layers = sum(block.count for block in model.blocks)
    widths = {split.tp for split in degrees(model, offer.gpus_per_node) if split == Degrees(split.tp)}
    made = []
    for tp in sorted(widths):
        half_bytes = HBM_RATIO * offer.gpu.hbm_bytes * tp / 2
        for pp in DEGREES[1:]:
            if weights_bytes / (pp / 2) > half_bytes and tp * pp <= offer.gpus_per_node and pp <= layers:
                made.append(Degrees(tp, pp))
    return made


def caps_w(offer: Offer) -> list[float | None]:
    """No cap, and the shares of the rated power that the driver accepts, where watts are scarce at all."""
    gpu = offer.gpu
    if not offer.metered:
        return [None]
    tried_w = [gpu.tdp_w * ratio for ratio in CAP_RATIOS]
    return [None, *(cap_w for cap_w in tried_w if cap_objection(gpu, cap_w) is None)]


def gpu_of(recipe: Recipe, inventory: Inventory) -> GPUType:
    """The GPU that a recipe runs on, power cap applied, with its share of the slowest network it may stand in."""
    groups = [group for group in inventory.node_groups if group.gpu.name == recipe.gpu]
    known = [group.network_bytes_per_s / group.gpus_per_node for group in groups if group.network_bytes_per_s]
    gpu = replace(groups[0].gpu, network_bytes_per_s=min(known)) if known else groups[0].gpu
    return gpu if recipe.power_cap_w is None else capped(gpu, recipe.power_cap_w)


def _subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)))
