"""Who asks and what they may do: what every kind of token check answers, and the one for nobody but the loopback.

`controller.web.tokens` keeps Muster's own tokens; `controller.web.reviews` asks a Kubernetes cluster.
"""

import ipaddress
from dataclasses import dataclass
from typing import Protocol

from planner.errors import BadInput

READS = ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Access:
    """What is to be done: a verb and a resource as Kubernetes names them. Empty namespace: all, or of the cluster."""

    verb: str
    plural: str
    namespace: str = ""
    name: str = ""
    group: str = "muster.dev"

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.plural}{where}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose token was checked. `id` tells callers apart and is no secret."""

    id: str
    name: str
    scopes: frozenset[str] = frozenset()
    groups: tuple[str, ...] = ()


class Unknown(Exception):
    """A token that nobody vouches for."""


class Tokens(Protocol):
    """Checks tokens and what their holders may do."""

    @property
    def open(self) -> bool:
        """Whether everyone is let in, so that no token is asked for."""

    def remembered(self, token: str) -> Caller | None:
        """The holder of a token, as far as that is known without waiting for anyone."""

    def caller(self, token: str) -> Caller:
        """The holder of a token. Raises Unknown, ApiError. May wait for the API server."""

    def may(self, caller: Caller, access: Access) -> bool:
        """Whether somebody may do something. Raises ApiError. May wait for the API server."""


class NoTokens:
    """Everyone may do everything. Only for a server that listens on the loopback; raises BadInput for another host."""

    open = True

    def __init__(self, host: str) -> None:
        if not is_loopback(host):
            raise BadInput(f"--no-auth: got {host} to listen on, allowed: 127.0.0.1 or another loopback address")

    def remembered(self, token: str) -> Caller | None:
        """Anyone."""
        return Caller("anyone", "anyone", frozenset(("read", "write")))

    def caller(self, token: str) -> Caller:
        """Anyone."""
        return Caller("anyone", "anyone", frozenset(("read", "write")))

    def may(self, caller: Caller, access: Access) -> bool:
        """Always."""
        return True


def is_loopback(host: str) -> bool:
    """Whether a host name or address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
