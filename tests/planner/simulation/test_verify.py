"""Plans put to the test: on the example, by the command, and with the headroom that it takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from planner.errors import BadInput
from planner.planning import plan
from planner.simulation.arrivals import Traffic, read, requests
from planner.simulation.run import Trial, by_process, simulate
from planner.simulation.verify import Verified, verified
from planner.spec.load import load_inventory, load_services

EXAMPLES = Path("deploy/examples")


def test_arrivals_have_the_mean_and_the_bursts_that_are_asked_for() -> None:
    [spec] = load_services(EXAMPLES / "chat.yaml")
    for cv in (1.0, 3.0):
        made = requests(spec, Traffic(rate_per_s=20.0, burst_cv=cv), 0.0, 4000.0, seed=1)
        seconds = [int(((made.arrival_s >= at) & (made.arrival_s < at + 1)).sum()) for at in range(4000)]
        mean = sum(seconds) / len(seconds)
        over = sum((one - mean) ** 2 for one in seconds) / len(seconds) / mean
        assert mean == pytest.approx(20.0, rel=0.1)
        assert over == pytest.approx(cv**2, rel=0.15)


def test_traffic_that_makes_no_sense_is_refused_in_words() -> None:
    for row, words in (({"rate": 1}, "got rate"), ({"factor": -1}, "factor"), ({"swing_ratio": 2}, "0 to 1")):
        with pytest.raises(BadInput, match=words):
            read(row)


def test_a_verified_plan_holds_its_objectives_and_says_what_that_costs() -> None:
    services = load_services(EXAMPLES / "chat.yaml")
    hardware = load_inventory(EXAMPLES / "cluster.yaml")
    made = verified(
        services, hardware, lambda asked: plan(asked, hardware, compare=False),
        [("Poisson", by_process(Traffic(), 0))], Trial(300.0),
    )  # fmt: skip
    assert isinstance(made, Verified)
    assert made.held
    assert made.added_usd_per_hour <= 0.03 * made.fluid_usd_per_hour
    again = simulate(services, made.plan.allocations, hardware, by_process(Traffic(), 0), Trial(300.0))
    assert again[0].met
    assert again[0].account.refused == 0


def test_the_command_says_whether_the_objectives_hold(tmp_path: Path) -> None:
    def muster(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "planner.main", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    files = (str(EXAMPLES / "chat.yaml"), "--inventory", str(EXAMPLES / "cluster.yaml"))
    made = str(tmp_path / "plan.yaml")
    assert muster("plan", *files, "-o", made).returncode == 0
    held = muster("simulate", made, *files, "--duration", "5m", "--json")
    assert held.returncode == 0, held.stderr
    assert json.loads(held.stdout)["services"][0]["met"] is True
    over = muster("simulate", made, *files, "--duration", "5m", "--rate", "400")
    assert over.returncode == 1
    assert "NO" in over.stdout
    bad = muster("simulate", made, *files, "--duration", "soon")
    assert bad.returncode == 2
    assert "--duration: got 'soon'" in bad.stderr
