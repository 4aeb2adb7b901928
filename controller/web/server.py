"""The application on a port, in a thread of its own."""

import gc
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from controller.certificate import Renewal
from controller.port import try_port

_SWITCH_S = 0.0001  # who answers is let in between threads that work: a large body must not keep others waiting
_RENEW_S = 10  # between looks at the certificate's files
_ENDING_S = 2  # streams of events are open for as long as somebody follows


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen, and the certificate's files; without them plain HTTP, for the loopback or behind a proxy."""

    host: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    key: Path | None = None


class WebServer:
    """Serves an application until it is told to stop."""

    def __init__(self, app: FastAPI, listen: Listen, renew_s: int = _RENEW_S) -> None:
        self._config = uvicorn.Config(
            app, host=listen.host, port=listen.port, http="httptools", lifespan="on", log_level="warning",
            access_log=False, server_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=_ENDING_S,
            ssl_certfile=None if listen.certificate is None else str(listen.certificate),
            ssl_keyfile=None if listen.key is None else str(listen.key),
            callback_notify=self._renew, timeout_notify=renew_s,
        )  # fmt: skip
        pair = listen.certificate, listen.key
        self._renewal = None if pair[0] is None or pair[1] is None else Renewal(pair[0], pair[1])
        self._server = uvicorn.Server(self._config)
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self, patience_s: float = 30.0) -> int:
        """Listen; gives the port. Raises OSError where that cannot be."""
        try_port(self._config.host, self._config.port)
        sys.setswitchinterval(_SWITCH_S)
        gc.collect()
        gc.freeze()  # modules and catalogues stay: to look through them again and again stops every thread for 0.2 s
        self._thread.start()
        end_s = time.monotonic() + patience_s
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end_s:
                raise OSError(f"cannot listen: {self._failed or 'no answer of the server; its log says more'}")
            time.sleep(0.01)
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    async def _renew(self) -> None:
        if self._renewal is not None and self._config.ssl is not None:
            self._renewal.into(self._config.ssl)

    def stop(self) -> None:
        """Answer what is in hand and end."""
        self._server.should_exit = True
        if self._thread.ident is not None:  # else its port was not to be had
            self._thread.join(timeout=10.0)

    def _run(self) -> None:
        try:
            self._server.run()
        except BaseException as error:  # uvicorn leaves by SystemExit where the port is taken
            self._failed = error
