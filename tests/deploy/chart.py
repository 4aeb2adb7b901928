"""The chart as Helm renders it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "chart" / "muster"
HELM = shutil.which("helm") or str(Path(sys.executable).with_name("helm"))


def rendered(*values: str) -> list[dict[str, Any]]:
    words = [word for value in values for word in ("--set", value)]
    command = [HELM, "template", "muster", str(CHART), "--api-versions", "policy/v1", *words]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return [one for one in yaml.safe_load_all(made.stdout) if one]


def refused(*values: str) -> bool:
    """Whether Helm refuses values."""
    words = [word for value in values for word in ("--set", value)]
    made = subprocess.run([HELM, "template", "muster", str(CHART), *words], capture_output=True, check=False)
    return made.returncode != 0


def named(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(one for one in found if (one["kind"], one["metadata"]["name"]) == (kind, name))


def pod_of(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The pod that a Deployment or DaemonSet makes."""
    pod = named(found, kind, name)["spec"]["template"]["spec"]
    assert isinstance(pod, dict)
    return pod


def by_name(containers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in containers}
