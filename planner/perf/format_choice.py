"""One choice of number formats for times and for memory: what --weights, --kv and --technique say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from planner.base import ACTIVATION_BYTES
from planner.cost import Case, Cost
from planner.perf.memory import KV_BYTES, own_format
from planner.technique import Parallelism, cost_of
from planner.techniques import techniques

# Techniques that are a weight format, by the formats (as memory knows them) that each stands for.
_STANDS_FOR: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fp8": ("fp8", "fp8_block"),
        "fp8-weight-only": ("fp8", "fp8_block"),
        "w8a8-int8": ("int8",),
        "w4a16": ("int4",),
        "nvfp4": ("nvfp4",),
        "mxfp4": ("mxfp4",),
    }
)
_KV = "kv-fp8"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a step is costed with and what memory holds; `note` says what was chosen unasked."""

    techniques: tuple[str, ...]
    weight_format: str
    kv_format: str
    note: str = ""

    def cost(self, case: Case) -> Cost:
        """The cost of the case so; formats of the cache that no technique stands for change its bytes alone."""
        made = cost_of(case, [techniques()[name]() for name in self.techniques])
        narrower = KV_BYTES[self.kv_format] / ACTIVATION_BYTES
        return made if _KV in self.techniques or narrower == 1 else made.scale("kv", narrower)


def choice(case: Case, weights: str = "", kv: str = "", names: Sequence[str] = ()) -> Choice | str:
    """One format of the weights and one of the cache, or in words why there is none; "" leaves it to the others."""
    named = list(dict.fromkeys(names))
    for name in named:
        if name not in techniques():
            return f"--technique: unknown technique {name!r}: known are {', '.join(techniques())}"
        if issubclass(techniques()[name], Parallelism):
            return f"--technique {name}: a degree of parallelism, which a plan sets; here --tp alone can"
    for name in named:
        why = techniques()[name]().objection(case)
        if why:
            return f"--technique {name}: {why}"
    formats = [name for name in named if name in _STANDS_FOR]
    if len(formats) > 1:
        return f"--technique: {' and '.join(formats)} are two formats of the same weights, allowed: one"
    if kv and kv != "fp8" and _KV in named:
        return f"--kv {kv} and --technique {_KV} are two formats of the same cache, allowed: one"
    added: tuple[str, ...] = ()
    note = ""
    if formats and weights and weights not in _STANDS_FOR[formats[0]]:
        return f"--weights {weights} and --technique {formats[0]} are two formats of the same weights, allowed: one"
    if weights and not formats:
        found = _technique_for(case, weights)
        if isinstance(found, str):
            return f"--weights {weights}: {found}"
        added, note = found
    if kv == "fp8" and _KV not in named:
        why = techniques()[_KV]().objection(case)
        if why:
            return f"--kv fp8: {why}"
        added = (*added, _KV)
    form = weights or (_STANDS_FOR[formats[0]][0] if formats else "")
    return Choice((*named, *added), form, kv or ("fp8" if _KV in named else "bf16"), note)


def _technique_for(case: Case, weights: str) -> tuple[tuple[str, ...], str] | str:
    """The technique that runs a weight format on the GPU, and a word on it where it is not the format's first."""
    own = own_format(case.model)
    if weights == own or {weights, own} == {"fp8", "fp8_block"}:
        return (), ""
    tried = [name for name, formats in _STANDS_FOR.items() if weights in formats]
    if not tried:
        return f"{case.model.name} is published in {case.model.weight_dtype}, and would have to be widened"
    objections = [techniques()[name]().objection(case) for name in tried]
    for name, why in zip(tried, objections, strict=True):
        if why is None:
            return (name,), "" if name == tried[0] else f"{objections[0]}: costed as {name}, arithmetic in 16 bits"
    return "; ".join(dict.fromkeys(why for why in objections if why))
