"""What README.md shows of `muster plan` is what it prints, and what it names is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
CLUSTER = "deploy/examples/cluster.yaml"


def muster(*words: str) -> str:
    ran = [sys.executable, "-m", "planner.main", *words]
    ended = subprocess.run(
        ran, cwd=ROOT, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, check=True
    )
    return ended.stdout


def timeless(text: str) -> str:
    """Without the CPU seconds, the one figure that differs from run to run."""
    return re.sub(r"[0-9.]+ CPU s", "CPU s", text)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The plan of the example, as a file and as printed."""
    file = tmp_path_factory.mktemp("plan") / "plan.yaml"
    return file, muster("plan", "deploy/examples/chat.yaml", "--inventory", CLUSTER, "-o", str(file))


def test_the_example_plan_is_shown_as_it_is_printed(kept: tuple[Path, str]) -> None:
    shown = next(block for block in README.split("```\n") if block.startswith("$"))
    assert timeless(shown) == timeless(kept[1])


def test_the_example_of_changes_is_shown_as_it_is_printed(kept: tuple[Path, str], tmp_path: Path) -> None:
    chat = (ROOT / "deploy/examples/chat.yaml").read_text("utf-8")
    busier = tmp_path / "chat.yaml"
    busier.write_text(chat.replace("ratePerSecond: 80", "ratePerSecond: 120"), "utf-8")
    printed = muster("plan", str(busier), "--inventory", CLUSTER, "--current", str(kept[0]))
    shown = next(block for block in README.split("```\n") if block.startswith("CHANGE"))
    assert shown in printed


def test_every_command_and_path_that_is_named_is_there() -> None:
    commands = set(re.findall(r"^  ([a-z]+)  ", muster("--help"), re.MULTILINE))
    assert len(commands) > 10
    named = set(re.findall(r"`muster ([a-z]+)", README))
    assert named <= commands
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / target).exists(), target
