"""Faults that are played on simulated GPUs now, as people look at them."""

from dataclasses import dataclass

from controller.web.site import Faults


@dataclass(frozen=True, slots=True)
class PlayedFault:
    """A fault that is played on a GPU. `xid`: of the kind xid; `factor`: of the kind slow, the share of its speed."""

    node: str
    gpu: int
    kind: str  # xid, slow, lost
    xid: int | None
    factor: float | None


def played(faults: Faults) -> list[PlayedFault]:
    """All of them."""
    return [
        PlayedFault(
            node, gpu, ill.kind, ill.xid if ill.kind == "xid" else None, ill.factor if ill.kind == "slow" else None
        )
        for node, gpus in faults.ills().items()
        for gpu, ill in gpus.items()
    ]
