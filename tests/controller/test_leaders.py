"""Leaders that die and leaders that sleep, as processes; 200 kills with tests.benchmarks.controller_kills."""

import signal
import sys
import time

from controller.kube.run import LOST
from controller.names import EPOCH
from tests.benchmarks.controller_kills import Candidates, run
from tests.benchmarks.orphans import differences
from tests.controller.live import Site, a_controller, until
from tests.controller.plane.audit import mark, writes
from tests.controller.plane.epochs import unfenced
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane


def test_nothing_is_lost_doubled_or_below_the_floor_when_leaders_are_killed(plane: Plane, nodes: Nodes) -> None:
    broken = run(plane, nodes, 4, 7, lambda words: sys.stderr.write(words + "\n"))
    Site(plane).clear()
    assert [words for words in broken if "succession" not in words] == []  # how quick that is, a quiet machine says


def test_what_no_plan_asks_for_is_found_by_kind_and_name(plane: Plane, nodes: Nodes) -> None:
    nodes.add("big", 8, pool="big")
    site = Site(plane)
    site.inventory()
    try:
        with a_controller(site):
            site.service("kept")
            until(lambda: site.is_ready("kept"), 60)
            until(lambda: not differences(site, ["kept"]), 20, "something differs")
        for kind, root in (("Service", "/api/v1"), ("Deployment", "/apis/apps/v1")):
            path = f"{root}/namespaces/default/{kind.lower()}s"
            (one, *_) = site.api.request("GET", path, query={"labelSelector": "muster.dev/service=kept"})["items"]
            meta = {key: one["metadata"][key] for key in ("labels", "ownerReferences")}
            spec = {key: value for key, value in one["spec"].items() if key not in ("clusterIP", "clusterIPs")}
            spec |= {"replicas": 0} if kind == "Deployment" else {}
            left = {"apiVersion": root.rpartition("api/")[2].removeprefix("/apis/"), "kind": kind, "spec": spec}
            site.api.request("POST", path, {**left, "metadata": {**meta, "name": "left"}})
        site.remove("/api/v1/namespaces/default/configmaps/kept-routing")
        said = ["is left, and no plan asks for it"] * 2
        assert differences(site, ["kept"]) == [
            *(f"{kind} left {words}" for kind, words in zip(("Deployment", "Service"), said, strict=True)),
            "ConfigMap kept-routing is missing",
        ]
    finally:
        site.clear()


def test_a_leader_that_slept_past_its_lease_writes_nothing_more_and_ends(plane: Plane, nodes: Nodes) -> None:
    nodes.add("big", 8, pool="big")
    site = Site(plane)
    site.inventory()
    candidates = Candidates(site, plane.folder)
    try:
        site.service("awake")
        until(lambda: site.is_ready("awake"), 60)
        old = until(candidates.leader, 10)
        process = candidates.process(old)
        process.send_signal(signal.SIGSTOP)
        until(lambda: candidates.leader() not in ("", old), 15)
        site.change("awake", {"spec": {"workload": {"ratePerSecond": 200}}})  # what the old one would act on too
        until(lambda: site.is_ready("awake"), 40)
        start = mark(plane.audit_log)
        process.send_signal(signal.SIGCONT)
        until(lambda: process.poll() is not None, 20, "it did not end")
        assert process.returncode == LOST
        time.sleep(1.0)
        now = int(site.get("awake")["metadata"]["annotations"][EPOCH])
        assert unfenced(writes(plane.audit_log, start), now) == []
    finally:
        candidates.stop()
        site.clear()
