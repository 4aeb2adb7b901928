"""One process that is Muster for a Kubernetes cluster: the controller itself, with the API and the pages beside it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controller.embedded.history import SeriesHistory
from controller.embedded.store import Store
from controller.kube.rest import Api, ApiError
from controller.kube.run import Controller
from controller.kube.run import Options as ControllerOptions
from controller.pages import mount
from controller.server import Listen as Reports
from controller.up import secret_of
from controller.up_recording import QUANTILES, rows
from controller.web.access import NoTokens, Tokens
from controller.web.app import make_app
from controller.web.feed import Feed
from controller.web.reviews import Reviews
from controller.web.server import Listen, WebServer
from controller.web.site import Site

HISTORY = "history.db"
_RECORD_S = 15.0
_ASK_S = 5.0  # events are asked of the API server
_LOG = logging.getLogger("muster")


@dataclass(frozen=True)
class Options:
    """How `muster up --kubeconfig` runs. `state`: folder of what pages draw, and of decisions for `muster replay`."""

    state: Path
    listen: Listen = field(default_factory=Listen)
    auth: bool = True
    namespace: str = "muster-system"
    prometheus: str = ""
    prometheus_token_file: Path | None = None
    reports: Reports | None = None  # where agents report; None: nobody does


class OnKubernetes:
    """The controller on a cluster. It leads, or stands by where another leads and shows what both see."""

    def __init__(self, api: Api, options: Options) -> None:
        self.options, self._api = options, api
        self.controller = Controller(
            api,
            ControllerOptions(
                namespace=options.namespace,
                snapshots=options.state / "decisions",
                listen=options.reports,
                prometheus=options.prometheus,
                prometheus_token_file=options.prometheus_token_file,
                quantiles=QUANTILES,
            ),
        )
        self._store = Store(options.state / HISTORY)
        self._history = SeriesHistory(self._store)
        self.site = self._site()
        tokens: Tokens = Reviews(api) if options.auth else NoTokens(options.listen.host)
        app = make_app(
            self.site, tokens=tokens, metrics=self.controller.desk.metrics, ready=lambda: self.controller.filled
        )
        mount(app, secret_of(options.state))
        self._server = WebServer(app, options.listen)
        self._stopped = threading.Event()
        self._recorder = threading.Thread(target=self._record, name="history", daemon=True)
        self.port = 0

    def start(self) -> None:
        """Fill the caches, stand for election, and serve. Raises ApiError, OSError, MusterError."""
        self.controller.start()
        self.port = self._server.start()
        self._recorder.start()

    def stop(self) -> None:
        """End; another may lead at once."""
        self._stopped.set()
        self._server.stop()
        self.controller.stop()
        if self._recorder.is_alive():
            self._recorder.join(timeout=10.0)
        self._store.close()

    @property
    def address(self) -> str:
        """Where the pages are."""
        listen = self.options.listen
        return f"{'http' if listen.certificate is None else 'https'}://{listen.host}:{self.port}"

    def beginning(self) -> Iterator[str]:
        """What is said once it serves."""
        yield f"Muster is at {self.address}"
        yield f"cluster {self._api.server}; the lease is in namespace {self.options.namespace}"
        if self.options.auth:
            yield "sign in with a token of the cluster, such as: kubectl create token ACCOUNT --namespace NAMESPACE"
        else:
            yield f"no tokens are asked for: who reaches {self.options.listen.host} may do what this kubeconfig may"
        if not self.options.prometheus:
            yield "no Prometheus was given (--prometheus), so nobody hears rates and latencies"
        if self.options.reports is None:
            yield "agents have nowhere to report to (--reports), so pages show no watts and no faults of GPUs"

    def narrate(self, ended: threading.Event, say: Callable[[str], None]) -> None:
        """Say who leads and what happens, until it is to end."""
        feed, seen, led = Feed(self.site, every_s=0.0), 0, ""
        try:
            seen = max((row.version for row in feed.rows()), default=0)
        except ApiError as error:
            say(f"events: {error}")
        while not ended.wait(0.0 if not led else _ASK_S):
            if (now := self._leads()) != led:
                led = now
                say(f"{_time(time.time())}  {now}")
            try:
                for row in feed.after(seen):
                    seen = row.version
                    say(f"{_time(row.last_s)}  {row.reason:<16}  {row.about}: {row.note}")
            except ApiError as error:
                _LOG.warning("events: %s", error)

    def _leads(self) -> str:
        if self.controller.elector.may_write():
            return "this process leads"
        holder = self.controller.elector.holder
        return f"stands by: {holder} leads" if holder else "nobody leads yet"

    def _site(self) -> Site:
        controller = self.controller
        return Site(
            objects=self._api,
            served=controller.served,
            known=controller.known,
            kept=lambda: controller.rounds.kept,
            caps=controller.desk.grants.sent,
            history=self._history,
            clock=time.time,
        )

    def _record(self) -> None:
        """Keep what is known now and then."""
        while not self._stopped.wait(_RECORD_S if self._history.latest("gpus_total") else 0.5):
            try:
                heard = {} if self.controller.listening is None else self.controller.listening.last
                self._history.record(time.time(), rows(self.site, heard), whole=True)
            except Exception:  # pages lack a point, and the controller goes on
                _LOG.exception("recording")


def _time(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
