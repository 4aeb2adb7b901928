"""Snapshots of decisions in a folder, for replay: the newest few, each in a file named by its decision."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from controller.decision import decision_id
from planner.errors import BadInput

_MOST_FILES = 200
_MOST_BYTES = 64 << 20


class Snapshots:
    """Keeps none where `folder` is None. A disk that is full does not stop planning."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def keep(self, decision: str, snapshot: Mapping[str, Any]) -> None:
        """Store a snapshot, and drop the oldest of too many."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            path, beside = self._folder / f"{decision}.json", self._folder / f".{decision}.json"
            beside.write_bytes(orjson.dumps(snapshot))
            beside.replace(path)
            files = sorted(self._folder.glob("[0-9a-f]*.json"), key=lambda file: file.stat().st_mtime)
            for file in files[:-_MOST_FILES]:
                file.unlink()


def load(path: Path) -> Mapping[str, Any]:
    """A snapshot from its file, whose name says its decision; raises BadInput."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadInput(f"{path}: got {path.stat().st_size} bytes, allowed: at most {_MOST_BYTES}")
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{path}: got no JSON: {error}") from None
    if not isinstance(found, dict) or not {"format", "services", "hardware", "current"} <= found.keys():
        raise BadInput(f"{path}: got no snapshot, allowed: a file that muster controller --snapshots wrote")
    return found


def matches(path: Path, snapshot: Mapping[str, Any]) -> bool:
    """Whether a file's content is that of the decision in its name."""
    return path.stem == decision_id(snapshot)
