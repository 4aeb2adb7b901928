"""What is shipped to install Muster with: the chart, what it renders, roles, images, rules and boards."""

import json
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from controller import names
from controller.ceilings import parsed
from controller.crds.generate import text
from controller.crds.kinds import KINDS
from controller.install import Choices, objects
from controller.prometheus import Point
from controller.rates import ServiceKey, heard
from planner.errors import BadInput
from planner.perf.metric_names import NAMES
from tests.controller.prometheus_server import binary
from tests.deploy.chart import CHART, DEPLOY, HELM, named, pod_of, refused, rendered

EVERYTHING = (
    "agent.setter.enabled=true", "agent.podLabels=true", "agent.runtimeClassName=nvidia", "monitoring.podMonitor=true",
    "monitoring.rules=true", "controller.prometheusURL=http://prometheus:9090", "controller.burnInImage=burn:1",
    "controller.burnInRuntimeClassName=nvidia", "imagePullSecrets[0].name=registry", "controller.maxPriorityOf.a=5",
)  # fmt: skip
KNOWN = re.compile(r"^(v1|apps/v1|rbac.authorization.k8s.io/v1|policy/v1|networking.k8s.io/v1)$")


@pytest.mark.parametrize("values", [(), EVERYTHING, ("networkPolicy.enabled=false", "crds.install=false")], ids=len)
def test_whatever_is_chosen_the_chart_renders_valid_objects(values: tuple[str, ...]) -> None:
    found = rendered(*values)
    for one in found:
        if KNOWN.match(one["apiVersion"]):
            kubernetes_validate.validate(one, "1.34", strict=True)
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found]
    assert len(keys) == len(set(keys))


def test_helm_finds_nothing_wrong_and_refuses_values_that_are() -> None:
    assert subprocess.run([HELM, "lint", "--strict", str(CHART)], capture_output=True, check=False).returncode == 0
    for wrong in (
        "controller.image.tag=latest",
        "agent.port=99999",
        "agent.setter.safeRatio=2",
        "controler.replicas=2",
        "controller.maxPriority=2000000000",
        "controller.maxPriorityOf.Team=5",
    ):
        assert refused(wrong), wrong


