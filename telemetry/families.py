"""Families of the page that are not values of a GPU: overrun, caps, pods, MIG devices, accelerators that nobody reads.

Written from what the agent knows, in the threads of whoever scrapes.
"""

import time

from telemetry.agent import Agent
from telemetry.render import PREFIX, family, labelled, of_gpu


def overrun(agent: Agent) -> str:
    """How much and for how long."""
    own = _by_index(agent)
    now_s, ratios, lasted = time.time(), [], []
    for (name, subject), over in agent.heard.overruns.over.items():
        rest = (("kind", name), ("job", subject.job), ("cause", over.cause))
        series = labelled((*own.get(subject.gpu, ()), *rest))
        ratios.append((series, over.ratio))
        lasted.append((series, max(now_s - over.since_s, 0.0)))
    return family("muster_overrun_ratio", "gauge", "What is taken over what was given.", ratios) + family(
        "muster_overrun_seconds", "gauge", "How long an overrun has lasted by now.", lasted
    )


def unknown(agent: Agent) -> str:
    """Accelerators whose health is unknown."""
    rows = [
        (labelled((("vendor", f"{one.vendor:04x}"), ("pci", one.pci), ("model", one.model))), 1.0)
        for one in agent.unknown
    ]
    return family(f"{PREFIX}health_unknown", "gauge", "1 for each accelerator whose health nobody reads.", rows)


def holders(agent: Agent) -> str:
    """Containers and their GPUs, also those that share one."""
    rows = [
        (labelled((("gpu", str(gpu)), *zip(("device", "namespace", "pod", "container"), one, strict=True))), 1.0)
        for gpu, found in agent.holders.items()
        for one in dict.fromkeys(found)
    ]
    return family(f"{PREFIX}holder", "gauge", "1 for each container that was given the GPU.", rows)


def instances(agent: Agent) -> str:
    """MIG devices: who they are, and their memory."""
    info: list[tuple[str, float]] = []
    memory: dict[str, list[tuple[str, float]]] = {"total": [], "used": [], "free": []}
    samples = agent.samples
    for gpu in agent.identity.gpus:
        sample = samples.get(gpu.index)
        for one in sample.instances if sample is not None else ():
            ids = (("gi", str(one.gpu_instance)), ("ci", str(one.compute_instance)))
            own = (*of_gpu(gpu), ("instance", one.uuid), *ids, *agent.part_labels.get(one.uuid, ()))
            info.append((labelled((*own, ("profile", one.profile))), 1.0))
            for kind, rows in memory.items():
                rows.append((labelled(own), getattr(one, f"memory_{kind}_bytes")))
    return family(f"{PREFIX}instance_info", "gauge", "Who a MIG device is; always 1.", info) + "".join(
        family(f"{PREFIX}instance_memory_{kind}_bytes", "gauge", f"Memory of a MIG device, {kind}.", rows)
        for kind, rows in memory.items()
    )


def caps(agent: Agent) -> str:
    """Caps in force and how setting them went; nothing without a setter."""
    if agent.capper is None:
        return ""
    return agent.capper.metrics({gpu.uuid: labelled(of_gpu(gpu)) for gpu in agent.identity.gpus})


def _by_index(agent: Agent) -> dict[int, tuple[tuple[str, str], ...]]:
    return {gpu.index: of_gpu(gpu) for gpu in agent.identity.gpus}


FAMILIES = (overrun, unknown, holders, instances, caps)
