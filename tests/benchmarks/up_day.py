"""A day of `muster up` against a planner that knows the future.

    python -m tests.benchmarks.up_day [--story FILE] [--windows 144] [--seed 0] [--folder FOLDER]

ours          the story played by a `muster up` of its own as fast as it goes; what its replicas cost, every 30 s,
              those that still start included
clairvoyant   for each window the cheapest plan for its mean rates, on the nodes that are well and the watts that may be
              drawn then, from scratch: no price of change, no cold start, nothing learned late. Its cost is the
              search's proved lower bound, so no planner can be cheaper with the same model of costs.

Left out: what starts and stops would cost the clairvoyant too; that windows are shorter than rates change. Both make
the comparison harder for us, never easier. A node counts as out from the fault to its end, as the story has it.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.decision import snapshot
from controller.embedded.history import SeriesHistory
from controller.embedded.schema import filled
from controller.embedded.store import Store
from controller.plan_child import PlanChild
from controller.specs import key_of, service
from controller.story import Story, load, placed
from planner.service import ServiceSpec
from planner.simulation.arrivals import Traffic, read
from tests.benchmarks.common import ROOT, bar, reference
from tests.controller.running import start

_BAR = 0.05
_CHILDREN = 2
_EACH_S = 60.0
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Moment:
    """What holds in a window: the services with their traffic, the nodes that are out, and the budgets."""

    services: Mapping[str, Object]
    traffic: Mapping[str, Traffic]
    out: Mapping[tuple[str, int], str]  # (node, GPU) -> what is wrong with it
    budgets: Mapping[str, str]


def moments(story: Story) -> list[tuple[float, Moment]]:
    """What holds from each step of a story on."""
    services: dict[str, Object] = {}
    traffic: dict[str, Traffic] = {}
    out: dict[tuple[str, int], str] = {}
    budgets: dict[str, str] = {}
    found = []
    for step in story.steps:
        for call in step.calls:
            body = call.body or {}
            parts = call.path.removeprefix("/api/v1/").split("/")
            if parts == ["services"]:
                services[key_of(body)] = filled(body)
            elif parts[0] == "traffic":
                traffic["/".join(parts[1:])] = read(body)
            elif parts[0] == "faults":
                out[body["node"], body["gpu"]] = body["kind"]
            elif parts[0] == "powerdomains":
                budgets[parts[1]] = body["spec"]["budget"]
            else:
                sys.exit(f"the story calls {call.path}, which this benchmark does not know")
        well = {gpu: kind for gpu, kind in out.items() if kind != "clear"}
        found.append((step.at_s, Moment(dict(services), dict(traffic), well, dict(budgets))))
    return found


def asked(story: Story, at: Moment, middle_s: float) -> Object:
    """The snapshot of a window for the planner."""
    rows = []
    for key, obj in at.services.items():
        known = service(obj)
        assert isinstance(known, ServiceSpec), known
        rows.append((obj, round(at.traffic.get(key, Traffic()).mean_per_s(known, middle_s), 3), (1.0, 1.0)))
    hardware = dict(story.inventory)
    lost = {node for node, _ in at.out}
    groups = []
    for group in hardware["spec"]["nodeGroups"]:
        gone = sum(node.rpartition("-")[0] == group["name"] for node in lost)
        groups.append({**group, "nodes": group["nodes"] - gone})
    domains = [
        {**one, "budget": at.budgets.get(one["name"], one["budget"])} for one in hardware["spec"]["powerDomains"]
    ]
    spec = {**hardware["spec"], "nodeGroups": groups, "powerDomains": domains}
    return snapshot(rows, {**hardware, "spec": spec}, {}, start_usd=0.0, nodes=1000)


def clairvoyant(story: Story, windows: int) -> list[tuple[float, float, float]]:
    """Start of each window in seconds, and the $ per hour of its cheapest plan: proved bound, and plan."""
    steps, width_s = moments(story), story.lasts_s / windows
    starts = [number * width_s for number in range(windows)]
    child = [PlanChild(600.0) for _ in range(_CHILDREN)]

    def look(number: int) -> tuple[float, float, float]:
        at_s = starts[number]
        holds = max((one for one in steps if one[0] <= at_s + 1e-6), key=lambda one: one[0])[1]
        plan = child[number % _CHILDREN].decide(asked(story, holds, at_s + width_s / 2))
        spec = plan["spec"]
        if spec["status"] not in ("optimal", "feasible"):
            sys.exit(f"window at {at_s / 3600:.2f} h: {spec['status']}")
        found = float(spec["usdPerHour"])
        return at_s, min(float(spec.get("boundUsdPerHour", found)), found), found

    try:
        with ThreadPoolExecutor(_CHILDREN) as pool:
            lanes = pool.map(lambda lane: [look(n) for n in range(lane, windows, _CHILDREN)], range(_CHILDREN))
            return sorted(row for lane in lanes for row in lane)
    finally:
        for one in child:
            one.stop()


def played(file: Path, story: Story, folder: Path, seed: int) -> tuple[SeriesHistory, float, list[Object], Story]:
    """The story, played: its series, when it began, its events, and the story with the places that it chose."""
    state = folder / "state"
    folder.mkdir(parents=True, exist_ok=True)
    if not (state / "cluster.db").exists():
        words = ("--story", str(file), "--speed", "100000", "--exit-after-story", "--seed", str(seed))
        up = start(state, *words)
        up.process.wait()
        if up.process.returncode:
            sys.exit(up.log.read_text()[-3000:])
    store = Store(state / "cluster.db")
    said = store.said("story") or {}
    told = placed(story, {name: (str(node), int(gpu)) for name, (node, gpu) in said.get("places", {}).items()})
    return SeriesHistory(store), float(said["start_s"]), [row for row in store.items("events")], told


def _told(story: Story, begun_s: float, events: list[Object], history: SeriesHistory) -> None:
    for one in sorted(events, key=lambda row: str(row.get("eventTime"))):
        if one["reason"] in ("Replanned", "NodeQuarantined", "NodeReturned", "SLOMissed"):
            print(
                f"  {str(one['eventTime'])[11:16]} {one['reason']:<15} {one['regarding']['name']}: {one['note'][:150]}"
            )
    for key in moments(story)[-1][1].services:
        rows = history.series("attainment_ratio", key, begun_s, begun_s + story.lasts_s, 24)
        print(f"  {key}: in time by hour " + " ".join(f"{100 * ratio:.0f}" for _, ratio in rows))


def _held(story: Story, begun_s: float, history: SeriesHistory) -> bool:
    """Whether the day's requests were in time as often as the objectives say: what is cheap and late is no plan."""
    kept = []
    for key, obj in moments(story)[-1][1].services.items():
        known = service(obj)
        assert isinstance(known, ServiceSpec), known
        wanted = max(slo.percentile for slo in known.slos)
        ends_s = begun_s + story.lasts_s
        rates = history.series("rate_per_s", key, begun_s, ends_s, 1440)
        met = dict(
            (round(at_s / 60), ratio) for at_s, ratio in history.series("attainment_ratio", key, begun_s, ends_s, 1440)
        )
        both = [(rate, met[round(at_s / 60)]) for at_s, rate in rates if round(at_s / 60) in met]
        share = sum(rate * ratio for rate, ratio in both) / sum(rate for rate, _ in both)
        kept.append(bar(f"{key} over the day", share >= wanted, f"{share:.2%} in time ({wanted:.0%} wanted)"))
    return all(kept)


