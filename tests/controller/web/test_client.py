"""The commands that are clients of the API, run as people run them."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.web.tables import below, resource, table
from controller.web.why import explained, whole
from planner.show import lines
from planner.yaml_text import dump, parse
from tests.controller.web.cluster import a_spec
from tests.controller.web.served import Served, served, served_with_tokens

MUSTER = Path(sys.executable).with_name("muster")


@pytest.fixture(scope="module")
def made() -> Iterator[Served]:
    with served() as one:
        one.cluster.service()
        one.cluster.passes(60)
        yield one


def run(made: Served, *arguments: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "MUSTER_SERVER": made.url, "COLUMNS": "160", "MUSTER_TOKEN": "", **environment}
    return subprocess.run([MUSTER, *arguments], env=given, input=text, capture_output=True, text=True, check=False)


def shown(made: Served, *arguments: str, text: str = "") -> str:
    ended = run(made, *arguments, text=text)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_get_shows_a_table_and_o_the_objects(made: Served) -> None:
    lines = shown(made, "get", "services").splitlines()
    assert lines[0].split()[:3] == ["NAME", "MODEL", "READY"]
    assert lines[1].split()[:3] == ["chat", "Llama-3.1-8B-Instruct", "3/3"]
    assert shown(made, "get", "gsvc", "-A").splitlines()[0].startswith("NAMESPACE")
    obj = json.loads(shown(made, "get", "service/chat", "-o", "json"))
    assert (obj["kind"], obj["metadata"]["name"]) == ("GPUService", "chat")
    [document] = parse(shown(made, "get", "service", "chat", "-o", "yaml").encode(), "output")
    assert document.root.plain() == obj
    listed = json.loads(shown(made, "get", "services", "-o", "json"))
    assert listed["items"] == [obj]
    assert shown(made, "get", "services", "-o", "name") == "services/chat\n"
    domain = json.loads(shown(made, "get", "powerdomains", "-o", "json"))
    assert domain["items"][0]["spec"] == {"budget": "8000W"}
    for what in ("plans", "nodes", "gpus", "inventories", "powerdomains", "events"):
        assert len(shown(made, "get", what, "-o", "wide").splitlines()) >= 2, what


def test_what_is_not_there_is_told_in_a_line_with_an_exit_code_of_its_own(made: Served) -> None:
    for arguments, code, words in (
        (("get", "service", "nothing"), 3, "error: there is no service default/nothing"),
        (("describe", "node", "nothing"), 3, "error: there is no node nothing"),
        (("get", "nonsense"), 2, "did you mean 'nodes'"),
        (("get", "services", "-o", "xml"), 2, "allowed: wide, json, yaml, name"),
        (("get", "gpus", "0"), 2, "allowed: none for gpus"),
        (("describe", "service"), 2, "NAME: got none"),
        (("delete",), 2, "allowed: one of them"),
        (("delete", "node", "big-0"), 2, "allowed: service, inventory, powerdomain"),
        (("apply", "-f", "absent.yaml"), 2, "cannot be read"),
        (("top", "events"), 2, "allowed: services, nodes, gpus, powerdomains"),
    ):
        ended = run(made, *arguments)
        assert (ended.returncode, ended.stdout) == (code, ""), arguments
        assert re.fullmatch(r"error: [^\n]*\n", ended.stderr), ended.stderr
        assert words in ended.stderr


def test_a_server_that_does_not_answer_is_exit_code_4(made: Served) -> None:
    for server in ("http://127.0.0.1:9", f"{made.url}/nothing"):
        ended = run(made, "get", "services", "--server", server)
        assert (ended.returncode, ended.stderr.count("\n")) in ((4, 1), (3, 1)), ended.stderr
    assert run(made, "get", "services", "--server", "ftp://x").returncode == 2


def test_apply_says_what_it_did_and_diff_what_it_would(made: Served, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    domain: dict[str, Any] = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "PowerDomain",
        "metadata": {"name": "rack-2"},
    }

    def written(budget: str) -> None:
        load = {"ratePerSecond": 0, "buckets": [{"inputTokens": 64, "outputTokens": 16, "share": 1}]}
        idle = a_spec("idle", "team-a", workload=load)
        file.write_text(f"{dump(idle)}---\n{dump({**domain, 'spec': {'budget': budget}})}", "utf-8")

    written("9kW")
    first = run(made, "diff", "-f", str(file))
    assert first.returncode == 1
    assert "+  budget: 9kW" in first.stdout
    assert shown(made, "apply", "-f", str(file), "--dry-run") == (
        "gpuservice/idle created (dry run)\npowerdomain/rack-2 created (dry run)\n"
    )
    assert shown(made, "apply", "-f", str(file)) == "gpuservice/idle created\npowerdomain/rack-2 created\n"
    assert shown(made, "apply", "-f", str(file)) == "gpuservice/idle unchanged\npowerdomain/rack-2 unchanged\n"
    assert shown(made, "diff", "-f", str(file)) == ""
    written("7kW")
    changed = run(made, "diff", "-f", str(file))
    assert changed.returncode == 1
    assert [line for line in changed.stdout.splitlines() if line.startswith(("-  ", "+  "))] == [
        "-  budget: 9kW", "+  budget: 7kW"
    ]  # fmt: skip
    out = shown(made, "apply", "-f", "-", text=file.read_text("utf-8"))
    assert out == "gpuservice/idle unchanged\npowerdomain/rack-2 configured\n"
    assert shown(made, "delete", "-f", str(file)) == "powerdomain/rack-2 deleted\ngpuservice/idle deleted\n"
    made.cluster.passes(30)
    gone = run(made, "delete", "service", "idle", "-n", "team-a")
    assert gone.returncode == 3
    assert shown(made, "delete", "service", "idle", "-n", "team-a", "--ignore-not-found") == ""


def test_every_problem_of_a_file_is_a_line(made: Served, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(dump(a_spec("bad", qualityFloor=2, slos=[{"name": "a", "ttft": "500"}])), "utf-8")
    ended = run(made, "apply", "-f", str(file))
    assert (ended.returncode, ended.stdout) == (2, "")
    *lines, last = ended.stderr.splitlines()
    assert len(lines) == 2
    texts = file.read_text("utf-8").splitlines()
    for path in ("spec.qualityFloor", "spec.slos[0].ttft"):
        at = 1 + next(number for number, line in enumerate(texts) if f"{path.rpartition('.')[2]}:" in line)
        assert sum(line.startswith(f"{file}:{at}: {path}: ") for line in lines) == 1, lines
    assert last == "error: 2 problems"
    file.write_text("kind: Pod\nmetadata: {name: x}\n", "utf-8")
    assert "unknown kind 'Pod'" in run(made, "apply", "-f", str(file)).stderr


def test_describe_tells_state_figures_and_events(made: Served) -> None:
    service = shown(made, "describe", "service", "chat")
    assert "3 of 3 replicas serve" in service
    assert "PlanSolved" in service
    assert re.search(r"chat +TPOT +p95 +60 ms", service)
    assert "first_plan" in shown(made, "describe", "plan/chat")
    assert "GPU-big-0-3" in shown(made, "describe", "node", "big-0")
    assert "8.00 kW" in shown(made, "describe", "powerdomain", "rack-1")


def test_describe_and_top_give_programs_what_they_show(made: Served) -> None:
    told = json.loads(shown(made, "describe", "service", "chat", "--json"))
    assert told["service"]["key"] == "default/chat"
    assert json.loads(shown(made, "top", "-o", "json"))["gpus"]
    assert [one["name"] for one in json.loads(shown(made, "top", "nodes", "--json"))["items"]][:1] == ["big-0"]
    assert "allowed: json, yaml" in run(made, "top", "-o", "wide").stderr
    assert "allowed: a table" in run(made, "top", "-w", "--json").stderr


def test_top_shows_the_fleet(made: Served) -> None:
    text = shown(made, "top")
    assert text.startswith("$2.40/h; ")
    assert "1 of 1 services ready; 3 of 3 replicas serve; 3 of 12 GPUs in use" in text
    assert shown(made, "top", "nodes").splitlines()[0].split()[:3] == ["NAME", "GROUP", "GPU"]


def test_events_are_followed_as_they_come(made: Served) -> None:
    given = {**os.environ, "MUSTER_SERVER": made.url, "MUSTER_TOKEN": "", "COLUMNS": "200"}
    process = subprocess.Popen([MUSTER, "events", "--for", "service/followed", "-w"], env=given,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        end_s = time.monotonic() + 20
        while made.cluster_streams() == 0 and time.monotonic() < end_s:
            time.sleep(0.05)
        load: dict[str, Any] = {"ratePerSecond": 1, "buckets": [{"inputTokens": 64, "outputTokens": 16, "share": 1}]}
        made.cluster.service("followed", workload=load)
        made.cluster.passes(30)
        assert process.stdout is not None
        assert "gpuservice/default/followed" in process.stdout.readline()
    finally:
        process.terminate()
        process.communicate()


def test_every_client_command_names_the_variables_of_server_and_token(made: Served) -> None:
    commands = (("apply",), ("get",), ("describe",), ("diff",), ("delete",), ("events",), ("top",))
    for command in (*commands, ("fault", "list"), ("fault", "inject"), ("fault", "clear")):
        text = shown(made, *command, "--help")
        assert "Example" in text, command
        assert "MUSTER_SERVER" in text, command
        assert "MUSTER_TOKEN" in text, command


def test_events_about_what_is_not_there_name_what_is_near(made: Served) -> None:
    for about in ("chatt", "service/chatt"):
        ended = run(made, "events", "--for", about)
        assert (ended.returncode, ended.stdout) == (3, "")
        assert ended.stderr == "error: there is nothing called chatt; did you mean chat?\n"
    assert run(made, "events", "--for", "nobody-is-called-so").stderr.count("\n") == 1
    quiet = run(made, "events", "--for", "node/big-1")
    assert (quiet.returncode, quiet.stderr) in ((0, "no events\n"), (0, ""))


def test_faults_are_listed_injected_and_cleared(made: Served) -> None:
    none = run(made, "fault", "list")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "no fault is played\n")
    assert shown(made, "fault", "inject", "big-1/3", "xid", "--xid", "79") == "GPU 3 of big-1: xid\n"
    told = json.loads(shown(made, "fault", "inject", "big-1/2", "slow", "--factor", "0.6", "--json"))
    assert told == {"said": "GPU 2 of big-1: slow"}
    assert [line.split() for line in shown(made, "fault", "list").splitlines()] == [
        ["NODE", "GPU", "KIND", "HOW"],
        ["big-1", "2", "slow", "60%", "of", "its", "speed"],
        ["big-1", "3", "xid", "Xid", "79"],
    ]
    assert json.loads(shown(made, "fault", "list", "--json"))["items"] == [
        {"node": "big-1", "gpu": 2, "kind": "slow", "xid": None, "factor": 0.6},
        {"node": "big-1", "gpu": 3, "kind": "xid", "xid": 79, "factor": None},
    ]
    assert shown(made, "fault", "clear", "big-1/2") == "GPU 2 of big-1: clear\n"
    assert shown(made, "fault", "clear", "--all") == "GPU 3 of big-1: clear\n"
    assert json.loads(shown(made, "fault", "list", "--json")) == {"items": []}


def test_a_fault_that_cannot_be_played_is_refused_in_a_line(made: Served) -> None:
    for arguments, words in (
        (("inject", "big-1", "lost"), "NODE/GPU: got 'big-1', allowed: a node and the index"),
        (("inject", "big-1/3", "xid"), "allowed: xid --xid N, slow --factor SHARE, lost"),
        (("inject", "big-1/3", "lost", "--xid", "79"), "allowed: xid --xid N"),
        (("inject", "big-1/3", "dead"), "KIND: got 'dead', allowed: xid, slow, lost, clear"),
        (("inject", "nowhere/3", "lost"), "allowed: a GPU of big-0"),
        (("clear",), "got both or neither of NODE/GPU and --all"),
    ):
        ended = run(made, "fault", *arguments)
        assert (ended.returncode, ended.stdout) == (2, ""), arguments
        assert words in ended.stderr, ended.stderr
    with served(site={"faults": None}) as real:
        for command in (("list",), ("inject", "big-1/3", "lost"), ("clear", "--all")):
            ended = run(real, "fault", *command)
            assert ended.returncode == 3
            assert ended.stderr.startswith("error: faults: allowed: on a cluster that `muster up` embeds"), ended.stderr


def test_a_reason_that_a_column_cuts_off_is_shown_whole() -> None:
    text = "raise the nodes of h100 from 2 to 25 and raise the power budget of rack-1 from 6 to 40 kW"
    ready = {"type": "Ready", "status": "False", "reason": "Infeasible", "message": f"{text}; 0 of 0 replicas serve"}
    assert whole({"why": f"{text[:60]}…", "conditions": [ready]}) == ready["message"]
    assert whole({"why": "in few words", "conditions": [ready]}) == ""
    assert explained({"why": "in few words", "conditions": [ready]}) == ready["message"]
    serves = {**ready, "status": "True"}
    held = {"type": "RebalanceHeld", "status": "True", "message": "another plan is due and waits"}
    assert explained({"why": "CoolingDown", "conditions": [serves, held]}) == held["message"]
    assert explained({"why": "-", "conditions": [ready]}) == whole({}) == ""
    long = {"metadata": {"name": "large"}, "spec": {}, "status": {"why": f"{text[:60]}…", "conditions": [ready]}}
    kind = resource("services")
    shown = lines([below(kind, table(kind, [long, {**long, "status": {}}], 0.0, False, False), [long, long])], 100)
    assert shown[1][0].endswith("see below")
    assert " ".join("".join(line for line, _ in shown[2:4]).split()) == ready["message"]


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    with served_with_tokens(tmp_path / "state") as (made, token):
        file = tmp_path / "token"
        file.write_text(token + "\n", "utf-8")
        refused = run(made, "get", "services")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "give one by --token-file or MUSTER_TOKEN" in refused.stderr
        assert "this token is not known here; " in run(made, "get", "services", MUSTER_TOKEN="another").stderr
        assert run(made, "get", "services", "--token-file", str(file)).returncode == 0
        assert run(made, "get", "services", MUSTER_TOKEN=token).returncode == 0
        assert run(made, "get", "services", MUSTER_TOKEN="two words").returncode == 2
        elsewhere = run(made, "get", "services", "--server", "http://192.0.2.1", MUSTER_TOKEN=token)
        assert "allowed: https, or http on the loopback" in elsewhere.stderr
        assert token not in elsewhere.stderr
