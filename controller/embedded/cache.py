"""The store in the place of the controller's caches: what it has is current by nature."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.embedded.paths import RESOURCES
from controller.embedded.store import Object, Store
from controller.kube.cache import World
from controller.kube.informer import Counts
from controller.names import SERVICE


@dataclass(frozen=True)
class Shelf:
    """One resource."""

    store: Store
    plural: str
    counts: Counts = field(default_factory=Counts)

    def items(self) -> list[Object]:
        """All of it."""
        return self.store.items(self.plural)

    def get(self, namespace: str, name: str) -> Object | None:
        """One object."""
        found = self.store.get((self.plural, namespace, name))
        return None if found is None else found.body


class EmbeddedCache:
    """What `controller.kube.cache.Cache` is to whoever reads it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.informers: Mapping[str, Shelf] = {
            plural: Shelf(store, plural) for plural in RESOURCES if plural != "events"
        }

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """One object."""
        found = self.informers.get(plural)
        return None if found is None else found.get(namespace, name)

    def of(self, service: str, *plurals: str) -> list[Object]:
        """A service's objects of some resources."""
        space, _, name = service.partition("/")
        return [
            obj
            for plural in plurals
            if plural in self.informers
            for obj in self._store.items(plural, space)
            if (obj["metadata"].get("labels") or {}).get(SERVICE) == name
        ]

    def world(self) -> World:
        """All objects."""
        return World({plural: shelf.items() for plural, shelf in self.informers.items()})
