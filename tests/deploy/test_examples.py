"""Files that the documents and the commands' help tell people to apply are taken by a cluster as they are."""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from controller.embedded.schema import filled, problems
from controller.web.checks import checked
from planner.yaml_text import parse, read

ROOT = Path(__file__).parents[2]
_TEXTS = ("README.md", "deploy/README.md", "controller/web/cli.py", "deploy/examples/kubernetes.yaml")
_APPLIED = re.compile(r"(?:kubectl|muster) (?:apply|diff) -f (deploy/\S+\.yaml)")


def told(text: str) -> set[str]:
    """Files that a text tells to apply."""
    return set(_APPLIED.findall((ROOT / text).read_text("utf-8")))


APPLIED = sorted(set(chain.from_iterable(map(told, _TEXTS))))


def test_the_documents_tell_to_apply_a_fleet_and_a_service() -> None:
    for text in ("README.md", "deploy/README.md"):
        assert {"deploy/examples/kubernetes.yaml", "deploy/examples/chat.yaml"} <= told(text), text


@pytest.mark.parametrize("file", APPLIED)
def test_a_file_that_is_told_to_be_applied_is_valid_in_a_cluster_and_loses_nothing_there(file: str) -> None:
    for document in read(ROOT / file):
        fits(document.root.plain())


def test_objects_that_deploy_readme_shows_are_valid_in_a_cluster() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "deploy/README.md").read_text("utf-8"), re.DOTALL)
    found = [one.root.plain() for block in blocks for one in parse(block.encode(), "README.md")]
    ours = [one for one in found if isinstance(one, dict) and "muster.dev" in str(one.get("apiVersion"))]
    assert ours
    for one in ours:
        fits(one)


def fits(obj: Any) -> None:
    """An API server drops what it does not know, so that too would be a fault."""
    assert problems(filled(obj), None) == []
    assert checked(obj["kind"], obj).problems == ()
    assert _within(obj["spec"], filled(obj)["spec"])


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _within(one, whole[key]) for key, one in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(_within(one, other) for one, other in zip(part, whole, strict=True))
    return bool(part == whole)
