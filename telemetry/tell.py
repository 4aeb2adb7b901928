"""The agent's state as a report for the controller. Read by the uplink's thread while the loop goes on."""

import math
import time
from collections.abc import Iterator

from telemetry.agent import Agent
from telemetry.hosts import AMD
from telemetry.report import Report, Row, brief
from telemetry.sample import Gpu
from telemetry.xid_policy import policy

MOST_FAULTS = 1000  # the worst of them, should there be more
WORST_FIRST = ("fatal_node", "fatal_gpu", "degraded", "app", "info")
VENDORS = {AMD: "amd"}


def report(agent: Agent, sequence: int, now_s: float) -> Report:
    """Everything that the controller needs to know. `sequence`: above that of the report before."""
    uuids = {gpu.index: gpu.uuid for gpu in agent.identity.gpus}
    faults = sorted(_faults(agent, uuids), key=lambda row: WORST_FIRST.index(str(row["severity"])))[:MOST_FAULTS]
    return Report(
        node=agent.settings.node,
        boot_id=agent.boot_id,
        sequence=sequence,
        sent_s=now_s,
        changes=agent.sequence,
        agent=agent.settings.version,
        driver=agent.identity.driver.driver,
        driver_hung=agent.hung(),
        node_fault=any(row["severity"] == "fatal_node" and row["phase"] in ("confirmed", "acted") for row in faults),
        gpus=[_gpu(agent, gpu) for gpu in agent.identity.gpus],
        faults=faults,
        xids=[
            {
                "gpu": gpu, "uuid": uuids.get(gpu, ""), "xid": code, "count": count, "last_s": last_s,
                "severity": policy(agent.watch.table, code).meaning,
            }
            for (gpu, code), (count, last_s) in agent.xids.items()
        ],
        caps=[] if agent.capper is None else agent.capper.rows(),
        overruns=list(_overruns(agent, uuids, now_s)),
        unknown=[
            {"vendor": VENDORS.get(one.vendor, f"{one.vendor:04x}"), "pci": one.pci, "model": one.model}
            for one in agent.unknown
        ],
    )  # fmt: skip


def next_sequence(last: int) -> int:
    """Milliseconds since boot, but always above the last one."""
    return max(last + 1, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)


def _gpu(agent: Agent, gpu: Gpu) -> Row:
    sample = agent.samples.get(gpu.index)
    values = brief(sample.values) if sample is not None else {}
    at_s = max(sample.at_s.values()) if sample is not None else 0.0
    pods = [[one.namespace, one.pod, one.container] for one in agent.holders.get(gpu.index, ())]
    instances = sample.instances if sample is not None else ()
    return {
        "gpu": gpu.index, "uuid": gpu.uuid, "model": gpu.model, "pci": gpu.pci, "serial": gpu.serial, "mig": gpu.mig,
        "up": sample is not None and not sample.lost, "at_s": at_s, "values": values, "pods": pods,
        "instances": [
            {"uuid": one.uuid, "gpu_instance": one.gpu_instance, "compute_instance": one.compute_instance,
             "profile": one.profile, "memory_used_bytes": one.memory_used_bytes,
             "memory_total_bytes": one.memory_total_bytes}
            for one in instances
        ],
    }  # fmt: skip


def _faults(agent: Agent, uuids: dict[int, str]) -> Iterator[Row]:
    for detector, subject, state in agent.watch.faults():
        own = {"gpu": subject.gpu, "uuid": uuids.get(subject.gpu, ""), "part": subject.part, "job": subject.job}
        rest = {"since_s": state.since_s, "last_hit_s": state.last_hit_s, "words": state.words}
        yield {
            "detector": detector.name, "severity": detector.severity, "action": detector.action, "phase": state.phase,
            "value": state.value if math.isfinite(state.value) else None, **own, **rest,
        }  # fmt: skip


def _overruns(agent: Agent, uuids: dict[int, str], now_s: float) -> Iterator[Row]:
    for (name, subject), over in agent.heard.overruns.over.items():
        yield {
            "kind": name, "gpu": subject.gpu, "uuid": uuids.get(subject.gpu, ""), "job": subject.job,
            "ratio": over.ratio, "for_s": now_s - over.since_s, "cause": over.cause, "words": over.words,
        }  # fmt: skip
