"""Tells the controller, in a thread of its own: no network can hold up the loop, and no controller can harm the node.

One POST of the whole state every few seconds, and at once when something changes. The certificate is checked, a
redirect is refused, nothing goes over plain HTTP but to this host itself. The token is read from its file each time,
since tokens of a pod are replaced while it runs.
"""

import http.client
import ipaddress
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from planner.errors import BadInput
from telemetry.errors import BadRecord
from telemetry.render import family, labelled
from telemetry.report import MOST_REPLY_BYTES, SOONEST_S, Reply, reply
from telemetry.settings import token

PATH = "/v1/report"
STEP_S = 5.0  # for each wait of the network
LONGEST_POST_S = 15.0  # for all of a POST; a peer that dribbles is cut off
TOGETHER_S = 0.05  # changes that come this close are told in one report
LONGEST_WAIT_S = 30.0  # between tries
AT_LEAST_S = 1.0  # between tries while they fail, whatever changes
Result = Literal["ok", "unreachable", "refused", "bad_reply"]
RESULTS: tuple[Result, ...] = ("ok", "unreachable", "refused", "bad_reply")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the controller listens."""

    secure: bool
    host: str
    port: int
    path: str


def address(url: str) -> Address:
    """The address in a URL. Raises BadInput where it must not be used."""
    refused = BadInput(f"--controller: got {url!r}, allowed: https://HOST[:PORT][/PATH], http:// on this host only")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise refused from None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise refused
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise refused
    if parts.scheme == "http" and not _this_host(host):
        raise refused
    secure = parts.scheme == "https"
    return Address(secure, host, port or (443 if secure else 80), parts.path.rstrip("/") or PATH)


def _this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Connection(http.client.HTTPConnection):
    """A connection that can be cut off at any moment, also while its handshake dribbles."""

    def __init__(self, to: Address, context: ssl.SSLContext | None) -> None:
        super().__init__(to.host, to.port, timeout=STEP_S)
        self._own_context = context

    def connect(self) -> None:
        """Connect and check the certificate."""
        super().connect()
        if self._own_context is not None:
            self.sock = self._own_context.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()

    def cut(self) -> None:
        """End it from another thread."""
        try:
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone already


class Uplink:
    """Reports until told to stop. `report` gives the body; `take` gets each reply, and when its report was sent."""

    def __init__(
        self,
        to: Address,
        ca: str,
        token_file: str,
        every_s: float,
        report: Callable[[], bytes],
        take: Callable[[Reply, float], None],
    ) -> None:
        self.to, self.ca, self.token_file, self.every_s = to, ca, token_file, every_s
        self.report, self.take = report, take
        self.results: dict[Result, int] = dict.fromkeys(RESULTS, 0)
        self.last_ok_s = self.spent_s = 0.0
        self._next_s: float | None = None  # as the controller asked
        self.why = ""
        self._stop = False
        self._woken = threading.Event()
        self._connection: Connection | None = None
        self._context: tuple[float, ssl.SSLContext] | None = None
        self._busy_s: float | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin in a thread."""
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """End soon; a POST that is on its way is cut off."""
        self._stop = True
        self._woken.set()
        if self._connection is not None:
            self._connection.cut()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def wake(self) -> None:
        """Something changed: report at once."""
        self._woken.set()

    def look(self, now_s: float) -> None:
        """Cut off a POST that takes too long; called by the loop, never waits. `now_s`: monotonic."""
        busy_s, connection = self._busy_s, self._connection
        if busy_s is not None and connection is not None and now_s - busy_s > LONGEST_POST_S:
            connection.cut()

    def metrics(self) -> str:
        """How telling goes."""
        rows = [(labelled([("result", name)]), float(count)) for name, count in self.results.items()]
        return (
            family("muster_agent_reports_total", "counter", "Reports to the controller by what came of them.", rows)
            + family(
                "muster_agent_report_seconds_total", "counter", "Time spent with reports.", [("", self.spent_s)]
            )
            + family(
                "muster_agent_last_report_timestamp_seconds", "gauge", "When the controller last took a report.",
                [("", self.last_ok_s)],
            )
        )  # fmt: skip

    def _run(self) -> None:
        failures = 0
        while not self._stop:
            began_s = time.monotonic()
            result = self._post()
            self.results[result] += 1
            self.spent_s += time.monotonic() - began_s
            failures = 0 if result == "ok" else failures + 1
            self._wait(failures, began_s)
        self._close()

    def _wait(self, failures: int, began_s: float) -> None:
        """Until the next report is due, with jitter so that a fleet does not report in step."""
        wait_s = min(self.every_s * 2.0 ** max(failures - 1, 0), max(LONGEST_WAIT_S, self.every_s))
        if not failures and self._next_s is not None:
            wait_s = self._next_s
        if self._woken.wait(wait_s * random.uniform(0.8, 1.2)) and not self._stop:
            least_s = AT_LEAST_S if failures else SOONEST_S
            time.sleep(max(TOGETHER_S, least_s - (time.monotonic() - began_s)))
        self._woken.clear()

    def _post(self) -> Result:
        self._busy_s = time.monotonic()
        try:
            return self._told()
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a certificate file or a token
            self.why = f"{type(error).__name__}: {error}"
            self._close()
            return "unreachable"
        finally:
            self._busy_s = None

    def _told(self) -> Result:
        kept = self._connection is not None
        sent_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            answer = self._exchange()
        except ConnectionError:
            if not kept:
                raise
            # A connection that was kept open may have been closed meanwhile; a new one decides.
            self._close()
            sent_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            answer = self._exchange()
        body = answer.read(MOST_REPLY_BYTES + 1)
        if answer.will_close or not answer.isclosed():
            self._close()
        if answer.status != HTTPStatus.OK:
            self.why = f"the controller answered {answer.status}"
            return "refused"
        try:
            taken = reply(body)
        except BadRecord as error:
            self.why = str(error)
            return "bad_reply"
        self.why, self.last_ok_s, self._next_s = "", time.time(), taken.next_s
        self.take(taken, sent_s)
        return "ok"

    def _exchange(self) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = Connection(self.to, self._tls() if self.to.secure else None)
        headers = {"Content-Type": "application/json", "User-Agent": "muster-agent"}
        shown = token(self.token_file)
        if not shown.isascii() or not shown.isprintable():
            raise ValueError(f"{self.token_file} holds no token")  # and nobody learns what it holds
        if shown:
            headers["Authorization"] = f"Bearer {shown}"
        self._connection.request("POST", self.to.path, self.report(), headers)
        return self._connection.getresponse()

    def _tls(self) -> ssl.SSLContext:
        """Made anew when the CA's file has changed."""
        changed_s = Path(self.ca).stat().st_mtime if self.ca else 0.0
        if self._context is None or self._context[0] != changed_s:
            context = ssl.create_default_context(cafile=self.ca or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._context = (changed_s, context)
        return self._context[1]

    def _close(self) -> None:
        """Also what is half made: a failed handshake leaves a socket."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
