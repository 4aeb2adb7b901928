"""Requests to an API server in raw JSON. The official client finds credentials and carries bytes; nothing else of it.

Its typed models cost several times the CPU of plain dictionaries on lists and watches, and its watches wait for ever on
a connection that is half open.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import orjson
import urllib3
from kubernetes import config
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config.config_exception import ConfigException
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from planner.errors import BadInput, MusterError

JSON = "application/json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

_CONNECTIONS = 32
_CONNECT_S = 2.0
_MOST_MESSAGE = 2000
_ALLOWED = "a file with a server and a current context, or one that --context names"
_REFRESH_S = 1.0  # credentials are read again at most so often


class ApiError(MusterError):
    """The API server refused, or could not be reached (`status` 0)."""

    def __init__(self, status: int, reason: str, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.reason, self.retry_after_s = status, reason, retry_after_s


class Requests(Protocol):
    """Whatever answers as an API server does."""

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """One request; the object that came back. Raises ApiError for anything but success."""


class Api:
    """One API server. Thread-safe.

    `configure` finds the server and the credentials; it is asked again when the server calls them expired.
    """

    def __init__(self, configure: Callable[[], Configuration], connections: int = _CONNECTIONS) -> None:
        self._configure = configure
        self._connections = connections
        self._lock = threading.Lock()
        self._read_s = 0.0
        self._bearer: tuple[float, str | None] = (0.0, None)
        self._read()

    @property
    def server(self) -> str:
        """The address of the server."""
        return str(self._configuration.host)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """One request; the object that came back. Raises ApiError for anything but success."""
        data = None if body is None else orjson.dumps(body)
        answer = self._send(method, path, data, query, content_type, timeout_s, whole=True)
        found = _json(answer.data)
        if answer.status >= 400:
            raise _refusal(method, path, answer, found)
        return found

    def stream(self, path: str, query: Mapping[str, str], read_timeout_s: float) -> "Stream":
        """A watch; raises ApiError."""
        answer = self._send("GET", path, None, query, JSON, read_timeout_s, whole=False)
        if answer.status >= 400:
            try:
                raise _refusal("GET", path, answer, _json(answer.read()))
            finally:
                answer.close()
        return Stream(path, answer, read_timeout_s)

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | None,
        query: Mapping[str, str] | None,
        content_type: str,
        timeout_s: float,
        whole: bool,
    ) -> urllib3.BaseHTTPResponse:
        url = path + ("?" + urlencode(query) if query else "")
        for last in (False, True):
            with self._lock:
                pool, base, token = self._pool, self._base, self._token()
            headers = {"Accept": JSON, "Content-Type": content_type, **({"Authorization": token} if token else {})}
            timeout = urllib3.Timeout(connect=min(_CONNECT_S, timeout_s), read=timeout_s)
            try:
                answer = pool.urlopen(
                    method, base + url, body=data, headers=headers, timeout=timeout, retries=False, redirect=False,
                    assert_same_host=False, preload_content=whole,
                )  # fmt: skip
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise ApiError(0, "Unreachable", f"{method} {path}: {_why(error)}") from None
            if answer.status != 401 or last:
                return answer
            answer.close()
            self._read()
        raise AssertionError("unreachable")

    def _token(self) -> str | None:
        """The credential, which the official client may read from a file or ask another program for."""
        at_s, found = self._bearer
        if not at_s or time.monotonic() - at_s > _REFRESH_S:
            found = self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            self._bearer = time.monotonic(), found
        return found

    def _read(self) -> None:
        """Find the server and the credentials."""
        with self._lock:
            self._bearer = (0.0, None)
            if self._read_s and time.monotonic() - self._read_s < _REFRESH_S:
                return
            self._configuration = self._configure()
            self._configuration.connection_pool_maxsize = self._connections
            self._configuration.socket_options = tcp_keepalive_socket_options()
            manager = RESTClientObject(self._configuration).pool_manager
            # All requests go to one server: the manager, which finds a pool for each, takes as long as the pool does.
            self._pool: urllib3.HTTPConnectionPool = manager.connection_from_url(self.server)
            whole = manager.proxy is not None and self._pool.scheme == "http"  # a proxy is told the server as well
            self._base = self.server if whole else urlsplit(self.server).path.rstrip("/")
            self._read_s = time.monotonic()


class Stream:
    """The lines of a watch as they come. Iterating ends when the server ends it, or anyone calls `end`.

    Raises ApiError, also where nothing came for the read timeout (reason `Silent`).
    """

    def __init__(self, path: str, answer: urllib3.BaseHTTPResponse, read_timeout_s: float) -> None:
        self._path, self._answer, self._read_timeout_s = path, answer, read_timeout_s
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        try:
            for chunk in self._answer.stream(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        except urllib3.exceptions.ReadTimeoutError:
            raise ApiError(0, "Silent", f"GET {self._path}: nothing came for {self._read_timeout_s:g} s") from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if not self._ended:
                raise ApiError(0, "Broken", f"GET {self._path}: {_why(error)}") from None
        finally:
            self._answer.close()  # a watch that is given up must not go back to the pool half read

    def end(self) -> None:
        """Wake whoever reads, from any thread, also on a connection that is half open."""
        self._ended = True
        with contextlib.suppress(OSError, ValueError):  # it ended at the same moment
            self._answer.shutdown()


def connect(kubeconfig: Path | None = None, context: str | None = None) -> Api:
    """The API server of a kubeconfig file, or of the cluster that this runs in; raises BadInput."""

    def configure() -> Configuration:
        found = Configuration()
        try:
            if kubeconfig is None and context is None and _in_cluster():
                config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
            else:
                file = None if kubeconfig is None else str(kubeconfig)
                config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=file, context=context, client_configuration=found
                )
            why = "" if found.host else "got no server"
        except (ConfigException, OSError, ValueError) as error:
            there = kubeconfig is None or os.path.exists(kubeconfig)
            why = _why(error).rstrip(".") if there else "got a file that is not there"
        except Exception:  # in a file of another shape the official client stumbles on whatever comes
            why = "got something else"
        if why:
            raise BadInput(f"kubeconfig {kubeconfig or '(default)'}: {why}, allowed: {_ALLOWED}")
        return found

    return Api(configure)


def _in_cluster() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"message": data[:_MOST_MESSAGE].decode("utf-8", "replace")}
    return found if isinstance(found, dict) else {}


def _refusal(method: str, path: str, answer: urllib3.BaseHTTPResponse, found: Mapping[str, Any]) -> ApiError:
    message = str(found.get("message") or answer.reason or "no message")[:_MOST_MESSAGE]
    after = answer.headers.get("Retry-After", "")
    wait_s = float(after) if after.isdecimal() else 0.0
    return ApiError(answer.status, str(found.get("reason") or ""), f"{method} {path}: {message}", wait_s)


def _why(error: BaseException) -> str:
    return str(error).splitlines()[0][:_MOST_MESSAGE] if str(error) else type(error).__name__
