"""A certificate and its key that are renewed on disk while a server runs, as cert-manager and kubelets do."""

import logging
import os
import ssl
from pathlib import Path

_LOG = logging.getLogger("muster")


class Renewal:
    """Has a server's context take what the files hold once either has changed.

    What was read stays where the new files are no pair, as in the middle of a renewal, or can't be read.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._pair = (certificate, key)
        self._read = self._stamps()
        self._refused = self._read

    def into(self, context: ssl.SSLContext) -> bool:
        """Look at the files; whether another certificate is served to those who connect from now on."""
        seen = self._stamps()
        if not seen or seen == self._read:
            return False
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._pair, password="")  # never asks a terminal
            context.load_cert_chain(*self._pair, password="")
        except (OSError, ssl.SSLError) as error:
            if seen != self._refused:  # told once
                _LOG.warning("certificate %s: kept as it was read before: %s", self._pair[0], error)
            self._refused = seen
            return False
        self._read = seen
        _LOG.info("certificate %s: read again", self._pair[0])
        return True

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file does; nothing where one is missing."""
        try:
            found = [os.stat(path) for path in self._pair]
        except OSError:
            return ()
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in found)
