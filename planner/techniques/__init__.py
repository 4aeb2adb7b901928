"""Every technique, one file each, found by file name; nothing to edit when one is added."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which imports this module, to find what a case's degrees call for
    from planner.technique import Technique


@cache
def techniques() -> "Mapping[str, type[Technique]]":
    """Name -> class, in order of name."""
    files = sorted(info.name for info in iter_modules(__path__))
    found = {name.replace("_", "-"): import_module(f"{__name__}.{name}").TECHNIQUE for name in files}
    return MappingProxyType(found)
