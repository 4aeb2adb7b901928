"""The controller on a large fleet: 1,000 nodes of 8 GPUs, 200 services, some 4,000 pods, on a real control plane.

Prints, beside its bar, each of: how long until a fresh process has everything in its caches and what memory that takes;
what is written in a steady while; how long from the edit of a spec to the first word about it, at 100 edits/s; how long
from a node's fault to the new plan of a service on it. Everything shares two cores with the control plane.

    python -m tests.benchmarks.controller_scale [--share 1.0] [--steady 600] [--edits 10]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from controller.kube.rest import MERGE
from controller.names import TAINT
from tests.benchmarks.edits import PATH, edits
from tests.controller.live import Site, until
from tests.controller.objects import L4
from tests.controller.plane.audit import Write, mark, writes
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane, free_ports, programs

_RATE = 104.0
_SLO = {"name": "chat", "ttft": "2s", "tpot": "100ms", "percentile": "p95"}  # some 20 replicas of one L4 each
_GARBAGE = {"GOGC": "1600", "GOMEMLIMIT": "4GiB"}  # else collecting it is a quarter of what an edit costs the server
_EVENTS_S = 90.0  # what was told more than once within a minute is written as an event's series after it
Say = Callable[[str], None]


@contextmanager
def a_process(site: Site, *more: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A `muster controller` and the port that it answers on."""
    port = free_ports(1)[0]
    words = ["controller", "--kubeconfig", str(site.plane.kubeconfig()), "--listen", f"127.0.0.1:{port}", *more]
    with (site.plane.folder / "controller.log").open("ab") as log:
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "planner.main", *words]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def answers(port: int, path: str = "readyz") -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def memory_mib(pid: int) -> float:
    """The most that a process had resident, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def fill(site: Site, nodes: Nodes, services: int, count: int) -> None:
    """The nodes, the inventory and the services."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: nodes.add(f"node-{index:04d}", 8, L4, pool="small"), range(count)))
    site.inventory()
    for index in range(services):
        load = {"ratePerSecond": _RATE, "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}]}
        site.service(f"service-{index:03d}", workload=load, slos=[_SLO])


def states(site: Site) -> list[dict[str, object]]:
    return list(site.api.request("GET", PATH, timeout_s=30)["items"])


def ready(site: Site) -> int:
    """Services that are planned, applied and ready."""
    kinds = ("Planned", "Applied", "Ready")
    found = 0
    for one in states(site):
        rows = {row["type"]: row["status"] for row in (one.get("status") or {}).get("conditions") or ()}  # type: ignore[attr-defined]
        found += all(rows.get(kind) == "True" for kind in kinds)
    return found


def cpu_s(pid: int) -> float:
    """Processor seconds that a process used so far."""
    words = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def told(
    site: Site, names: list[str], seconds: float, per_s: float, who: "subprocess.Popen[bytes]", say: Say
) -> list[float]:
    """Edits at a rate while `who` answers them; says what of the processor that took."""
    server = site.plane.processes["apiserver"].pid
    before = cpu_s(server), cpu_s(who.pid)
    taken = edits(site.plane.kubeconfig(), names, seconds, per_s, _RATE)
    used = [1e3 * (now - was) / len(taken) for now, was in zip((cpu_s(server), cpu_s(who.pid)), before, strict=True)]
    at = [f"p{share:g} {1e3 * taken[int(len(taken) * share / 100)]:.0f} ms" for share in (50, 90, 99)]
    cost = f"{used[0]:.1f} ms of the API server and {used[1]:.1f} ms of who answers an edit"
    say(f"  {len(taken)} edits at {per_s:g}/s: {', '.join(at)}; {cost}, load {os.getloadavg()[0]:.1f}")
    return taken


def floor(site: Site, names: list[str], seconds: float, per_s: float, say: Say) -> None:
    """What the API server alone takes: each edit is answered by one field of its status, and nothing else happens."""
    words = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.benchmarks.edits"]
    process = subprocess.Popen([*words, str(site.plane.kubeconfig())])
    try:
        time.sleep(3)
        say("without a controller, each edit answered by its generation alone:")
        for share in (0.25, 1.0):
            told(site, names, seconds, per_s * share, process, say)
    finally:
        process.kill()
        process.wait()


def settled(site: Site, services: int, what: str) -> None:
    """Wait until all is ready, asking seldom: a list of everything is work for the server too."""
    end_s = time.monotonic() + 900
    while ready(site) < services:
        if time.monotonic() > end_s:
            raise SystemExit(f"{what}: {ready(site)} of {services} services are ready")
        time.sleep(1.0)


def run(plane: Plane, nodes: Nodes, share: float, steady_s: float, edit_s: float, say: Say) -> list[str]:
    """The whole benchmark; the bars that were missed."""
    site, missed = Site(plane), []
    services, count = max(round(200 * share), 1), max(round(1000 * share), 2)

    def bar(words: str, value: float, most: float, unit: str) -> None:
        good = value <= most
        say(f"{words}: {value:.3g} {unit} (bar {most:g}) {'PASS' if good else 'MISS'}")
        if not good:
            missed.append(words)

    fill(site, nodes, services, count)
    names = [str(one["metadata"]["name"]) for one in states(site)]  # type: ignore[index]
    floor(site, names, edit_s, 100 * share, say)
    with a_process(site, "--most-moving", "400") as (leader, _):
        began_s = time.monotonic()
        settled(site, services, "the fleet never became ready")
        pods = len(site.api.request("GET", "/api/v1/namespaces/default/pods", timeout_s=60)["items"])
        say(f"{count} nodes, {services} services, {pods} pods: all ready after {time.monotonic() - began_s:.0f} s")
        with a_process(site) as (process, port):
            began_s = time.monotonic()
            until(lambda: answers(port), 60)
            bar("start to full caches", time.monotonic() - began_s, 5.0, "s")
            time.sleep(5)
            bar("memory of a process with full caches", memory_mib(process.pid), 300, "MiB")
        say("with the controller:")
        told(site, names, edit_s, 25 * share, leader, say)
        settled(site, services, "the edits never settled")
        taken = told(site, names, edit_s, 100 * share, leader, say)
        bar("edit to first word, p50", taken[len(taken) // 2] * 1e3, 50, "ms")
        bar("edit to first word, p99", taken[int(len(taken) * 0.99)] * 1e3, 250, "ms")
        settled(site, services, "the edits never settled")
        bar("fault to the new plan applied", fault(site), 5.0, "s")
        others = steady(plane, steady_s)
        bar(f"writes but the lease's in {steady_s:.0f} steady s", len(others), 0, "")
        if others:
            say(str(Counter((one.verb, one.resource, one.subresource, one.code) for one in others)))
            say(str([(one.at, one.name, one.body) for one in others[:400:80]])[:3000])
    return missed


def steady(plane: Plane, seconds: float) -> list[Write]:
    """What the controller writes but its Lease while nothing happens."""
    time.sleep(_EVENTS_S)
    start = mark(plane.audit_log)
    time.sleep(seconds)
    ours = [one for one in writes(plane.audit_log, start) if one.agent.startswith("python-urllib3")]
    return [one for one in ours if one.resource != "leases"]


def fault(site: Site) -> float:
    """Taint a node as for a fault; seconds until all services on it are planned without it and what replaces their
    replicas there is told to run. Nobody drains the node here, so those replicas stay beside their successors."""
    pods = site.api.request("GET", "/api/v1/namespaces/default/pods", timeout_s=60)["items"]
    node = pods[0]["spec"]["nodeName"]
    hit = Counter(
        one["metadata"]["labels"]["muster.dev/service"] for one in pods if one["spec"].get("nodeName") == node
    )
    before = {name: _asked(site, name) for name in hit}
    patch = {"spec": {"unschedulable": True, "taints": [{"key": TAINT, "effect": "NoSchedule", "value": "faulty"}]}}
    began_s = time.monotonic()
    site.api.request("PATCH", f"/api/v1/nodes/{node}", patch, content_type=MERGE)

    def planned() -> bool:
        plans = [site.get(name, plural="plans")["spec"] for name in hit]
        done = all(node in (plan.get("planned") or {}).get("faulty", ()) for plan in plans)
        return done and all(_asked(site, name) >= before[name] + lost for name, lost in hit.items())

    until(planned, 60)
    return time.monotonic() - began_s


def _asked(site: Site, service: str) -> int:
    """Replicas that a service's Deployments ask for."""
    path = f"/apis/apps/v1/namespaces/default/deployments?labelSelector=muster.dev/service={service}"
    return sum(int(one["spec"]["replicas"]) for one in site.api.request("GET", path)["items"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="Of the fleet's size and of the rate of edits.")
    parser.add_argument("--steady", type=float, default=600.0, help="Steady seconds to look at.")
    parser.add_argument("--edits", type=float, default=10.0, help="Seconds of edits.")
    given = parser.parse_args()
    os.environ.update(_GARBAGE)
    print(f"load {os.getloadavg()[0]:.1f}, the control plane with {_GARBAGE}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder), programs())
        nodes = Nodes(plane)
        try:
            plane.start()
            nodes.start()
            missed = run(plane, nodes, given.share, given.steady, given.edits, lambda words: print(words, flush=True))
        finally:
            nodes.stop()
            plane.stop()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
