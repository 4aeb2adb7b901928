"""Prometheus' HTTP API: one query, one vector. Errors say what was asked and what came back, never a token."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from planner.errors import MusterError

MAX_BYTES = 32 * 2**20
_SHOWN = 120


class PrometheusFault(MusterError):
    """Prometheus could not be asked, or answered with something else than a vector."""


@dataclass(frozen=True, slots=True)
class Point:
    """One element of an instant vector; `at_s` is the time it was evaluated for."""

    labels: Mapping[str, str]
    value: float
    at_s: float


Ask = Callable[[str], list[Point]]
"""An instant query. Raises PrometheusFault."""


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """A redirect is an error: the token is for one host."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server by its base URL. `token` is called for each query, since mounted tokens are renewed."""

    url: str
    timeout_s: float = 10.0
    token: Callable[[], str] = str

    def ask(self, query: str) -> list[Point]:
        """The vector that a query evaluates to now; elements that are no number are left out."""
        return _points(self._answer(query), query)

    def _answer(self, query: str) -> object:
        request = Request(
            f"{self.url.rstrip('/')}/api/v1/query",
            data=urlencode({"query": query, "timeout": f"{self.timeout_s:g}s"}).encode(),
            headers={"User-Agent": "muster"},
        )
        if token := self.token():
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with build_opener(_NoRedirect).open(request, timeout=self.timeout_s) as answer:
                body = answer.read(MAX_BYTES + 1)
        except HTTPError as error:
            with error:
                raise PrometheusFault(f"{self._where(query)}: status {error.code}{_told(error)}") from None
        except (URLError, TimeoutError, OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise PrometheusFault(f"{self._where(query)}: {str(reason) or type(reason).__name__}") from None
        if len(body) > MAX_BYTES:
            raise PrometheusFault(f"{self._where(query)}: more than {MAX_BYTES:,} bytes")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise PrometheusFault(f"{self._where(query)}: the answer is no JSON") from None

    def _where(self, query: str) -> str:
        return f"{self.url.rpartition('@')[2]} asked for {query[:_SHOWN]}"


def _told(error: HTTPError) -> str:
    """What Prometheus says is wrong."""
    try:
        told = json.loads(error.read(2**16))
        return f": {str(told['error'])[:_SHOWN]}"
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return ""


def _points(answer: object, query: str) -> list[Point]:
    try:
        data = answer["data"]  # type: ignore[index]
        if data["resultType"] != "vector":
            raise PrometheusFault(f"asked for {query[:_SHOWN]}: got a {data['resultType']}, allowed: a vector")
        points = [Point(dict(row["metric"]), float(row["value"][1]), float(row["value"][0])) for row in data["result"]]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise PrometheusFault(f"asked for {query[:_SHOWN]}: the answer is none of Prometheus' API") from None
    return [point for point in points if math.isfinite(point.value)]
