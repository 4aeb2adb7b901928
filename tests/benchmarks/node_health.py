"""Reports of a thousand agents over HTTP, and what becomes of faults, on a real control plane with simulated nodes.

Each agent has a pod on its node and that pod's token, which the API server vouches for. Measured: reports/s with the
order of each node kept and the controller's CPU; 400 faults at once, with the fleet brake and without; and the time
from a report with a fault until a watch of the nodes shows the taint.

    python -m tests.benchmarks.node_health [--nodes 1000] [--seconds 20] [--tries 100]

Load comes from processes of their own. The controller shares its process with the simulator of nodes, which idles
meanwhile, so the CPU that is printed is a little too high.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from controller.brake import Brake, most_out
from controller.kube.node_round import NodeSettings
from controller.kube.run import Controller
from controller.names import CONDITION, TAINT
from controller.server import Listen
from tests.benchmarks.common import bar
from tests.benchmarks.reporters import Reporter, Told
from tests.controller.live import Site, a_controller, until
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane, programs

AGENTS, ACCOUNT = "muster-agents", "muster-agent"
PER_S = 1000.0  # of a thousand nodes
_PROCESSES = 2


class Seen:
    """A watch of the nodes: when each was first seen tainted and cordoned, and what its condition says."""

    def __init__(self, site: Site) -> None:
        self.out_s: dict[str, float] = {}
        self.unwell: set[str] = set()
        version = site.api.request("GET", "/api/v1/nodes", query={"limit": "1"})["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3000"}
        self._stream = site.api.stream("/api/v1/nodes", query, 3000.0)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        for line in self._stream:
            if line:
                self._take(orjson.loads(line)["object"], time.monotonic())

    def _take(self, node: Mapping[str, Any], now_s: float) -> None:
        name, spec = node["metadata"]["name"], node.get("spec") or {}
        if spec.get("unschedulable") and TAINT in {one["key"] for one in spec.get("taints") or ()}:
            self.out_s.setdefault(name, now_s)
        if _is_unwell(node):
            self.unwell.add(name)

    def end(self) -> None:
        self._stream.end()


def agents(site: Site, nodes: Nodes, count: int) -> dict[str, str]:
    """Nodes, a pod of an agent on each, and the tokens of these by node."""
    site.space(AGENTS)
    site.post(f"/api/v1/namespaces/{AGENTS}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    names = [f"gpu-{index:04d}" for index in range(count)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: nodes.add(name, 8, pool="big"), names))
        return dict(zip(names, pool.map(lambda name: _token(site, name), names), strict=True))


def _token(site: Site, node: str) -> str:
    spec = {"nodeName": node, "serviceAccountName": ACCOUNT, "containers": [{"name": "agent", "image": "agent:1"}]}
    body = {"metadata": {"name": f"agent-{node}"}, "spec": spec}
    pod = site.api.request("POST", f"/api/v1/namespaces/{AGENTS}/pods", body, timeout_s=60.0)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": f"agent-{node}", "uid": pod["metadata"]["uid"]}
    asked = {"spec": {"audiences": ["muster"], "expirationSeconds": 7200, "boundObjectRef": bound}}
    path = f"/api/v1/namespaces/{AGENTS}/serviceaccounts/{ACCOUNT}/token"
    return str(site.api.request("POST", path, asked, timeout_s=60.0)["status"]["token"])


def tell(
    controller: Controller,
    tokens: Mapping[str, str],
    first: int,
    rounds: int = 1,
    per_s: float = 0.0,
    fault: bool = False,
) -> Told:
    """Have each node report so many times, from a few processes. Sequences begin at `first`; `per_s` 0: at once."""
    names = sorted(tokens)
    parts = [names[index::_PROCESSES] for index in range(_PROCESSES)]
    running = []
    for part in parts:
        job = {
            "port": controller.port, "tokens": {name: tokens[name] for name in part}, "first": first, "rounds": rounds,
            "per_s": per_s * len(part) / len(names), "fault": fault,
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.benchmarks.reporters"]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        if (pipe := running[-1].stdin) is not None:
            pipe.write(json.dumps(job).encode())
            pipe.close()
    came = []
    for one in running:
        with one:  # which waits, and closes its pipes
            came.append(json.loads(one.stdout.read() if one.stdout is not None else b""))
    return Told.together(came)


def sustained(controller: Controller, tokens: Mapping[str, str], seconds: float, least: float = 0.98) -> bool:
    """Reports at a steady rate: all taken, in the order of each node, at what cost."""
    tell(controller, tokens, 1)  # tokens are checked
    per_s = PER_S * len(tokens) / 1000
    rounds = max(int(per_s * seconds / len(tokens)), 1)
    cpu_s = time.process_time()
    told = tell(controller, tokens, 1000, rounds, per_s)
    cpu_s = time.process_time() - cpu_s
    last = {controller.rounds.kept[name].report.sequence for name in tokens}
    rate = (told.sent - told.lost) / told.took_s
    waits = f"p50 {told.at(0.5) * 1e3:.1f} ms, p99 {told.at(0.99) * 1e3:.0f} ms"
    cost = f"{cpu_s / (told.sent + told.stale) * 1e3:.2f} CPU s per 1,000, {waits}"
    good = bar(f"{per_s:.0f} reports/s sustained", rate >= least * per_s and not told.lost, f"{rate:.0f}/s, {cost}")
    right = told.stale == told.stale_refused and last == {1000 + 2 * (rounds - 1)}
    order = f"{told.stale_refused} of {told.stale} late ones refused, the last of each node kept"
    return bar("the order of each node is kept", right, order) and good


def storm(site: Site, controller: Controller, tokens: Mapping[str, str], first: int, wanted: int, name: str) -> bool:
    """All of these nodes report a fault at once: how many are out and how many held, and after how long."""
    seen = Seen(site)
    before = site.api.request("GET", "/api/v1/nodes")["items"]
    already = {one["metadata"]["name"] for one in before if _is_out(one)}
    seen.unwell |= {one["metadata"]["name"] for one in before if _is_unwell(one)}
    began_s = time.monotonic()
    told = tell(controller, tokens, first, fault=True)
    done = _waited(lambda: len(already | set(seen.out_s)) >= wanted and seen.unwell >= set(tokens), 60.0)
    took_s = time.monotonic() - began_s
    time.sleep(1.0)  # whatever went too far would show by now
    out = len(already | set(seen.out_s))
    held = [words for node, words in controller.rounds.held.items() if node in tokens and "approval" in words]
    seen.end()
    good = done and out == wanted and len(held) == len(tokens) - wanted and took_s < 10.0 and not told.lost
    return bar(name, good, f"{out} out, {len(held)} held and told, in {took_s:.1f} s")


def _is_out(node: Mapping[str, Any]) -> bool:
    return any(one["key"] == TAINT for one in node["spec"].get("taints") or ())


def _is_unwell(node: Mapping[str, Any]) -> bool:
    rows = node["status"].get("conditions") or ()
    return any(one["type"] == CONDITION and one["status"] == "False" for one in rows)


def _waited(true: Callable[[], bool], seconds: float) -> bool:
    end_s = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.1)
    return True


def to_the_watch(site: Site, controller: Controller, tokens: Mapping[str, str], first: int) -> bool:
    """One node after the other reports a fault: until its taint and cordon are in a watch."""
    seen, took_s = Seen(site), []
    for name, token in tokens.items():
        agent = Reporter(controller.port, name, token)
        agent.tell(first)
        time.sleep(0.2)  # each report comes to a controller at rest
        began_s = time.monotonic()
        agent.tell(first + 1, fault=True)
        until(partial(seen.out_s.__contains__, name), 10.0)
        took_s.append(seen.out_s[name] - began_s)
        agent.close()
    seen.end()
    took_s.sort()
    p50_s, p99_s = took_s[len(took_s) // 2], took_s[int(len(took_s) * 0.99) - 1]
    figure = f"p50 {p50_s * 1e3:.0f} ms, p99 {p99_s * 1e3:.0f} ms, most {took_s[-1] * 1e3:.0f} ms of {len(took_s)}"
    return bar("fault report to cordon and taint in a watch", p50_s < 0.06 and p99_s < 0.3, figure)


def run(plane: Plane, nodes: Nodes, count: int, seconds: float, tries: int, least: float = 0.98) -> Sequence[bool]:
    """All of it; which bars were met, that of the rate by so much of it."""
    site = Site(plane)
    site.inventory()
    tokens = agents(site, nodes, count)
    names = sorted(tokens)
    faulty = {name: tokens[name] for name in names[: count * 2 // 5]}
    single = {name: tokens[name] for name in names[len(faulty) : len(faulty) + tries]}
    met = []
    with a_controller(site, listen=Listen(port=0), nodes=NodeSettings(drain=False), silent_s=15.0) as controller:
        until(controller.desk.leads, 30.0)
        met.append(sustained(controller, tokens, seconds, least))
        limit = most_out(count, Brake())
        met.append(storm(site, controller, faulty, 100_000, limit, f"{len(faulty)} faults at once, braked"))
    free = NodeSettings(brake=Brake(share_ratio=1.0), drain=False)
    with a_controller(site, listen=Listen(port=0), nodes=free, silent_s=15.0) as controller:
        until(controller.desk.leads, 30.0)
        met.append(storm(site, controller, faulty, 200_000, len(faulty), f"{len(faulty)} faults at once, brake off"))
        met.append(to_the_watch(site, controller, single, 300_000))
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--tries", type=int, default=100)
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder), programs())
        nodes = Nodes(plane)
        try:
            plane.start()
            nodes.start()
            met = run(plane, nodes, given.nodes, given.seconds, given.tries)
        finally:
            nodes.stop()
            plane.stop()
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
