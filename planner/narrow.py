"""What techniques that are a format of the weights share: whose checkpoint, whole groups, fewer bytes, other units."""

from dataclasses import replace

from planner.base import HBM_WEIGHTS, WEIGHT_BYTES
from planner.cost import Case, Cost, Op


def narrow_already(case: Case) -> str | None:
    """Formats are made of 16-bit checkpoints."""
    if case.model.weight_dtype in ("bf16", "fp16"):
        return None
    return f"{case.model.name} is published in {case.model.weight_dtype} already"


def uneven_groups(case: Case, group: int) -> str | None:
    """Why weights that share a scale by so many along the input dimension do not lie on one GPU each, in words."""
    widths = {case.model.hidden, *(b.ffn.inner // case.tp for b in case.model.blocks if b.ffn is not None)}
    odd = sorted(width for width in widths if width % group)
    return f"{odd[0]} weights in a row do not split into groups of {group}" if odd else None


def narrowed(cost: Cost, case: Case, each_bytes: float, engine: str | None = None) -> Cost:
    """Every weight but the embeddings' in so many bytes, and the products with them on that engine, if there is one."""
    fewer = cost.scale("weights", each_bytes / WEIGHT_BYTES[case.model.weight_dtype])

    def on(op: Op) -> Op:
        return replace(op, engine=engine) if engine and HBM_WEIGHTS in op.traffic else op

    return fewer.map_ops(on) if engine else fewer


def fp4_units(case: Case) -> str | None:
    """The engine of products in 4-bit floating point, None where a GPU has none and unpacks them."""
    return "fp4" if "fp4" in case.gpu.flops_per_s else None
