"""The commands as users run them: output, exit codes, files, and what they say of bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from planner import main
from planner.errors import SolverFault

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
MUSTER = Path(sys.executable).with_name("muster")
CHAT, CLUSTER = str(EXAMPLES / "chat.yaml"), str(EXAMPLES / "cluster.yaml")


def muster(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MUSTER, *words], capture_output=True, text=True, check=False)


def refusal(*words: str) -> str:
    """The one line of an ended command that refused its input."""
    ended = muster(*words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ")
    return ended.stderr


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """The example's plan: its file and its JSON."""
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    ended = muster("plan", CHAT, "--inventory", CLUSTER, "--json", "-o", str(path))
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, object] = json.loads(ended.stdout)
    return path, answer


def test_the_example_is_planned_optimally_in_the_documented_form(planned: tuple[Path, dict[str, object]]) -> None:
    answer = planned[1]
    assert answer["status"] == "optimal"
    assert answer["gap_ratio"] == 0
    assert answer["usd_per_hour"] == pytest.approx(answer["bound_usd_per_hour"])
    assert {"power_w", "solve_s", "allocations", "refused", "infeasible"} <= answer.keys()
    allocations = answer["allocations"]
    assert isinstance(allocations, list)
    documented = (
        "service model pool node_group zone gpu replicas gpus_per_replica tp pp ep dp cp max_batch techniques "
        "power_cap_w usd_per_hour power_w predicted shares busy_ratio engine flags"
    )
    assert all(set(row) == set(documented.split()) for row in allocations)
    carried: dict[tuple[object, ...], float] = {}
    for row in allocations:
        for *bucket, share in row["shares"]:
            carried[tuple(bucket)] = carried.get(tuple(bucket), 0.0) + share
    assert all(share == pytest.approx(1.0) for share in carried.values())


def test_the_plan_file_is_a_plan_and_changes_are_paid_for(planned: tuple[Path, dict[str, object]]) -> None:
    path, answer = planned
    assert yaml.safe_load(path.read_text("utf-8"))["kind"] == "Plan"
    again = muster("plan", CHAT, "--inventory", CLUSTER, "--current", str(path), "--json")
    assert json.loads(again.stdout)["usd_per_hour"] == pytest.approx(answer["usd_per_hour"])


def test_the_table_says_cost_proof_latency_and_why_not() -> None:
    shown = muster("plan", CHAT, "--inventory", CLUSTER, "--explain").stdout
    for words in ("proved optimal", "<= 500 ms", "NOT CHOSEN", "REFUSED", "Router weights", "quantised: fp8 keeps"):
        assert words in shown


def test_reports_fit_the_columns_given_and_100_in_a_pipe() -> None:
    plain = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    for words in (("plan", CHAT, "-i", CLUSTER, "--explain"), ("catalog", "gpus"), ("catalog", "models")):
        for columns, environment in ((100, plain), (80, {**plain, "COLUMNS": "80"})):
            ended = subprocess.run([MUSTER, *words], capture_output=True, text=True, check=True, env=environment)
            assert max(map(len, ended.stdout.splitlines())) <= columns, words


def test_stopping_a_running_gpu_has_a_price_too(planned: tuple[Path, dict[str, object]]) -> None:
    ended = muster("plan", CHAT, "-i", CLUSTER, "--current", str(planned[0]), "--stop-cost", "$100", "--json")
    assert ended.returncode == 0
    assert "--stop-cost" in refusal("plan", CHAT, "-i", CLUSTER, "--stop-cost", "much")


def test_a_solver_fault_is_no_bad_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> NoReturn:
        raise SolverFault("HiGHS ended with 'Solve error'")

    monkeypatch.setattr(main, "commands", fail)
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 4
    assert capsys.readouterr().err == "no plan: the solver failed: HiGHS ended with 'Solve error'\n"


def test_planning_twice_gives_the_same_plan(planned: tuple[Path, dict[str, object]]) -> None:
    again = json.loads(muster("plan", CHAT, "--inventory", CLUSTER, "--json").stdout)
    assert {**again, "solve_s": 0} == {**planned[1], "solve_s": 0}


def test_an_impossible_objective_exits_3_with_a_way_out(tmp_path: Path) -> None:
    spec = tmp_path / "chat.yaml"
    spec.write_text(Path(CHAT).read_text("utf-8").replace("ttft: 500ms", "ttft: 1ms"), "utf-8")
    ended = muster("plan", str(spec), "--inventory", CLUSTER, "--json")
    answer = json.loads(ended.stdout)
    assert ended.returncode == 3
    assert answer["status"] == "infeasible"
    assert answer["infeasible"]["constraints"]
    assert "loosen the SLO of chat" in answer["infeasible"]["relaxation"]


