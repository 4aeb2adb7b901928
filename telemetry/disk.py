"""Files that are replaced whole: whoever reads one after a kill or a power loss finds the old text or the new."""

import os
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
