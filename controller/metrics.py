"""Prometheus text of a URL or a file to plain samples: the one module that imports prometheus_client, and the fetch.

A recorded file may hold several scrapes one after the other: a line `# scrape <seconds since 1970>` begins one, and so
does the first family when it comes again. Whatever the bytes, the outcome is scrapes or BadInput, in one line that
shows neither passwords nor tokens.
"""

import hashlib
import http.client
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from prometheus_client.parser import text_string_to_metric_families

from planner.errors import BadInput
from planner.perf.observed import Sample, Scrape

MAX_BYTES = 32 * 2**20
MAX_SAMPLES = 500_000
_MARK = re.compile(r"#\s*scrape\s+([0-9]+(?:\.[0-9]+)?)\s*")
_FAMILY = re.compile(r"#\s*TYPE\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Read:
    """Scrapes in order of time, and the hash of the text that they are from."""

    scrapes: tuple[Scrape, ...]
    sha256: str


class _SameHost(HTTPRedirectHandler):
    """Follows a redirect only where it leads to the same host, so that a token is not sent elsewhere."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Raises BadInput for another host."""
        if urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            fp.close()
            raise BadInput(f"{shown(req.full_url)}: redirects to another host; give the address of the metrics itself")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def read(sources: Sequence[str], *, window_s: float = 0.0, timeout_s: float = 10.0, token: str = "") -> Read:
    """All sources of one engine, earliest first. A URL is scraped at both ends of a window, if any. Raises BadInput."""
    if sum(map(_is_url, sources)) > 1:
        raise BadInput("--metrics: got several addresses, allowed: one engine's, and files of its earlier scrapes")
    texts: list[tuple[str, bytes, float | None]] = []
    for source in sources:
        if _is_url(source):
            texts.append((shown(source), fetch(source, timeout_s, token), time.time()))
        else:
            texts.append((source, _file(Path(source)), None))
    if window_s and any(_is_url(source) for source in sources):
        time.sleep(window_s)
        texts += [(shown(url), fetch(url, timeout_s, token), time.time()) for url in sources if _is_url(url)]
    digest = hashlib.sha256()
    found: list[Scrape] = []
    for name, data, at_s in texts:
        digest.update(data)
        found += parse(data, name, at_s)
    return Read(tuple(found), digest.hexdigest())


def fetch(url: str, timeout_s: float, token: str = "") -> bytes:
    """What a URL answers, up to the limit. Raises BadInput."""
    request = Request(url, headers={"Accept": "text/plain; version=0.0.4", "User-Agent": "muster"})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    name = shown(url)
    try:
        with build_opener(_SameHost).open(request, timeout=timeout_s) as answer:
            data = _all(answer, time.monotonic() + timeout_s)
    except HTTPError as error:
        error.close()
        raise BadInput(f"{name}: got HTTP status {error.code}, allowed: 200 with Prometheus metrics") from None
    except (URLError, TimeoutError, OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        words = "no answer in time" if isinstance(reason, TimeoutError) else _reason(reason)
        raise BadInput(f"{name}: cannot be reached ({words}); is the engine running with metrics on?") from None
    return data


def _all(answer: HTTPResponse, until_s: float) -> bytes:
    """The body up to the limit, however slowly it drips."""
    data = bytearray()
    while len(data) <= MAX_BYTES and (part := answer.read1(2**16)):
        data += part
        if time.monotonic() > until_s:
            raise TimeoutError
    return bytes(data)


def parse(data: bytes, name: str, at_s: float | None = None) -> list[Scrape]:
    """The scrapes in a text; `at_s` is when, where the text does not say. Raises BadInput."""
    text = _text(data, name)
    scrapes = [_scrape(part, name, at_s if marked is None else marked) for marked, part in _parts(text)]
    kept = [one for one in scrapes if one.samples]
    if not kept:
        raise BadInput(f"{name}: got no metrics, allowed: a Prometheus text exposition")
    return kept


def shown(url: str) -> str:
    """A URL without user, password, query and fragment."""
    parts = _split(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _is_url(source: str) -> bool:
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    if scheme and scheme not in ("http", "https"):
        raise BadInput(f"--metrics: got a {scheme[:20]} address, allowed: http, https, or a file")
    return bool(scheme)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        raise BadInput("--metrics: got an address that is none, allowed: such as http://host:8000/metrics") from None
    if parts.username or parts.password:
        raise BadInput("--metrics: got an address with a user or password; put a bearer token into --token-env")
    if not parts.hostname:
        raise BadInput("--metrics: got an address without a host, allowed: such as http://host:8000/metrics")
    return parts


def _file(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise BadInput(f"{path}: got no regular file; give a file of metrics, or http://host:port/metrics")
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({_reason(error)})") from None


def _text(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise BadInput(f"{name}: got more than {MAX_BYTES:,} bytes, which is no page of metrics")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: got bytes that are no UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        raise BadInput(f"{name}: got binary data, allowed: a Prometheus text exposition")
    if text.lstrip()[:1] in ("<", "{", "["):
        kind = "a page of HTML" if text.lstrip()[:1] == "<" else "JSON"
        raise BadInput(f"{name}: got {kind}, allowed: a Prometheus text exposition (usually under /metrics)")
    return text


def _parts(text: str) -> Iterator[tuple[float | None, str]]:
    """Times, where marked, and texts of single scrapes."""
    marked: float | None = None
    lines: list[str] = []
    first = ""
    for line in text.splitlines(keepends=True):
        mark, family = _MARK.fullmatch(line.strip()), _FAMILY.match(line)
        again = family is not None and family[1] == first
        if mark or again:
            if lines:
                yield marked, "".join(lines)
            lines, first = [], family[1] if family else ""
            marked = float(mark[1]) if mark else None
        elif family is not None and not first:
            first = family[1]
        if not mark:
            lines.append(line)
    yield marked, "".join(lines)


def _scrape(text: str, name: str, at_s: float | None) -> Scrape:
    samples: list[Sample] = []
    stamps: list[float] = []
    try:
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                samples.append(Sample(one.name, tuple(sorted(one.labels.items())), float(one.value)))
                if one.timestamp is not None:
                    stamps.append(float(one.timestamp))
                if len(samples) > MAX_SAMPLES:
                    raise BadInput(f"{name}: got more than {MAX_SAMPLES:,} samples in one scrape")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        words = " ".join(str(error).split())[:120]
        raise BadInput(f"{name}: got no Prometheus text exposition ({words})") from None
    return Scrape(tuple(samples), max(stamps) if stamps and at_s is None else at_s)


def _reason(error: object) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return " ".join(str(words).split())[:120]
