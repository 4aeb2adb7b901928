"""Whether plans fit: random fleets with faults and strangers' pods are planned, and again after two nodes are lost.

Every replica of every plan must find a place: by the rollout's own packing for `--plans` fleets, and by the real
kube-scheduler, pods running, for `--scheduled` fleets.

    python -m tests.benchmarks.fits [--plans 10000] [--scheduled 300]
"""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from tests.controller.live import Site
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane, programs
from tests.controller.test_fit import a_fleet, check, scheduled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=10_000)
    parser.add_argument("--scheduled", type=int, default=300, help="Random fleets on the real scheduler.")
    parser.add_argument("--seed", type=int, default=1000)
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    made, seed, began_s = 0, given.seed, time.process_time()
    while made < given.plans:
        draw = random.Random(seed)
        made += check(a_fleet(draw), draw)
        seed += 1
        if (seed - given.seed) % 200 == 0:
            print(f"{made} plans of {seed - given.seed} fleets fit", flush=True)
    print(f"{made} plans of {seed - given.seed} fleets: all fit; {time.process_time() - began_s:.0f} CPU s", flush=True)
    if given.scheduled:
        with tempfile.TemporaryDirectory() as folder:
            plane = Plane(Path(folder), programs())
            nodes = Nodes(plane)
            try:
                plane.start()
                nodes.start()
                served = scheduled(Site(plane), nodes, range(given.scheduled))
            finally:
                nodes.stop()
                plane.stop()
        print(f"{served} services of {given.scheduled} fleets: every pod was scheduled and ran")


if __name__ == "__main__":
    main()
