"""Asks a running Muster over HTTP, as the commands do. Every failure is one line that says what, got and allowed."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from controller.web.access import is_loopback
from planner.errors import BadInput, MusterError

DEFAULT_SERVER = "http://127.0.0.1:8080"
SERVER_VARIABLE, TOKEN_VARIABLE = "MUSTER_SERVER", "MUSTER_TOKEN"
_MOST_TOKEN_BYTES = 65_536
_PAGE = 500
_SILENT_S = 45.0  # a stream says that it lives every 15 s
Object = dict[str, Any]


class Unreachable(MusterError):
    """No answer, or one that says to come back later."""


class Answered(MusterError):
    """A refusal. `status`: of HTTP; `errors`: path and words of each fault; `lines`: those for people."""

    def __init__(
        self, status: int, message: str, errors: tuple[tuple[str, str], ...] = (), lines: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.errors = status, errors
        self.lines = tuple(": ".join(filter(None, one)) for one in errors) if lines is None else lines


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `clock_s`: Unix time of the cluster."""

    found: Any
    status: int
    etag: str
    clock_s: float


class Client:
    """One server. A token goes over TLS or over the loopback, never else."""

    def __init__(self, server: str, token: str = "", ca_file: Path | None = None, timeout_s: float = 60.0) -> None:
        self.server = server.rstrip("/")
        _sound(self.server, token)
        headers = {"User-Agent": "muster", **({"Authorization": f"Bearer {token}"} if token else {})}
        verify: Any = True if ca_file is None else _trusted(ca_file)
        self._http = httpx.Client(
            base_url=f"{self.server}/api/v1", headers=headers, timeout=timeout_s, verify=verify, trust_env=False
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | int] | None = None,
        content_type: str = "application/json",
        **headers: str,
    ) -> Reply:
        """One request. Raises Answered, Unreachable."""
        content = None if body is None else json.dumps(body).encode()
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if content is not None:
            sent["Content-Type"] = content_type
        try:
            answer = self._http.request(method, path, content=content, params=dict(query or {}), headers=sent)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"{self.server}: cannot be reached ({_why(error)}); is `muster up` running?") from None
        return _reply(self.server, answer)

    def all(self, path: str, query: Mapping[str, str | int] | None = None) -> tuple[list[Object], float]:
        """Every item of a list, page by page, and the cluster's time."""
        items: list[Object] = []
        after: str | None = ""
        clock_s = 0.0
        while after is not None:
            page = self.ask(
                "GET", path, query={"limit": _PAGE, **(query or {}), **({"continue": after} if after else {})}
            )
            items += page.found["items"]
            after, clock_s = page.found["continue"], page.clock_s
        return items, clock_s

    def events(self, query: Mapping[str, str | int], last: int) -> Iterator[Object]:
        """Events after a version as they come, for ever; a stream that ends is begun again where it ended."""
        while True:
            with self._stream("/events/stream", query, last) as lines:
                for line in lines:
                    if line.startswith("data: "):
                        found: Object = json.loads(line.removeprefix("data: "))
                        last = int(found["version"])
                        yield found

    @contextmanager
    def _stream(self, path: str, query: Mapping[str, str | int], last: int) -> Iterator[Iterator[str]]:
        timeout = httpx.Timeout(10.0, read=_SILENT_S)
        headers = {"Last-Event-ID": str(last)}
        try:
            with self._http.stream("GET", path, params=dict(query), headers=headers, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    _reply(self.server, answer)
                yield answer.iter_lines()
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.server}: the stream broke ({_why(error)})") from None


def token_of(file: Path | None) -> str:
    """The token of a file, or of the environment; empty for none. Raises BadInput."""
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        where = TOKEN_VARIABLE
    else:
        try:
            with file.open("rb") as stream:
                token = stream.read(_MOST_TOKEN_BYTES).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no text"
            raise BadInput(
                f"--token-file: {file}: cannot be read ({why}), allowed: a file that holds a token"
            ) from None
        where = f"--token-file {file}"
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise BadInput(f"{where}: got no token, allowed: one word of printable characters")
    return token


def _sound(server: str, token: str) -> None:
    """Raises BadInput for an address that is none, or over which a token would be read by others."""
    try:
        url = httpx.URL(server)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
        raise BadInput(f"--server: got {server[:100]!r}, allowed: an address such as {DEFAULT_SERVER}")
    if token and url.scheme == "http" and not is_loopback(url.host):
        raise BadInput(f"--server: got {server[:100]!r} with a token, allowed: https, or http on the loopback")


def _trusted(file: Path) -> Any:
    import ssl

    try:
        return ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"--ca-file: {file}: cannot be used ({error}), allowed: certificates in PEM") from None


def _reply(server: str, answer: httpx.Response) -> Reply:
    """What an answer holds; raises Answered, Unreachable."""
    try:
        found = answer.json() if answer.content else None
    except ValueError:
        raise Unreachable(f"{server}: answered {answer.status_code} and no JSON; is it a Muster?") from None
    if answer.status_code >= 400:
        raise _refusal(server, answer.status_code, found)
    clock = answer.headers.get("muster-clock", "0")
    return Reply(found, answer.status_code, answer.headers.get("etag", ""), float(clock))


def _refusal(server: str, status: int, found: object) -> MusterError:
    problem: Mapping[str, Any] = found if isinstance(found, dict) else {}
    detail = str(problem.get("detail") or f"answered {status}")
    if status >= 500 or status == 429:
        return Unreachable(f"{server}: {detail}")
    if status == 401:
        detail = f"{detail}; give one by --token-file or {TOKEN_VARIABLE}"
    errors = tuple((str(one.get("path") or ""), str(one.get("detail") or "")) for one in problem.get("errors") or ())
    return Answered(status, detail, errors)


def _why(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
