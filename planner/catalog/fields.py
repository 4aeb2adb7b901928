"""Typed reading of what a file says, key by key: every refusal names the place, what it got and what is allowed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.errors import BadInput
from planner.units import got
from planner.yaml_text import NodePath

MOST = 2**30  # of anything counted here: keeps the work on a hostile file small
MOST_LAYERS = 1024


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping that stands at `path` in a file; `at` shows a path as file, line and key. A null counts as absent."""

    values: Mapping[str, object]
    at: Callable[[NodePath], str]
    path: NodePath = ()

    def has(self, key: str) -> bool:
        """Whether the key has a value."""
        return self.values.get(key) is not None

    def refuse(self, key: str, allowed: str, what: str | None = None) -> BadInput:
        """The error for one key; `what` if something else than its value is wrong."""
        return BadInput(f"{self.at((*self.path, key))}: got {what or shown(self.values.get(key))}, allowed: {allowed}")

    def refuse_any(self, *keys: str) -> None:
        """Raise BadInput where one of the keys says that there is something which nothing here counts."""
        for key in keys:
            if self.values.get(key) not in (None, False, 0):
                raise self.refuse(key, "none: what it stands for cannot be counted")

    def count(self, key: str, default: int | None = None, *, least: int = 1, most: int = MOST) -> int:
        """A whole number; raises BadInput where it is absent and has no default."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not least <= value <= most:
            raise self.refuse(key, f"an integer from {least} to {most}")
        return value

    def number(self, key: str) -> float:
        """A number above 0."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST:
            raise self.refuse(key, f"a number above 0, to {MOST}")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false; absent is false."""
        value = self.values.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text of one line that is not empty."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.refuse(key, "a text of one line")
        return value

    def items(self, key: str) -> list[object]:
        """A list; an absent one is empty."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.refuse(key, "a list")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; an absent one is empty."""
        items = self.items(key)
        texts = [item for item in items if isinstance(item, str) and item]
        if len(texts) != len(items):
            raise self.refuse(key, "a list of texts")
        return texts

    def per_layer(self, key: str, known: Sequence[str] | Sequence[int], layers: int) -> list[object]:
        """A list with one of the known words or numbers for every layer."""
        items = self.items(key)
        if len(items) != layers:
            raise self.refuse(key, f"one for each of {layers} layers", f"a list of {len(items)}")
        for item in items:
            if type(item) is not type(known[0]) or item not in known:
                raise self.refuse(key, f"a list of {', '.join(map(str, known))}", shown(item))
        return items

    def child(self, key: str) -> "Fields":
        """The mapping under a key."""
        return Fields({}, self.at, self.path).below(key, self.values.get(key))

    def below(self, step: str | int, value: object) -> "Fields":
        """A value one step further down, which must be a mapping."""
        path = (*self.path, step)
        if not isinstance(value, Mapping):
            raise BadInput(f"{self.at(path)}: got {shown(value)}, allowed: a mapping")
        return Fields(value, self.at, path)

    def with_defaults(self, defaults: Mapping[str, object]) -> "Fields":
        """The same with other values where a key is absent."""
        stated = {key: value for key, value in self.values.items() if value is not None}
        return replace(self, values={**defaults, **stated})

    def only(self, allowed: Sequence[str]) -> None:
        """Refuse keys that mean nothing here."""
        for key in self.values:
            if key not in allowed:
                raise self.refuse(key, ", ".join(sorted(allowed)), f"the key {got(key)}")


def shown(value: object) -> str:
    """A value as an error message shows it; what may be deep is only named."""
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "a mapping" if isinstance(value, Mapping) else got(value)
