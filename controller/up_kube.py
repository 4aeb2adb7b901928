"""One process that is Muster for a Kubernetes cluster: the controller itself, with the API and the pages beside it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.ceilings import Ceilings
from controller.embedded.history import SeriesHistory
from controller.embedded.store import Store
from controller.kube.cache import Unsynced
from controller.kube.known import Settings
from controller.kube.rest import Api, ApiError
from controller.kube.run import LEASE, Controller
from controller.kube.run import Options as ControllerOptions
from controller.pages import mount
from controller.rates import Heard, ServiceKey
from controller.server import Listen as Reports
from controller.up import secret_of
from controller.up_fit import Unfit
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
_LOOK_S = 0.5
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
    ceilings: Ceilings = field(default_factory=Ceilings)
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
                settings=Settings(ceilings=options.ceilings),
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
        """Fill the caches, stand for election, and serve. Raises Unfit, OSError."""
        listen, reports = self.options.listen, self.options.reports
        try:
            self.controller.start()
        except Unsynced as error:
            raise Unfit(str(error)) from None
        except OSError as error:
            where = "" if reports is None else f"--reports {reports.host}:{reports.port}: "
            raise OSError(f"{where}{error}") from None
        try:
            self.port = self._server.start()
        except OSError as error:
            self.controller.stop()  # it may lead by now: nobody should have to wait for its lease to run out
            raise OSError(f"--listen {listen.host}:{listen.port}: {error}") from None
        self._recorder.start()

    def stop(self) -> bool:
        """End; another may lead at once. Whether this process led, and could say that it does no more."""
        led = self.controller.elector.may_write() and not self.controller.elector.failing
        self._stopped.set()
        self._server.stop()
        self.controller.stop()
        if self._recorder.is_alive():
            self._recorder.join(timeout=10.0)
        self._store.close()
        return led

    @property
    def address(self) -> str:
        """Where the pages are."""
        listen = self.options.listen
        return f"{'http' if listen.certificate is None else 'https'}://{listen.host}:{self.port}"

    def beginning(self) -> Iterator[str]:
        """What is said once it serves."""
        yield f"Muster is at {self.address}"
        if self.options.auth:
            yield "sign in with a token of the cluster, such as: kubectl create token ACCOUNT --namespace NAMESPACE"
        else:
            yield f"no tokens are asked for: who reaches {self.options.listen.host} may do what this kubeconfig may"
        if not self.options.prometheus:
            yield "no Prometheus was given (--prometheus), so nobody hears rates and latencies"
        if self.options.reports is None:
            yield "agents have nowhere to report to (--reports), so pages show no watts and no faults of GPUs"
        else:
            yield f"agents report to {self.options.reports.host}:{self.controller.port}"

    def narrate(self, ended: threading.Event, say: Callable[[str], None]) -> None:
        """Say who leads and what happens, until it is to end. What goes on for long is said once."""
        feed, seen, led, trouble = Feed(self.site, every_s=0.0), -1, "", ""
        next_s = 0.0
        while not ended.wait(_LOOK_S if led else 0.0):
            if (now := self._leads()) != led:
                led = now
                say(f"{_time(time.time())}  {now}")
            if time.monotonic() < next_s:
                continue
            next_s = time.monotonic() + _ASK_S
            try:
                rows = feed.after(seen)
            except ApiError as error:
                if not trouble:
                    say(f"{_time(time.time())}  events can't be had now: {error}")
                trouble = str(error)
                continue
            trouble = ""
            for row in rows if seen >= 0 else ():  # what happened before is on the page of events
                say(f"{_time(row.last_s)}  {row.reason:<16}  {row.about}: {row.note}")
            seen = max((row.version for row in rows), default=max(seen, 0))

    def _leads(self) -> str:
        lease = f"lease {self.options.namespace}/{LEASE}"
        if self.controller.elector.may_write():
            return f"{lease}: this process leads"
        holder = self.controller.elector.holder
        if holder == self.controller.options.identity:
            return f"{lease}: this process cannot renew it"
        if holder:
            return f"{lease}: stands by, {holder} leads"
        return f"{lease}: nobody leads yet" + (", it can't be had" if self.controller.elector.failing else "")

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
                self._history.record(time.time(), rows(self.site, self._heard()), whole=True)
            except Exception:  # pages lack a point, and the controller goes on
                _LOG.exception("recording")

    def _heard(self) -> Mapping[ServiceKey, Heard]:
        """What engines told. The leader listens as it is; who stands by does it for the pages, and to be ready."""
        if (listening := self.controller.listening) is None:
            return {}
        if not self.controller.elector.may_write():
            listening.listen()
        return listening.last


def _time(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
