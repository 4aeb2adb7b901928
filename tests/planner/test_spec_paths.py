"""Paths that a spec names: regular files and links to them are read, anything else is refused at once."""

import json
import os
from pathlib import Path

import pytest

from planner.spec import validate
from planner.yaml_text import Plain
from tests.planner.config_factories import LLAMA
from tests.planner.spec_factories import changed, service_with, written


def spec(folder: Path, document: Plain) -> list[str]:
    """Problems of a service, with the catalogue that ships."""
    document = changed(document, ("spec", "constraints"), {})
    return [line.replace(f"{folder}/", "") for line in validate(written(folder, document))]


def traced(name: str) -> Plain:
    workload: Plain = {"ratePerSecond": 1, "trace": name}
    return service_with({("workload",): workload, ("model",): "llama-3.1-8b"})


def test_a_pipe_as_trace_or_model_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    [found] = spec(tmp_path, traced("pipe.json"))
    assert "spec.workload.trace: pipe.json: cannot be read (not a regular file), allowed: " in found
    found, *_ = spec(tmp_path, service_with({("model",): "pipe.json"}))
    assert "spec.model: pipe.json: cannot be read (not a regular file), allowed: the config.json" in found


@pytest.mark.parametrize("name", ["/dev/zero", "/", "..", "absent"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    [found] = spec(tmp_path, traced(name))
    assert "cannot be read (" in found


def test_a_link_to_a_config_is_read(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text(json.dumps(LLAMA), "utf-8")
    (tmp_path / "config.json").symlink_to("blob")
    assert spec(tmp_path, service_with({("model",): "config.json"})) == []


def test_a_file_of_secrets_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("root:$6$hunter2:19000:0:99999:7:::\n", "utf-8")
    [found] = spec(tmp_path, traced("secrets"))
    assert "secrets:1: got a first line that is no known header, allowed: CSV with" in found
    assert "hunter2" not in found