def test_an_upgrade_of_the_release_upgrades_custom_resources_and_an_uninstall_keeps_them() -> None:
    found = {one["metadata"]["name"]: one for one in rendered() if one["kind"] == "CustomResourceDefinition"}
    assert len(found) == len(KINDS)
    for kind in KINDS:
        assert (CHART / "files" / "crds" / f"{kind.plural}.yaml").read_text("utf-8") == text(kind)
        one = found[f"{kind.plural}.muster.dev"]
        assert one["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert one["spec"] == yaml.safe_load(text(kind))["spec"]


def test_the_plain_base_is_what_the_chart_renders() -> None:
    """To write it anew: make manifests."""
    base = [
        one for one in yaml.safe_load_all((DEPLOY / "kustomize" / "base" / "muster.yaml").read_text("utf-8")) if one
    ]
    chart = json.loads(json.dumps(rendered("crds.install=false")).replace('"Helm"', '"muster"'))
    assert base == chart


def test_the_controller_is_restricted_and_the_agent_has_what_it_needs_alone() -> None:
    found = rendered(*EVERYTHING)
    (controller,) = named(found, "Deployment", "muster-controller")["spec"]["template"]["spec"]["containers"]
    agent = named(found, "DaemonSet", "muster-agent")["spec"]["template"]["spec"]
    by_name = {one["name"]: one for one in agent["containers"]}
    assert controller["securityContext"]["runAsNonRoot"]
    for one in (controller, *by_name.values()):
        assert one["securityContext"]["readOnlyRootFilesystem"]
        assert not one["securityContext"]["allowPrivilegeEscalation"]
        assert not one["securityContext"].get("privileged")
    assert controller["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert by_name["agent"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert by_name["setter"]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
    assert not any(agent.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    plain = named(rendered(), "DaemonSet", "muster-agent")["spec"]["template"]["spec"]
    (usual,) = plain["containers"]
    assert usual["name"] == "agent"
    assert usual["securityContext"]["runAsNonRoot"]
    assert {one["hostPath"]["path"] for one in plain["volumes"] if "hostPath" in one} == {
        "/var/lib/muster-agent", "/run/muster",
    }  # fmt: skip


def test_no_role_has_a_wildcard_or_reads_secrets() -> None:
    for one in rendered():
        for rule in one.get("rules", ()) if one["kind"] in ("Role", "ClusterRole") else ():
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"]), one["metadata"]["name"]
            assert "secrets" not in rule["resources"], one["metadata"]["name"]
    bound = [one for one in rendered() if one["kind"].endswith("Binding")]
    assert not any("muster-agent" in str(one["subjects"]) for one in bound)


def grants(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """(resource with its group, its name where only one is meant, verb)."""
    return {
        (f"{resource}.{group}".rstrip("."), name, verb)
        for rule in rules
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"])
        for name in rule.get("resourceNames", [""])
    }


def test_the_readme_says_verb_by_verb_what_the_controller_may_do() -> None:
    found = rendered()
    may = {
        place: grants(named(found, kind, "muster-controller")["rules"])
        for place, kind in (("cluster", "ClusterRole"), ("its own namespace", "Role"))
    }
    told: dict[str, set[tuple[str, str, str]]] = {place: set() for place in may}
    for line in (DEPLOY / "README.md").read_text("utf-8").splitlines():
        place, _, rest = line.removeprefix("| ").partition(" | ")
        if place not in told:
            continue
        resources, _, verbs = rest.removesuffix(" |").rpartition(" | ")
        for part in resources.split("; "):
            what, _, group = part.partition(" of ")
            what, _, name = what.partition(" called ")
            for resource, verb in product(re.findall(r"`([^`]+)`", what), verbs.split(", ")):
                whole = f"{resource}.{group.strip('`')}" if group else resource
                told[place].add((whole, name.strip("`"), verb))
    assert told == may


def test_commands_in_manifests_are_ones_that_muster_takes() -> None:
    found = rendered(*EVERYTHING)
    pods = [one["spec"]["template"]["spec"] for one in found if one["kind"] in ("Deployment", "DaemonSet")]
    for container in (one for pod in pods for one in pod["containers"]):
        command, *options = container["args"]
        shown = subprocess.run(
            [sys.executable, "-m", "planner.main", command, "--help"], capture_output=True, text=True, check=True,
            env={"COLUMNS": "400", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(DEPLOY.parent)},
        ).stdout  # fmt: skip
        for option in options:
            assert re.search(rf"{option.partition('=')[0]}\b", shown), (command, option)


def test_ceilings_of_priorities_are_passed_as_the_command_reads_them() -> None:
    values = ("controller.maxPriority=1000000000", "controller.maxPriorityOf.team-a=-5")
    for given, most in (((), [1000, 1000]), (values, [1_000_000_000, -5])):
        args = pod_of(rendered(*given), "Deployment", "muster-controller")["containers"][0]["args"]
        found = parsed([one.partition("=")[2] for one in args if one.startswith("--max-priority=")])
        assert [found.of("other"), found.of("team-a")] == most


@pytest.mark.parametrize("file", sorted((DEPLOY / "docker").glob("*.Dockerfile")), ids=lambda file: file.stem)
def test_images_are_pinned_and_do_not_run_as_root(file: Path) -> None:
    lines = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip() and line[0] != "#"]
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users[-1].split(":")[0] not in ("0", "root")
    assert not any(line.startswith("ADD ") for line in lines)
    versions = [line for line in lines if line.startswith(("FROM", "ARG"))]
    assert not any("latest" in line for line in versions)
    assert re.fullmatch(r"ARG PYTHON=\d+\.\d+\.\d+-.+", versions[0])
    assert any("--constraint constraints.txt" in line for line in lines)


def test_rules_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    promtool = str(Path(binary()).with_name("promtool"))
    shutil.copy(CHART / "files" / "rules.yaml", tmp_path / "rules.yaml")
    shutil.copy(DEPLOY / "prometheus" / "tests.yaml", tmp_path / "tests.yaml")
    for words in (["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]):
        ran = subprocess.run([promtool, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_series_of_engines_carry_the_labels_by_which_rates_are_asked_for() -> None:
    monitor = named(rendered("monitoring.podMonitor=true"), "PodMonitor", "muster-engines")["spec"]
    assert monitor["podTargetLabels"] == [names.SERVICE, names.ROLE]
    asked: list[str] = []

    def ask(query: str) -> list[Point]:
        asked.append(query)
        return []

    heard(ask, {ServiceKey("a", "b"): 1})
    for label in monitor["podTargetLabels"]:
        assert any(re.sub(r"\W", "_", label) in query for query in asked)


def exported() -> set[str]:
    """The names of all metrics that Muster exports or asks engines for, without suffixes of histograms."""
    root = DEPLOY.parent
    rows = (root / "telemetry" / "data" / "fields.csv").read_text("utf-8").splitlines()
    found = {f"muster_gpu_{row.split(',')[1]}" for row in rows}
    for file in [*(root / "telemetry").rglob("*.py"), root / "controller" / "page.py"]:
        source = file.read_text("utf-8").replace("{PREFIX}", "muster_gpu_")
        found |= set(re.findall(r'"(muster_[a-z_]+)"', source))
        found |= {f"muster_{name}" for name in re.findall(r'family\(\s*"([a-z_]+)"', source)}
    return found | {f"{engine}:{name}" for engine, by in NAMES.items() for each in by.values() for name in each}


def test_boards_and_rules_ask_for_metrics_that_there_are() -> None:
    known = exported()
    rules = yaml.safe_load((CHART / "files" / "rules.yaml").read_text("utf-8"))
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    asked = [rule["expr"] for rule in every]
    for file in (DEPLOY / "grafana").glob("*.json"):
        board = json.loads(file.read_text("utf-8"))
        asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    known |= {rule["record"] for rule in every if "record" in rule}
    used = {name for expr in asked for name in re.findall(r"\b(?:muster|vllm|sglang)[_:][a-z0-9_:]+", expr)}
    used -= {"muster_dev_service", "muster_dev_role"}
    bare = {re.sub(r"_(count|sum|bucket)$", "", name) if name not in known else name for name in used}
    assert bare <= known, bare - known


def test_install_prints_what_the_chart_renders_under_other_names() -> None:
    plain = objects(Choices())
    assert len(plain) == len(rendered())
    made = objects(Choices("ops", "gpus", "reg.example/c:2", "reg.example/a:2", "http://prom:9090", crds=False))
    text = json.dumps(made)
    assert "muster-system" not in text
    assert "muster-agents" not in text
    pod = named(list(map(dict, made)), "Deployment", "muster-controller")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "reg.example/c:2"
    assert "--prometheus=http://prom:9090" in pod["containers"][0]["args"]
    assert not any(one["kind"] == "CustomResourceDefinition" for one in made)
    crossed = json.dumps(objects(Choices("muster-agents", "muster-system", crds=False)))
    assert crossed.count("muster-system") == json.dumps(objects(Choices(crds=False))).count("muster-agents")
    with pytest.raises(BadInput, match="--namespace: got 'Ops'"):
        objects(Choices("Ops"))
