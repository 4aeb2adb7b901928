"""The CSV files of the package (`data/`), read without `importlib.resources`: that brings 0.6 MiB into each process."""

import csv
import pkgutil


def table(name: str) -> list[dict[str, str]]:
    """Every row of a file. Raises FileNotFoundError."""
    text = pkgutil.get_data("telemetry", f"data/{name}")
    if text is None:
        raise FileNotFoundError(f"telemetry/data/{name}")
    return list(csv.DictReader(text.decode().splitlines()))
