"""What an operator reads after installing: what is not judged with the values chosen, and what it would take."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.chart import CHART, DEPLOY, HELM

NO_PODS, NO_CALLER, NO_AGENTS = "Agents name no pods", "vLLM and SGLang do not", "No agents are installed"
NO_PROMETHEUS = "The controller asks no Prometheus"


def notes(folder: Path, *values: str) -> str:
    """The notes as Helm renders them, which it shows only where there is a cluster: taken for an object here."""
    chart = folder / "muster"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "NOTES.txt").rename(chart / "notes.txt")
    (chart / "templates" / "notes.yaml").write_text('notes: {{ tpl (.Files.Get "notes.txt") . | toJson }}', "utf-8")
    words = [word for value in values for word in ("--set", value)]
    command = [HELM, "template", "muster", str(chart), "-s", "templates/notes.yaml", *words]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return str(json.loads(made.partition("notes: ")[2]))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((), {NO_PODS, NO_PROMETHEUS}),
        (("agent.podLabels=true",), {NO_CALLER, NO_PROMETHEUS}),
        (("agent.enabled=false", "controller.prometheusURL=http://prometheus:9090"), {NO_AGENTS}),
    ],
    ids=["by default", "with labels of pods", "without agents"],
)
def test_the_notes_say_what_is_not_judged_as_it_is_installed(
    values: tuple[str, ...], said: set[str], tmp_path: Path
) -> None:
    text = notes(tmp_path, *values)
    assert {one for one in (NO_PODS, NO_CALLER, NO_AGENTS, NO_PROMETHEUS) if one in text} == said
    assert "kubectl get gpuservices -w" in text


def test_the_readme_and_the_values_say_what_judging_latency_on_a_gpu_takes() -> None:
    for file in (DEPLOY / "README.md", CHART / "values.yaml"):
        text = " ".join(file.read_text("utf-8").replace("#", "").split())
        for part in ("podLabels", "telemetry/client.py", "vLLM and SGLang do not"):
            assert part in text, (file, part)
