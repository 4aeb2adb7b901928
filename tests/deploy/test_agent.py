"""The agent's DaemonSet: one user throughout, whichever flags are set, and places on the nodes that have GPUs."""

import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from controller.health import quarantined
from tests.controller.objects import a_node
from tests.deploy.chart import by_name, pod_of, refused, rendered

FLAGS = ("agent.podLabels", "agent.kernelLog", "agent.setter.enabled")
NOBODY = 65532
needs_root = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")


@pytest.mark.parametrize("chosen", list(product((False, True), repeat=len(FLAGS))), ids=str)
def test_folders_are_given_to_the_user_that_the_agent_is_and_that_the_setter_obeys(chosen: tuple[bool, ...]) -> None:
    flags = dict(zip(FLAGS, chosen, strict=True))
    pod = pod_of(rendered(*(f"{flag}={str(on).lower()}" for flag, on in flags.items())), "DaemonSet", "muster-agent")
    made = by_name(pod["containers"])
    context = made["agent"]["securityContext"]
    user, group = context["runAsUser"], context["runAsGroup"]
    assert user == (0 if flags["agent.podLabels"] or flags["agent.kernelLog"] else NOBODY)
    assert context.get("runAsNonRoot", False) == (user != 0)
    given = re.findall(r"chown\(.*?, (\d+), (\d+)\b", pod["initContainers"][0]["command"][-1])
    assert set(given) == {(str(user), str(group))}
    assert ("setter" in made) == flags["agent.setter.enabled"]
    if "setter" in made:
        assert {f"--allow-user={user}", f"--group={group}"} <= set(made["setter"]["args"])
        assert made["setter"]["securityContext"]["runAsGroup"] == group


@needs_root
@pytest.mark.parametrize("values", [(), ("agent.podLabels=true",), ("agent.kernelLog=true",)], ids=str)
@pytest.mark.parametrize("before", [0, NOBODY])
def test_without_roots_powers_an_agent_writes_where_another_user_was_before(
    before: int, values: tuple[str, ...]
) -> None:
    pod = pod_of(rendered(*values), "DaemonSet", "muster-agent")
    context = by_name(pod["containers"])["agent"]["securityContext"]
    code = pod["initContainers"][0]["command"][-1]
    with TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name, file in (("state", "kept.json"), ("muster", "jobs.sock")):
            (root / name).mkdir(mode=0o700)
            (root / name / file).touch(mode=0o600)
            os.chown(root / name / file, before, before)
            os.chown(root / name, before, before)
        code = code.replace("/run/muster", f"{root}/muster").replace("/state", f"{root}/state")
        ran("-all,+chown", 0, 0, code)
        again = f"open('{root}/state/kept.json', 'r+').write('x'); import os; os.unlink('{root}/muster/jobs.sock')"
        bind = f"import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind('{root}/muster/jobs.sock')"
        ran("-all", context["runAsUser"], context["runAsGroup"], f"{again}; {bind}")


def ran(powers: str, user: int, group: int, code: str) -> None:
    """Run Python as a container would that has these capabilities."""
    who = ["--reuid", str(user), "--regid", str(group), "--clear-groups"]
    words = ["setpriv", *who, "--inh-caps", powers, "--bounding-set", powers, sys.executable, "-S", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
MATCHES = f"agent.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0]"


def tolerated(taint: dict[str, str], tolerations: list[dict[str, str]]) -> bool:
    """As Kubernetes has it."""
    return any(
        one.get("key", taint["key"]) == taint["key"]
        and one.get("effect", taint["effect"]) == taint["effect"]
        and (one.get("operator") == "Exists" or one.get("value", "") == taint["value"])
        for one in tolerations
    )


@pytest.mark.parametrize(
    "values", [(), ("agent.tolerations[0].key=ours", "agent.tolerations[0].operator=Exists")], ids=len
)
def test_agents_run_on_nodes_with_the_usual_taints_of_gpus_and_are_heard_on_those_that_are_out(
    values: tuple[str, ...],
) -> None:
    tolerations = pod_of(rendered(*values), "DaemonSet", "muster-agent")["tolerations"]
    out = (quarantined(a_node("a"), "Xid 79", 0.0)["spec"]["taints"][0], taint("node.kubernetes.io/unschedulable"))
    assert all(tolerated(one, tolerations) for one in out)
    usual = (taint("nvidia.com/gpu", "present"), taint("nvidia.com/gpu", "true"), taint("sku", "gpu"))
    assert [tolerated(one, tolerations) for one in usual] == [not values] * 3
    assert tolerated(taint("ours"), tolerations) == bool(values)
    assert not tolerated(taint("sku", "memory"), tolerations)


def taint(key: str, value: str = "") -> dict[str, str]:
    return {"key": key, "value": value, "effect": "NoSchedule"}


def test_pods_are_pulled_placed_and_run_as_said() -> None:
    rows = {"key": "gpu", "operator": "Exists"}
    found = rendered(
        "imagePullSecrets[0].name=registry", "agent.runtimeClassName=nvidia", "agent.nodeSelector.pool=gpus",
        r"agent.nodeSelector.nvidia\.com/gpu\.present=null",
        *(f"{MATCHES}.{key}={value}" for key, value in rows.items()),
        "controller.burnInImage=burn:1", "controller.burnInRuntimeClassName=nvidia",
    )  # fmt: skip
    agent, controller = pod_of(found, "DaemonSet", "muster-agent"), pod_of(found, "Deployment", "muster-controller")
    for pod in (agent, controller):
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert (agent["runtimeClassName"], agent["nodeSelector"]) == ("nvidia", {"pool": "gpus"})
    (term,) = agent["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [rows]
    args = controller["containers"][0]["args"]
    assert {"--burn-in-runtime-class=nvidia", "--burn-in-pull-secret=registry"} <= set(args)
    for wrong in (
        "imagePullSecrets[0].nam=registry",
        "agent.tolerations[0].effect=Never",
        "agent.runtimeClassName=A b",
    ):
        assert refused(wrong), wrong
