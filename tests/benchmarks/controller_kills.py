"""kill -9 of the leading controller at random moments of large rebalances, beside what must hold whatever happens.

Two `muster controller` processes run against a real control plane with simulated nodes. A service is moved from one GPU
type to another and back, some hundred replicas each way, while whoever leads is killed and started again. The API
server's audit log and a watch of the pods are the oracle:

- the next leader leads within the lease and 2 s;
- no workload is created twice while it is there;
- every object that a service owns is one that its plan asks for, by kind and name, and none is missing;
- what is ready never falls below the floor of the plan that is in force at that very version of the cluster;
- no write of an older leadership is accepted after one of a newer, and each write says of which it is;
- every move ends: at the end what runs is what is decided.

    python -m tests.benchmarks.controller_kills [--kills 200] [--seed 1]
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from controller.kube.rest import ApiError
from controller.names import KIND, KIND_SPEC
from tests.benchmarks.orphans import differences
from tests.controller.live import Site, until
from tests.controller.objects import L4
from tests.controller.plane.audit import mark, writes
from tests.controller.plane.epochs import unfenced
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane, programs

LEASE_S = 3
_LEFT_S = 20.0
SERVICES = ("moved-a", "moved-b", "moved-c")
RATE = 260.0  # some hundred L4 carry it, or a handful of H100
_HELD = "/apis/coordination.k8s.io/v1/namespaces/muster-system/leases/muster-controller"


@dataclass
class Ready:
    """A watch of a service's pods and one of its plan: what was ready and what had to be, by version of the cluster."""

    site: Site
    service: str
    have: list[tuple[int, float]] = field(default_factory=list)
    floors: list[tuple[int, float]] = field(default_factory=list)
    _per_s: dict[str, float] = field(default_factory=dict)
    _pods: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def start(self) -> None:
        plans = "/apis/muster.dev/v1alpha1/namespaces/default/plans"
        threading.Thread(target=self._watch, args=("/api/v1/namespaces/default/pods", self._take), daemon=True).start()
        threading.Thread(target=self._watch, args=(plans, self._plan), daemon=True).start()

    def _watch(self, path: str, take: Callable[[Mapping[str, Any]], None]) -> None:
        query = {"watch": "true", "labelSelector": f"muster.dev/service={self.service}"}
        while True:
            try:
                for line in self.site.api.stream(path, query, 600.0):
                    if line:
                        take(orjson.loads(line))
            except ApiError:
                time.sleep(0.05)

    def _plan(self, event: Mapping[str, Any]) -> None:
        spec = event["object"].get("spec") or {}
        self.floors.append((_version(event["object"]), float(spec.get("floorPerSecond") or 0.0)))

    def judged(self) -> tuple[float, list[str]]:
        """The least that was ready over the floor that was in force, and when it was less than all of it."""
        least, below = float("inf"), []
        for version, have in list(self.have):
            floor = next((floor for at, floor in sorted(self.floors, reverse=True) if at <= version), 0.0)
            if floor:
                least = min(least, have / floor)
            if have < floor * (1 - 1e-9):
                below.append(f"{have:.3g} of {floor:.3g} at {version}")
        return least, below

    def _take(self, event: Mapping[str, Any]) -> None:
        pod = event["object"]
        name, kind = pod["metadata"]["name"], pod["metadata"]["labels"][KIND]
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
        self._pods[name] = kind, ready and event["type"] != "DELETED" and not pod["metadata"].get("deletionTimestamp")
        if event["type"] == "DELETED":
            del self._pods[name]
        if kind not in self._per_s:
            found = self.site.api.request("GET", f"/apis/apps/v1/namespaces/default/deployments/{kind}")
            self._per_s[kind] = orjson.loads(found["metadata"]["annotations"][KIND_SPEC])[6]
        have = sum(self._per_s[kind] for kind, ready in self._pods.values() if ready)
        self.have.append((_version(pod), have))


