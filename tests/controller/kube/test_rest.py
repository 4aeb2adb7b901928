"""Requests reach the server that a configuration names: under its path, and through a proxy."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from kubernetes.client.configuration import Configuration

from controller.kube.rest import Api


class Server(HTTPServer):
    """Answers every request with the target that it named."""

    asked: list[str]


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append(self.path)
        body = json.dumps({"target": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), _Answer)
    made.asked = []
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def _api(host: str, proxy: str | None = None) -> Api:
    def configure() -> Configuration:
        found = Configuration()
        found.host, found.proxy = host, proxy
        return found

    return Api(configure, connections=1)


def test_requests_go_below_the_path_of_the_server(server: Server) -> None:
    api = _api(f"http://127.0.0.1:{server.server_port}/k8s/clusters/c-1")
    answer = api.request("GET", "/api/v1/nodes", query={"limit": "5"})
    assert answer == {"target": "/k8s/clusters/c-1/api/v1/nodes?limit=5"}
    api.stream("/api/v1/nodes", {"watch": "true"}, 5.0).end()
    assert server.asked[-1] == "/k8s/clusters/c-1/api/v1/nodes?watch=true"


def test_a_proxy_is_told_the_server_as_well(server: Server) -> None:
    api = _api("http://api.invalid:6443", proxy=f"http://127.0.0.1:{server.server_port}")
    assert api.request("GET", "/api/v1/nodes") == {"target": "http://api.invalid:6443/api/v1/nodes"}
