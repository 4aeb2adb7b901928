"""Muster's own bearer tokens: random, shown once, kept as digests in a file that only its owner reads.

A token has 256 random bits, so a plain SHA-256 of it cannot be searched for; passwords would need more.
"""

import hmac
import os
import threading
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe

import orjson

from controller.web.access import READS, Access, Caller, Unknown
from planner.errors import BadInput

SCOPES = ("read", "write")
_PREFIX = "muster_"
_MOST_TOKEN, _MOST_TOKENS = 512, 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a token. `digest` is the SHA-256 in hexadecimal digits."""

    name: str
    digest: str
    scopes: tuple[str, ...]
    made_s: float


class StoredTokens:
    """Thread-safe. The file is written beside and moved into place, with mode 0600 from the first byte."""

    open = False

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._kept = _read(file)

    def first(self, now_s: float) -> str | None:
        """A token with all scopes where there is none yet, to be shown once; else None. Raises BadInput."""
        if self._kept:
            return None
        return self.make("admin", SCOPES, now_s)

    def make(self, name: str, scopes: tuple[str, ...], now_s: float) -> str:
        """A new token. Raises BadInput for a name that is taken."""
        token = _PREFIX + token_urlsafe(32)
        with self._lock:
            if any(one.name == name for one in self._kept):
                raise BadInput(f"name: got {name!r} again, allowed: a name that no token has")
            if len(self._kept) >= _MOST_TOKENS:
                raise BadInput(f"got {len(self._kept)} tokens, allowed: at most {_MOST_TOKENS}")
            kept = [*self._kept, Kept(name, _digest(token), scopes, now_s)]
            _write(self._file, kept)
            self._kept = kept
        return token

    def remove(self, name: str) -> bool:
        """Whether there was such a token; it counts no more. Raises BadInput for the last that may write."""
        with self._lock:
            kept = [one for one in self._kept if one.name != name]
            if len(kept) == len(self._kept):
                return False
            if not any("write" in one.scopes for one in kept):
                raise BadInput(f"name: got {name!r}, allowed: one that is not the last token with scope write")
            _write(self._file, kept)
            self._kept = kept
            return True

    def listed(self) -> tuple[Kept, ...]:
        """All tokens that count."""
        return tuple(self._kept)

    def remembered(self, token: str) -> Caller | None:
        """The holder of a token. Every digest is compared, each in constant time."""
        if not token or len(token) > _MOST_TOKEN:
            return None
        digest, found = _digest(token), None
        for one in self._kept:
            if hmac.compare_digest(digest, one.digest):
                found = Caller(one.digest[:16], one.name, frozenset(one.scopes))
        return found

    def caller(self, token: str) -> Caller:
        """The holder of a token. Raises Unknown."""
        if (found := self.remembered(token)) is None:
            raise Unknown
        return found

    def may(self, caller: Caller, access: Access) -> bool:
        """Scope read for looking, write for everything else."""
        return ("read" if access.verb in READS else "write") in caller.scopes


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _read(file: Path) -> list[Kept]:
    try:
        rows = orjson.loads(file.read_bytes())["tokens"]
        return [Kept(row["name"], row["digest"], tuple(row["scopes"]), row["made_s"]) for row in rows]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror}), allowed: the file of tokens") from None
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{file}: got no file of tokens, allowed: one that Muster wrote, or none") from None


def _write(file: Path, kept: list[Kept]) -> None:
    beside = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(orjson.dumps({"tokens": kept}, option=orjson.OPT_INDENT_2))
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except OSError as error:
        raise BadInput(f"{file}: cannot be written ({error.strerror}), allowed: a file in a folder of ours") from None
