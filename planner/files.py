"""Text files of the commands: read with a bound on their size, written whole or not at all."""

from pathlib import Path

from planner.errors import BadInput

_MOST_BYTES = 64 * 2**20


def write_text(path: Path, text: str) -> None:
    """Write beside and move into place: a full disk or a kill never leaves half a file. Raises BadInput."""
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot write the plan: {error.strerror}") from None


def read_text(path: Path) -> str:
    """The text of a file; raises BadInput."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise BadInput(f"{path}: got more than {_MOST_BYTES >> 20} MiB, allowed: up to that")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None
