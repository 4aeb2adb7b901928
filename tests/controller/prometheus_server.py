"""A real Prometheus on the loopback, from PATH or from Debian's package, and an engine for it to scrape."""

import fcntl
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("MUSTER_TEST_CACHE") or Path.home() / ".cache" / "muster-tests")
TARGET = """
  - job_name: {name}{role}
    static_configs:
      - targets: ["{address}"]
        labels: {{namespace: {namespace}, muster_dev_service: {name}, muster_dev_role: "{role}"}}
"""


def binary() -> str:
    """The path of a Prometheus; skips aloud where there is none and none can be had."""
    if found := shutil.which("prometheus"):
        return found
    path = CACHE / "prometheus" / "usr" / "bin" / "prometheus"
    if not shutil.which("apt-get"):
        pytest.skip("no prometheus in PATH (Debian: apt-get install prometheus)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test process fetches it, the others wait
        if not path.exists() and not _unpacked(path):
            pytest.skip("no prometheus in PATH, and its Debian package cannot be fetched here")
    return str(path)


def _unpacked(path: Path) -> bool:
    folder = CACHE / "prometheus.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fetch = ["apt-get", "-qq", "download", "prometheus"]
    if subprocess.run(fetch, cwd=folder, capture_output=True, check=False).returncode:
        subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)
        if subprocess.run(fetch, cwd=folder, capture_output=True, check=False).returncode:
            return False
    for package in folder.glob("prometheus_*.deb"):
        subprocess.run(["dpkg", "-x", package.name, "."], cwd=folder, check=True)
    shutil.rmtree(path.parents[2], ignore_errors=True)
    folder.rename(path.parents[2])
    return path.exists()


@contextmanager
def scraping(folder: Path, engines: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    """A Prometheus that scrapes engines each second; gives its URL, ends with the block.

    They are by namespace and service, and by role where they have one: an empty label is none to Prometheus.
    """
    rows = ((*key, "")[:3] for key in engines)
    jobs = "".join(
        TARGET.format(namespace=space, name=name, role=role, address=at)
        for (space, name, role), at in zip(rows, engines.values(), strict=True)
    )
    (folder / "prometheus.yml").write_text(f"global: {{scrape_interval: 500ms}}\nscrape_configs:{jobs}", "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    words = [
        binary(), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _ready(url), 30.0)
            yield url
        finally:
            process.kill()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait until something is true; fails the test when it takes too long."""
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.1)


@contextmanager
def engine(page: Callable[[], str]) -> Iterator[tuple[str, Callable[[], None]]]:
    """A server of metrics; gives its address and what stops it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    try:
        yield f"127.0.0.1:{server.server_address[1]}", stop
    finally:
        stop()
        thread.join()
