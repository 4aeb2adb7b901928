"""What ships with the model: arrays by name from `data/*.npz`, and what their `meta` says of where they are from."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def stored(family: str) -> Mapping[str, NDArray[Any]]:
    """The arrays of a family such as "serving", read once."""
    path = files("planner.perf") / "data" / f"{family}.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return MappingProxyType(dict(arrays))


@cache
def meta_of(family: str) -> Mapping[str, Any]:
    """What a family was fitted on, the hashes of its inputs, and the errors of what was left out."""
    return MappingProxyType(told(stored(family)))


def told(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The meta of a model's arrays; empty while it is being fitted."""
    found: dict[str, Any] = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
    return found
