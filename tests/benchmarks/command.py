"""The real command line, process and imports included: `python -m tests.benchmarks.command [--runs N]`.

Three questions to `muster plan` on the examples that ship: how soon the plan of the first screen is there, how soon
infeasible problems are told apart (and whether the way out that they name is one), and whether `--time-limit` is kept.
The command is the script beside this interpreter, run on a terminal of its own for the first question.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from planner.units import DURATION
from planner.yaml_text import dump, read
from tests.benchmarks.common import ROOT, bar, cpu_s, reference
from tests.benchmarks.processes import Ended, Tree, timed

MUSTER = Path(sys.executable).with_name("muster")
EXAMPLES = ROOT / "deploy" / "examples"
SERVICES = ("chat", "code", "moe", "batch")
PLAN_S, INFEASIBLE_S, OVER_S = 3.0, 1.0, 0.25
TIME_LIMITS_S = (0.5, 1.0, 2.0)
OK, BAD_INPUT, INFEASIBLE = 0, 2, 3
FIGURE = re.compile(r" to \$?\d")  # where a relaxation says the new value
KEYS = {  # kind of change -> where it is written under `constraints`
    "max_replicas": ("maxReplicas",), "min_replicas": ("minReplicas",), "max_spot_share": ("maxSpotShare",),
    "min_zones": ("zones", "min"), "max_zone_share": ("zones", "maxShare"),
    "survive_replicas": ("redundancy", "replicas"), "survive_nodes": ("redundancy", "nodes"),
}  # fmt: skip


def median(figures: Sequence[float]) -> float:
    """The middle one; of an even number, the mean of the middle two."""
    return float(np.median(figures))


def machine() -> None:
    """Print what the machine is worth now: its load, how busy others keep it, and operations that do not change."""
    matrix = np.random.default_rng(0).random((300, 300))
    _, product_s = cpu_s(lambda: [matrix @ matrix for _ in range(50)], 3)
    empty = [timed(sys.executable, "-c", "pass") for _ in range(5)]
    began_s = time.perf_counter()
    _, loop_s = cpu_s(reference)
    slower = (time.perf_counter() - began_s) / loop_s
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; a CPU second takes {slower:.2f} s on the clock")
    print(f"Python loop {reference() * 1e3:.0f} ms of CPU, 50 products of 300 x 300 {product_s * 1e3:.0f} ms; ", end="")
    print(f"`python -c pass` {median([e.wall_s for e in empty]) * 1e3:.0f} ms wall, ", end="")
    print(f"{median([e.cpu_s for e in empty]) * 1e3:.0f} ms CPU")


def example(runs: int) -> bool:
    """The command of the first screen, from start to exit, so many times."""
    words = (MUSTER, "plan", EXAMPLES / "chat.yaml", "--inventory", EXAMPLES / "cluster.yaml")
    ended = [timed(*words, terminal=True) for _ in range(runs)]
    print("\nmuster plan deploy/examples/chat.yaml --inventory deploy/examples/cluster.yaml, on a terminal")
    print(f"{'run':>4} {'exit':>4} {'wall s':>7} {'CPU s':>6}")
    for number, run in enumerate(ended, 1):
        print(f"{number:4} {run.code:4} {run.wall_s:7.2f} {run.cpu_s:6.2f}")
    walls, cpus = [run.wall_s for run in ended], [run.cpu_s for run in ended]
    shown = all(run.code == OK and "/h" in run.out for run in ended)
    figure = f"median {median(walls):.2f} s ({min(walls):.2f} to {max(walls):.2f}), CPU {median(cpus):.2f} s"
    return bar(f"plan on the screen <= {PLAN_S:.0f} s", shown and median(walls) <= PLAN_S, figure)


@dataclass(frozen=True, slots=True)
class Case:
    """An example made infeasible. `names`: a constraint that the answer must name; no figure helps a `worded` one."""

    name: str
    service: str
    names: str
    edit: Callable[[Tree, Tree], None]  # of the service's spec and the inventory's
    worded: bool = False


def _only(inventory: Tree, *groups: str) -> list[Tree]:
    """Leave these node groups alone in the inventory, and no links between zones that may be gone."""
    left = [group for group in inventory["nodeGroups"] if group["name"] in groups]
    inventory["nodeGroups"], inventory["links"] = left, []
    return left


def few_nodes(spec: Tree, inventory: Tree) -> None:
    """Eight A100 for ten times the requests."""
    _only(inventory, "a100")[0]["nodes"] = 1
    del spec["constraints"]["budgetPerHour"]
    spec["workload"]["ratePerSecond"] *= 10


def small_budget(spec: Tree, inventory: Tree) -> None:
    """A dollar per hour where only rented nodes are left."""
    _only(inventory, "a100", "l40s", "l40s-b", "a10g-b", "l4-b")
    spec["constraints"]["budgetPerHour"] = "$1"


def small_power(spec: Tree, inventory: Tree) -> None:
    """A breaker that feeds no H100."""
    _only(inventory, "h100-owned")
    inventory["powerDomains"][0]["budget"] = "150W"


def few_replicas(spec: Tree, inventory: Tree) -> None:
    """Two replicas, of which one may fail."""
    spec["constraints"]["maxReplicas"] = 2


def many_requests(spec: Tree, inventory: Tree) -> None:
    """Ten times the requests, on two replicas: the nodes, the power and the replicas are all too few."""
    spec["workload"]["ratePerSecond"] *= 10
    spec["constraints"] = {"redundancy": {"replicas": 1}, "maxReplicas": 2}


def many_zones(spec: Tree, inventory: Tree) -> None:
    """Three zones, of which the inventory has two."""
    spec["constraints"]["zones"]["min"] = 3


def only_spot(spec: Tree, inventory: Tree) -> None:
    """Half on spot nodes at most, and no others."""
    group = _only(inventory, "a100")[0]
    group |= {"spot": True, "pricePerHour": "$1"}
    del group["commitment"]


def one_node(spec: Tree, inventory: Tree) -> None:
    """The only node may be lost."""
    _only(inventory, "h100-owned")
    spec["constraints"] = {"redundancy": {"nodes": 1}}


def strict_slo(spec: Tree, inventory: Tree) -> None:
    """A hundred microseconds per token."""
    spec["slos"][0]["tpot"] = "0.1ms"


CASES = (
    Case("too few nodes", "chat", "the nodes of a100", few_nodes),
    Case("budget too small", "chat", "budget of chat", small_budget),
    Case("power budget too small", "chat", "the power budget of rack-1", small_power),
    Case("maxReplicas too small", "chat", "maxReplicas of chat", few_replicas),
    Case("ten times the requests", "chat", "maxReplicas of chat", many_requests),
    Case("zones.min above the zones", "moe", "zones.min of agents", many_zones),
    Case("spot share, only spot nodes", "chat", "maxSpotShare of chat", only_spot),
    Case("node redundancy on one node", "chat", "redundancy.nodes of chat", one_node),
    Case("an SLO that no GPU meets", "chat", "slo of chat", strict_slo, worded=True),
)


def _tree(name: str) -> Tree:
    tree = read(EXAMPLES / f"{name}.yaml")[0].root.plain()
    assert isinstance(tree, dict)
    return tree


def _asked(folder: Path, service: Tree, inventory: Tree) -> Ended:
    """The command's answer to this problem."""
    paths = folder / "service.yaml", folder / "inventory.yaml"
    for path, tree in zip(paths, (service, inventory), strict=True):
        path.write_text(dump(tree), encoding="utf-8")
    return timed(MUSTER, "plan", paths[0], "--inventory", paths[1], "--json")


