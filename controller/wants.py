"""What plans in force ask of the power limits of GPUs, pod by pod. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller import names
from controller.cluster import Kind
from controller.hardware import gpus_of, holds
from planner.plan import Allocation, uncapped

Object = Mapping[str, Any]
Pod = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Want:
    """Of each GPU of a pod: the plan's cap (None: none), and what it draws at full load (0 where no plan says)."""

    cap_w: float | None = None
    needs_w: float = 0.0
    gpus: int = 0
    ours: bool = True

    def beside(self, other: "Want") -> "Want":
        """Of a node of which nobody tells which GPU is whose: enough for either."""
        pair = [one for one in (self, other) if one.ours]
        caps = [one.cap_w for one in pair if one.cap_w is not None]
        cap_w = max(caps) if caps and len(caps) == len(pair) else None
        return Want(cap_w, max(self.needs_w, other.needs_w), self.gpus + other.gpus, bool(pair))


NOTHING = Want(ours=False)


def wants(
    decided: Iterable[Allocation], kinds: Iterable[Kind | None], pods: Iterable[Object]
) -> dict[str, dict[Pod, Want]]:
    """Node -> its pods that hold GPUs, with what each wants; pods of nobody's plan need nothing that is known."""
    planned: dict[tuple[str, str, str], Want] = {}
    for one in decided:
        key = (one.service, str(uncapped(one.recipe)), one.pool)
        gpus = one.replicas * one.gpus_per_replica
        if gpus:
            found = Want(one.recipe.power_cap_w, one.power_w / gpus)
            planned[key] = found.beside(planned[key]) if key in planned else found
    known = {one.name: planned.get((one.service, one.recipe, one.pool), Want()) for one in kinds if one is not None}
    found_on: dict[str, dict[Pod, Want]] = {}
    for pod in pods:
        if not holds(pod) or not (gpus := gpus_of(pod)):
            continue
        meta = pod["metadata"]
        want = known.get(f"{meta['namespace']}/{(meta.get('labels') or {}).get(names.KIND)}", NOTHING)
        found_on.setdefault(pod["spec"]["nodeName"], {})[meta["namespace"], meta["name"]] = Want(
            want.cap_w, want.needs_w, gpus, want.ours
        )
    return found_on


def of_gpus(pods: Mapping[Pod, Want], told: Sequence[Sequence[Pod]]) -> list[Want | None]:
    """What each GPU of a node is wanted for; None for one on which nothing runs. `told`: the pods that its agent sees.

    Where the agent does not know of as many GPUs as are held, any of the others may be one of them.
    """
    all_of = _together(pods.values())
    found = [_together(pods[one] for one in mine if one in pods) if mine else None for mine in told]
    if sum(bool(mine) for mine in told) >= all_of.gpus:
        return found
    return [all_of if one is None else one for one in found]


def _together(wants: Iterable[Want]) -> Want:
    found = list(wants)
    made = found[0] if found else NOTHING
    for one in found[1:]:
        made = made.beside(one)
    return made
