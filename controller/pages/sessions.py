"""Who sits before a page: a cookie that says nothing by itself, kept here with the token that it was given for."""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from controller.web.access import READS, Access, Caller, Tokens, Unknown

COOKIE = "muster_session"
_MOST, _LASTS_S = 10_000, 12 * 3600.0


@dataclass(frozen=True)
class Viewer:
    """A person at a page. Both questions may wait for the API server: ask them in a thread."""

    tokens: Tokens
    who: Caller
    token: str = field(default="", repr=False)

    def may(self, verb: str, plural: str, namespace: str = "", name: str = "", group: str = "muster.dev") -> bool:
        """Whether they may do something; what changes anything needs a token that still counts. Raises ApiError."""
        if verb not in READS and not self.known():
            return False
        return self.tokens.may(self.who, Access(verb, plural, namespace, name, group))

    def known(self) -> bool:
        """Whether their token still counts. Raises ApiError."""
        try:
            self.tokens.caller(self.token)
        except Unknown:
            return False
        return True


class Sessions:
    """Thread-safe. A token that no longer counts ends its sessions."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[str, float]] = OrderedDict()

    @property
    def open(self) -> bool:
        """Whether nobody has to say who they are."""
        return self._tokens.open

    def begin(self, token: str) -> str | None:
        """A cookie for the holder of a token; None for a token that nobody vouches for. Raises ApiError."""
        try:
            self._tokens.caller(token)
        except Unknown:
            return None
        made = secrets.token_urlsafe(32)
        with self._lock:
            self._kept[made] = token, time.monotonic() + _LASTS_S
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return made

    def end(self, cookie: str) -> None:
        """Forget somebody."""
        with self._lock:
            self._kept.pop(cookie, None)

    def viewer(self, cookie: str | None) -> Viewer | None:
        """Who has a cookie; None where they must say it again. Raises ApiError."""
        if self._tokens.open:
            return Viewer(self._tokens, self._tokens.caller(""))
        with self._lock:
            found = self._kept.get(cookie or "")
        if found is None or found[1] < time.monotonic():
            return None
        try:
            return Viewer(self._tokens, self._tokens.caller(found[0]), found[0])
        except Unknown:
            return None
