"""The API of a small embedded cluster on the loopback, as a client on the network sees it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from controller.web.access import NoTokens, Tokens
from controller.web.app import make_app
from controller.web.asked import Web
from controller.web.limits import Limits
from controller.web.server import Listen, WebServer
from controller.web.tokens import StoredTokens
from tests.controller.web.cluster import Cluster, a_cluster


@dataclass(frozen=True)
class Served:
    """A cluster and how to ask it."""

    cluster: Cluster
    port: int
    tokens: Tokens
    web: Web

    def cluster_streams(self) -> int:
        """Streams of events that are open."""
        return self.web.counts.streams

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str = "", **headers: str) -> httpx.Client:
        given = {**({"Authorization": f"Bearer {token}"} if token else {}), **headers}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=given, timeout=30.0)


def dry_run(client: httpx.Client, spec: Any) -> Any:
    """The plan that a service would get; asked again, as the answer says, where the machine was too slow for one."""
    end_s = time.monotonic() + 60.0
    while (answer := client.post("/services/plan", json=spec)).status_code == 503 and time.monotonic() < end_s:
        time.sleep(float(answer.headers["Retry-After"]))
    return answer.json()


@contextmanager
def served(tokens: Tokens | None = None, **options: Any) -> Iterator[Served]:
    """By default everyone on the loopback is let in."""
    tokens = tokens or NoTokens("127.0.0.1")
    with a_cluster() as cluster:
        site = cluster.site(**options.pop("site", {}))
        limits = replace(options.pop("limits", Limits()), glance_s=0.0)  # tests look right after something happened
        app = make_app(site, tokens=tokens, limits=limits, **options)
        server = WebServer(app, Listen(port=0))
        try:
            yield Served(cluster, server.start(), tokens, app.state.web)
        finally:
            server.stop()


@contextmanager
def served_with_tokens(folder: Path, **options: Any) -> Iterator[tuple[Served, str]]:
    """With Muster's own tokens, and the first of them."""
    tokens = StoredTokens(folder / "tokens.json")
    first = tokens.first(0.0)
    assert first is not None
    with served(tokens, **options) as made:
        yield made, first
