"""Weight formats as measured tables name them: bytes of a weight, and what a GPU multiplies them in."""

from collections.abc import Mapping
from types import MappingProxyType

from planner.hardware import GPUType

FORMATS = ("bf16", "fp8", "fp8_block", "nvfp4", "mxfp4", "int8", "int4")
# Bytes per weight with scales: see planner.base; fp8_block one float32 per 128 x 128 block, int4 a half per 128.
WEIGHT_BYTES: Mapping[str, float] = MappingProxyType(
    {
        "bf16": 2.0,
        "fp8": 1.0,
        "fp8_block": 1 + 4 / 128**2,
        "nvfp4": 0.5 + 1 / 16,
        "mxfp4": 0.5 + 1 / 32,
        "int8": 1.0,
        "int4": 0.5 + 2 / 128,
    }
)
_ALIASES = {"float16": "bf16", "fp16": "bf16", "bfloat16": "bf16", "fp4": "nvfp4", "int4_wo": "int4", "w4a16": "int4"}
_ALIASES |= {"w4a16_mxfp4": "mxfp4", "int8_wo": "int8", "fp8_static": "fp8"}


def known_as(name: str) -> str:
    """A format's name here, whatever a table calls it; unknown names stay."""
    return _ALIASES.get(name, name)


def flops(card: GPUType, form: str) -> float:
    """FLOP/s that a GPU multiplies a weight format in: its own units, else after unpacking in 16 bits."""
    wanted = {"fp8": ("fp8",), "fp8_block": ("fp8",), "int8": ("int8",), "nvfp4": ("fp4",)}.get(form, ())
    if form == "mxfp4" and "fp4" in card.flops_per_s:
        wanted = ("fp8",)  # 4-bit weights meet 8-bit activations
    for dtype in (*wanted, "bf16", "fp16", "fp32"):
        if dtype in card.flops_per_s:
            return card.flops_per_s[dtype]
    raise AssertionError(f"{card.name} has no peak")  # the catalogue refuses such a row