def test_a_budget_of_a_dollar_exits_3_and_names_the_budget(tmp_path: Path) -> None:
    spec = tmp_path / "chat.yaml"
    spec.write_text(Path(CHAT).read_text("utf-8").replace("budgetPerHour: $60", "budgetPerHour: $1"), "utf-8")
    ended = muster("plan", str(spec), "--inventory", CLUSTER)
    assert ended.returncode == 3
    assert "budget of chat" in ended.stdout


def test_a_misspelt_key_is_one_line_with_file_line_and_the_nearest(tmp_path: Path) -> None:
    spec = tmp_path / "chat.yaml"
    spec.write_text(Path(CHAT).read_text("utf-8").replace("ratePerSecond", "ratePerSecnd"), "utf-8")
    said = refusal("plan", str(spec), "--inventory", CLUSTER)
    assert f"{spec}:13: spec.workload" in said
    assert "ratePerSecond" in said


def test_two_services_of_one_name_are_refused() -> None:
    assert "'chat' twice" in refusal("plan", CHAT, CHAT, "--inventory", CLUSTER)


def test_a_negative_or_senseless_limit_is_refused() -> None:
    for value in ("nan", "-1", "soon"):
        ended = muster("plan", CHAT, "--inventory", CLUSTER, "--time-limit", value)
        assert ended.returncode == 2, value
        assert "Traceback" not in ended.stderr


def test_validate_lists_every_file() -> None:
    ended = muster("validate", CHAT, CLUSTER)
    assert ended.returncode == 0
    assert ended.stdout.count(": valid\n") == 2


def test_the_schemas_are_printed() -> None:
    for kind in ("gpuservice", "inventory"):
        assert "properties" in json.loads(muster("schema", kind).stdout)
    assert "(known: gpuservice, inventory" in refusal("schema", "nonsense")


def test_the_catalogue_is_listed_with_its_sources() -> None:
    gpus = json.loads(muster("catalog", "gpus", "--json").stdout)
    models = json.loads(muster("catalog", "models", "--json").stdout)
    assert all(row["sources"] for row in gpus)
    assert {"H100-SXM", "L4"} <= {row["name"] for row in gpus}
    assert next(row for row in models if row["name"] == "llama-3.1-8b")["parameters"] == 8_030_261_248


def test_allocate_reads_an_instance_and_honours_caps(tmp_path: Path) -> None:
    path = tmp_path / "instance.json"
    gpus = {"A": {"cost": 1.0, "tputs": [[1.0]]}, "B": {"cost": 3.0, "tputs": [[2.0]]}}
    path.write_text(
        json.dumps({"gpu_info": gpus, "workload_distribution": [[1.0]], "total_request_rate": 2.0}), "utf-8"
    )
    free = json.loads(muster("allocate", str(path), "--json").stdout)
    capped = json.loads(muster("allocate", str(path), "--cap", "A=0", "--json").stdout)
    none = muster("allocate", str(path), "--max-gpus", "0")
    assert (free["counts"], free["usd_per_hour"], free["weights"]) == ({"A": 2}, 2.0, {"A": [[1.0]]})
    assert capped["counts"] == {"B": 1}
    assert none.returncode == 3
    assert "unknown GPU" in refusal("allocate", str(path), "--cap", "C=1")


def test_problems_of_all_files_are_told_together(tmp_path: Path) -> None:
    spec, hardware = tmp_path / "chat.yaml", tmp_path / "cluster.yaml"
    spec.write_text(
        Path(CHAT).read_text("utf-8").replace("model: meta-llama/Llama-3.1-8B-Instruct", "model: llama-nine"), "utf-8"
    )
    hardware.write_text(Path(CLUSTER).read_text("utf-8").replace("nodes: 2", "nodes: -2"), "utf-8")
    said = refusal("plan", str(spec), "--inventory", str(hardware))
    assert "unknown model 'llama-nine'" in said
    assert "or the path of a config.json" in said
    assert f"{hardware}:" in said
    assert "got -2" in said


def test_json_names_what_a_plan_changes_in_the_one_that_runs(planned: tuple[Path, dict[str, object]]) -> None:
    ended = muster("plan", CHAT, "--inventory", CLUSTER, "--current", str(planned[0]), "--json")
    assert json.loads(ended.stdout)["changes"] == []
    assert "changes" not in planned[1]


def test_a_verified_plan_says_that_its_proof_is_of_means_and_what_busy_and_computing_are() -> None:
    ended = muster("plan", CHAT, "--inventory", CLUSTER, "--verify")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0].partition("/h, ")[2].startswith("proved optimal for means; ")
    text = " ".join(ended.stdout.split())
    assert "Without --verify a plan is for percentiles, by bounds: another problem" in text
    assert "BUSY above is the share of what replicas can carry" in text
    assert "COUNT COMPUTING KV CACHE" in text
    assert text.count(" BUSY ") == 2  # the plan's column and what is said of it
