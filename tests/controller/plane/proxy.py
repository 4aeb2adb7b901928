"""A TCP proxy before the API server that misbehaves: cuts, freezes, slows down, refuses. TLS passes untouched."""

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Forwards a port of the loopback to another.

    `frozen`: keep connections open and pass nothing on. `bytes_per_s`: towards the client, None for no limit. `closed`:
    refuse new connections.
    """

    target: int
    frozen: bool = False
    closed: bool = False
    bytes_per_s: float | None = None
    connections: int = 0
    _pairs: set[tuple[socket.socket, socket.socket]] = field(default_factory=set)
    _stranded: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> "Proxy":
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset every connection there is."""
        with self._lock:
            pairs, self._pairs = list(self._pairs), set()
        for pair in pairs:
            for end in pair:
                _close(end)

    def strand(self) -> None:
        """Leave every connection there is open for ever, with nothing passed on: what a lost NAT entry does."""
        with self._lock:
            self._stranded |= {end for pair in self._pairs for end in pair}

    def stop(self) -> None:
        self.closed = True
        _close(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                _close(client)
                continue
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.add((client, server))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, to_client: bool) -> None:
        try:
            while data := source.recv(1 << 14):
                while self.frozen:
                    time.sleep(0.02)
                if source in self._stranded:
                    continue
                if to_client and self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            _close(sink)
            _close(source)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
