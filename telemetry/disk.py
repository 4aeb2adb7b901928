"""Files that are replaced whole: whoever reads one after a kill or a power loss finds the old text or the new."""

import os
import stat
from pathlib import Path


def replace(path: Path, text: str) -> None:
    """Put `text` in the place of a file, on the disk itself when this returns. Raises OSError, the old file left."""
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the name too: else a power loss may bring the old file back
    finally:
        os.close(folder)


def make_way(path: Path) -> None:
    """Remove the socket of a process that is gone. Raises OSError, also where the path is anything but a socket."""
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(17, "there is a file of this name that is no socket", str(path))
    path.unlink(missing_ok=True)