def main() -> None:
    """Print both costs by the hour; exit code 1 where ours is more than 5 % above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--story", type=Path, default=ROOT / "deploy" / "examples" / "demo.yaml")
    parser.add_argument("--windows", type=int, default=144)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the day is kept, and taken from where it was played before")
    given = parser.parse_args()
    story = load(given.story)
    with tempfile.TemporaryDirectory() as folder:
        history, begun_s, events, story = played(given.story, story, given.folder or Path(folder), given.seed)
        _told(story, begun_s, events, history)
        best = clairvoyant(story, given.windows)
        width_s = story.lasts_s / given.windows
        ours = history.series("usd_per_hour", "", begun_s, begun_s + story.lasts_s, given.windows)
        mine, held = [value for _, value in ours], _held(story, begun_s, history)
    print("hour   ours $/h   clairvoyant $/h (bound)")
    each = max(given.windows // 24, 1)
    for at in range(0, given.windows, each):
        part = [row[1] for row in best[at : at + each]]
        print(f"{best[at][0] / 3600:>4.0f} {sum(mine[at : at + each]) / each:>10.2f} {sum(part) / len(part):>10.2f}")
    hours = width_s / 3600
    total, least, plan = sum(mine) * hours, sum(r[1] for r in best) * hours, sum(r[2] for r in best) * hours
    print(
        f"ours ${total:.2f}, clairvoyant ${plan:.2f} (proved: no less than ${least:.2f}); reference {reference():.2f} s"
    )
    cheap = bar("a day against a clairvoyant planner", total <= (1 + _BAR) * least, f"{total / least - 1:+.2%}")
    sys.exit(0 if all([cheap, held]) else 1)


if __name__ == "__main__":
    main()