def _version(obj: Mapping[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


class Candidates:
    """Controllers as processes of their own."""

    def __init__(self, site: Site, folder: Path, count: int = 2) -> None:
        self._site, self._folder = site, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for index in range(count):
            self.start(index)

    def start(self, index: int) -> None:
        words = ["controller", "--kubeconfig", str(self._site.plane.kubeconfig()), "--lease", str(LEASE_S)]
        words += ["--listen", "127.0.0.1:0", "--most-moving", "12"]
        with (self._folder / f"controller-{index}.log").open("ab") as log:
            command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "planner.main", *words]
            self._running[str(index)] = subprocess.Popen(command, stdout=log, stderr=log)

    def leader(self) -> str:
        """The identity of who leads; empty for nobody."""
        try:
            return str(self._site.api.request("GET", _HELD)["spec"].get("holderIdentity") or "")
        except (ApiError, KeyError):
            return ""

    def process(self, identity: str) -> "subprocess.Popen[bytes]":
        """The process behind an identity."""
        return self._running[self._index(identity)]

    def _index(self, identity: str) -> str:
        pid = int(identity.removeprefix(os.uname().nodename + "-").split("-")[0])
        return next(name for name, one in self._running.items() if one.pid == pid)

    def kill(self) -> tuple[str, float]:
        """kill -9 whoever leads; who that was, and when."""
        identity = until(self.leader, 30)
        index = self._index(identity)
        at_s = time.monotonic()
        self._running[index].kill()
        self._running[index].wait()
        self.start(int(index))
        return identity, at_s

    def stop(self) -> None:
        for one in self._running.values():
            one.kill()
            one.wait()


def _succeeded(candidates: Candidates, old: str) -> bool:
    return candidates.leader() not in ("", old)


def decided(site: Site) -> bool:
    """Whether what runs is what is decided."""
    return all(site.is_ready(name) for name in SERVICES)


def run(plane: Plane, nodes: Nodes, kills: int, seed: int, say: Any) -> list[str]:
    """The whole benchmark; what was broken, in words."""
    draw, site = random.Random(seed), Site(plane)
    for index in range(4):
        nodes.add(f"big-{index}", 8, pool="big")
    for index in range(84):
        nodes.add(f"small-{index}", 4, L4, pool="small")
    site.inventory()
    start = mark(plane.audit_log)
    candidates = Candidates(site, plane.folder)
    seen = [Ready(site, name) for name in SERVICES]
    took_s: list[float] = []
    try:
        load = {"ratePerSecond": RATE, "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}]}
        only = [{"allowed": ["L4"]}, {"allowed": ["H100"]}]
        limits = {"techniques": ["fp8"], "minReplicas": 0, "maxSpotShare": 1}
        for name in SERVICES:
            site.service(name, workload=load, constraints={**limits, "gpuTypes": only[0]})
        until(lambda: decided(site), 90, "the services never became ready")
        for one in seen:
            one.start()
        turn, killed = 0, 0
        before = sum(site.get(name)["status"]["readyReplicas"] for name in SERVICES)
        while killed < kills:
            if decided(site):
                turn += 1
                for name in SERVICES:
                    site.change(name, {"spec": {"constraints": {"gpuTypes": only[turn % 2]}}})
                until(lambda: not decided(site), 30)
            time.sleep(draw.uniform(0.0, 5.0))  # some before it planned anything, some in the midst of moves
            old, at_s = candidates.kill()
            until(partial(_succeeded, candidates, old), LEASE_S + 10)
            took_s.append(time.monotonic() - at_s)
            killed += 1
            if killed % 10 == 0:
                say(f"{killed} kills, {turn} rebalances, slowest succession {max(took_s):.1f} s")
        until(lambda: decided(site), 120, "the last move never ended")
        broken = _broken(site, plane, start, seen)
    finally:
        candidates.stop()
    say(f"{kills} kills in {turn} rebalances of {before} replicas to GPUs of another type")
    median_s = sorted(took_s)[len(took_s) // 2]
    say(f"succession: median {median_s:.2f} s, slowest {max(took_s):.2f} s (bar {LEASE_S + 2} s)")
    least = min(one.judged()[0] for one in seen)
    say(f"least ready over the floor: {least:.3f} (bar 1)")
    if least == float("inf"):
        broken.append("no pod changed while a floor held, so nothing was tried")
    if max(took_s) > LEASE_S + 2:
        broken.append(f"a succession took {max(took_s):.2f} s")
    return broken


def _broken(site: Site, plane: Plane, start: int, seen: Sequence[Ready]) -> list[str]:
    """What the audit log and the cluster say against the controller."""
    broken = [f"below the floor: {words}" for one in seen for words in one.judged()[1][:5]]
    log = [one for one in writes(plane.audit_log, start) if one.accepted]
    broken += unfenced(log)[:20]
    there: set[str] = set()
    for one in log:
        if one.resource == "deployments" and one.verb == "create":
            if one.name in there:
                broken.append(f"{one.name} was created twice")
            there.add(one.name)
        elif one.resource == "deployments" and one.verb == "delete":
            there.discard(one.name)
    end_s = time.monotonic() + _LEFT_S
    while (left := differences(site, SERVICES)) and time.monotonic() < end_s:  # what is left goes after all serves
        time.sleep(0.5)
    broken += left
    wanted = [row for name in SERVICES for row in site.get(name, plural="plans")["spec"]["allocations"]]
    pods = [pod for name in SERVICES for pod in site.pods(name)]
    if len(pods) != sum(row["replicas"] for row in wanted):
        broken.append(f"{len(pods)} pods for {sum(row['replicas'] for row in wanted)} replicas")
    return broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder), programs())
        nodes = Nodes(plane)
        try:
            plane.start()
            nodes.start()
            broken = run(plane, nodes, given.kills, given.seed, print)
        finally:
            nodes.stop()
            plane.stop()
    print("\n".join(["BROKEN", *broken]) if broken else "nothing was lost, doubled, orphaned or below the floor: PASS")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
