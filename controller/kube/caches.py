"""What the rounds read: objects as last seen. Informers fill it from an API server; an embedded cluster has them."""

from collections.abc import Mapping
from typing import Any, Protocol

from controller.kube.cache import World
from controller.kube.informer import Counts

Object = Mapping[str, Any]


class Items(Protocol):
    """The objects of one resource. `counts`: what it took to keep them current."""

    @property
    def counts(self) -> Counts:
        """So far."""

    def items(self) -> list[Object]:
        """All of them."""

    def get(self, namespace: str, name: str) -> Object | None:
        """One of them."""


class Caches(Protocol):
    """The objects of all resources that are watched."""

    @property
    def informers(self) -> Mapping[str, Items]:
        """By plural."""

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """One object."""

    def of(self, service: str, *plurals: str) -> list[Object]:
        """A service's objects of some resources."""

    def world(self) -> World:
        """All objects at this moment."""
