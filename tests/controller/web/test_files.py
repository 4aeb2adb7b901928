"""Objects of files are checked as the server checks them, with file and line, and no file of a server is read."""

from pathlib import Path
from typing import Any

import pytest

from controller.specs import service
from controller.web.checks import checked
from controller.web.files import given
from controller.web.problems import not_found
from planner.yaml_text import dump, read_path, show_path
from tests.controller.web.cluster import a_spec


def test_problems_of_any_document_have_its_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    first = dump(a_spec("good"))
    file.write_text(f"{first}---\n{dump(a_spec('bad', qualityFloor=2))}", "utf-8")
    good, bad = given([str(file)], "")
    assert good.problems() == []
    [line] = bad.problems()
    at = 1 + next(number for number, text in enumerate(file.read_text().splitlines()) if "qualityFloor" in text)
    assert line.startswith(f"{file}:{at}: spec.qualityFloor: ")
    assert bad.at("") == f"{file}:{first.count(chr(10)) + 2}"


@pytest.mark.parametrize("path", [("spec", "slos", 0, "ttft"), ("metadata", "labels", "a/b"), ("spec",), ()])
def test_a_path_that_is_written_is_read_back(path: tuple[str | int, ...]) -> None:
    assert read_path(show_path(path)) == path


@pytest.mark.parametrize("name", ["secret.json", "folder"])
def test_models_and_traces_that_are_paths_are_not_looked_for(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if file.suffix:
        file.write_text("{}")
    else:
        file.mkdir()
        (file / "config.json").write_text("{}")
    load: dict[str, Any] = {"ratePerSecond": 1, "trace": str(tmp_path / "absent.csv")}
    for obj in (a_spec("x", model=str(file)), a_spec("x", workload=load)):
        words = [one.detail for one in checked("GPUService", obj).problems]
        read = service({**obj, "spec": {"deployment": "online", **obj["spec"]}})
        assert isinstance(read, list)
        assert words
        for text in [*words, *read]:
            assert not any(one in text for one in ("cannot be read", "config.json", "nonexistent")), text


def test_what_is_not_there_is_named() -> None:
    assert str(not_found("service", "default/nope")) == "there is no service default/nope"