def _make(changes: Sequence[Mapping[str, Any]], spec: Tree, inventory: Tree) -> None:
    """Write the changes of an infeasible answer where the user would."""
    own = spec.setdefault("constraints", {})
    for change in changes:
        kind, target, value = change["kind"], change["target"], change["value"]
        if kind == "nodes":
            next(g for g in inventory["nodeGroups"] if g["name"] == target)["nodes"] = round(value)
        elif kind == "power":
            next(d for d in inventory["powerDomains"] if d["name"] == target)["budget"] = f"{value:.0f}W"
        elif kind == "budget":
            own["budgetPerHour"] = f"${value:.2f}"
        else:
            *inside, key = KEYS[kind]
            place = own.setdefault(*inside, {}) if inside else own
            place[key] = value if kind.endswith("share") else round(value)


def _faults(case: Case, ended: Ended) -> Iterator[str]:
    """What is wrong with an answer to an infeasible problem."""
    why = ended.json().get("infeasible") or {}
    if ended.code != INFEASIBLE:
        yield f"exit code {ended.code}"
    if not any(case.names in constraint for constraint in why.get("constraints", ())):
        yield f"{case.names} not among {why.get('constraints')}"
    relaxation = why.get("relaxation", "")
    if not (relaxation if case.worded else FIGURE.search(relaxation)):
        yield f"no way out in {relaxation!r}"


def infeasible(folder: Path) -> bool:
    """Every case, and the problem again with the changes that its answer carries."""
    print(f"\n{'infeasible problem':28} {'exit':>4} {'solve CPU s':>11} {'wall s':>7} {'CPU s':>6}  way out, again")
    solves, walls, faults = [], [], []
    for case in CASES:
        service, inventory = _tree(case.service), _tree("cluster")
        case.edit(service["spec"], inventory["spec"])
        ended = _asked(folder, service, inventory)
        answer = ended.json()
        why = answer.get("infeasible") or {}
        again = _again(folder, case, why, service, inventory)
        solves.append(float(answer.get("solve_s", np.inf)))
        walls.append(ended.wall_s)
        faults += [f"{case.name}: {fault}" for fault in _faults(case, ended)]
        if not again.startswith(("a plan", "skipped")):
            faults.append(f"{case.name}, changed: {again}")
        print(f"{case.name:28} {ended.code:4} {solves[-1]:11.2f} {walls[-1]:7.2f} {ended.cpu_s:6.2f}  ", end="")
        print(f"{why.get('relaxation')}: {again}")
    print("\n".join(faults) or "every answer names its constraint and a way out; what can be planned again has a plan")
    late = [solve_s for solve_s in solves if solve_s > INFEASIBLE_S]
    figure = f"median {median(solves):.2f} s, worst {max(solves):.2f} s, {len(late)} of {len(solves)} later"
    in_time = bar(f"infeasible told in <= {INFEASIBLE_S:.0f} s of CPU", not late, figure)
    print(f"      (the whole process, imports included: median {median(walls):.2f} s, worst {max(walls):.2f} s wall)")
    held = bar("constraints named, way out holds", not faults, f"{len(faults)} faults in {len(CASES)} cases")
    return in_time and held


def _again(folder: Path, case: Case, why: Tree, service: Tree, inventory: Tree) -> str:
    """What became of the problem with the changes made."""
    if "changes" not in why:
        return "skipped, the answer carries no changes"
    if not why["changes"]:
        return "skipped, no number helps" if case.worded else "no changes"
    _make(why["changes"], service["spec"], inventory["spec"])
    ended = _asked(folder, service, inventory)
    return f"a plan at ${ended.json()['usd_per_hour']:.2f}/h" if ended.code == OK else f"exit code {ended.code}"


def time_limits() -> bool:
    """All four examples at once under `--time-limit`, which counts from when the files are read."""
    paths = [EXAMPLES / f"{name}.yaml" for name in SERVICES]
    words: tuple[str | Path, ...] = (MUSTER, "plan", *paths, "--inventory", EXAMPLES / "cluster.yaml", "--json")
    refused = [timed(*words, "--horizon", "0s") for _ in range(3)]  # refused when all is imported and read
    assert all(run.code == BAD_INPUT for run in refused)
    start_s = median([run.wall_s for run in refused])
    print(f"\nall four examples; start, imports and reading of the files take {start_s:.2f} s")
    print(f"{'limit s':>7} {'exit':>4} {'status':>9} {'gap':>7} {'wall s':>7} {'over s':>7} {'less start s':>12}")
    over = []
    for limit_s in TIME_LIMITS_S:
        ended = timed(*words, "--time-limit", str(limit_s))
        answer = ended.json()
        over.append(ended.wall_s - start_s - limit_s)
        gap = answer.get("gap_ratio")
        print(f"{limit_s:7.1f} {ended.code:4} {answer.get('status', '-'):>9} ", end="")
        print(f"{'-' if gap is None else f'{gap:.1%}':>7} {ended.wall_s:7.2f} {ended.wall_s - limit_s:7.2f} ", end="")
        print(f"{over[-1]:12.2f}")
    allowed = DURATION.show(OVER_S)
    return bar(f"--time-limit kept to {allowed}", max(over) <= OVER_S, f"at most {max(over):.2f} s over it")


def main() -> None:
    """Print every table and bar; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description="The command line on the examples: plan, infeasible, time limit.")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    machine()
    met = [example(args.runs)]
    with TemporaryDirectory() as folder:
        met.append(infeasible(Path(folder)))
    met.append(time_limits())
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
