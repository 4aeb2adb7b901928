"""The API under load and under fire: python tests/benchmarks/api_load.py [--clients 200] [--seconds 30] [--schema 30]

A whole Muster (`controller.up`, the demo's fleet, an hour of it in a minute) runs in a process of its own. Clients ask
once a second each, from another process, for what pages and commands ask for; now and then one writes. Meanwhile bodies
of 10 MB, YAML bombs and bodies of as many values as are allowed are sent one after the other. Then, with --schema,
schemathesis sends that API whatever its OpenAPI allows and forbids, with so many examples an operation.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from tests.benchmarks.common import bar, reference
from tests.controller.web.cluster import a_spec
from tests.controller.web.schema_run import schemathesis

MOST_S, SHARE = 0.2, 0.99
FLEET = "deploy/examples/demo.yaml"
READS = (
    "/services", "/services/default/assistant", "/services/default/assistant/view", "/plans/default/assistant",
    "/nodes", "/gpus",
    "/overview", "/events?limit=50", "/powerdomains", "/series?metric=rate_per_s&subject=default/assistant",
)  # fmt: skip
BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (97 + i, 97 + i, b", ".join([b"*%c" % (96 + i)] * 10)) for i in range(1, 9)
)
FIRE = {
    "10 MB": (b" " * 10_000_000, "application/json", 413),
    "10 MB without a length": (b" " * 10_000_000, "application/json", 413),
    "YAML bomb": (BOMB, "application/yaml", 422),
    "19,000 values in YAML": (b"a: [" + b"1, " * 19_000 + b"1]", "application/yaml", 422),
    "1 MB of YAML": (b"a: [" + b"1, " * 349_000 + b"1]", "application/yaml", 422),
    "99,000 values in JSON": (b'{"a": [' + b"1," * 99_000 + b"1]}", "application/json", 422),
}


def main() -> None:
    """Print the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--schema", type=int, default=0, metavar="EXAMPLES", help="run schemathesis too")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            met = load(server, chosen.clients, chosen.seconds)
            met = (not chosen.schema or schema(server, Path(folder), chosen.schema)) and met
        finally:
            server.stop()
    sys.exit(0 if met else 1)


class Server:
    """A Muster in a process of its own, with the demo's two services."""

    def __init__(self, folder: Path) -> None:
        code = "import sys; from tests.benchmarks.api_server import main; main(sys.argv[1])"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(("", str(Path.cwd()), *sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "state")], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url, self.token = self.process.stdout.readline().split()
        self._ticks = os.sysconf("SC_CLK_TCK")

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, without the planner's."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / self._ticks

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def load(server: Server, clients: int, seconds: float) -> bool:
    """The bars of the load."""
    before_s, began_s, mine_s = server.cpu_s(), time.monotonic(), time.process_time()
    waits_s, statuses, fired = asyncio.run(_load(server, clients, seconds))
    passed_s = time.monotonic() - began_s
    cpu_ratio, mine_ratio = (server.cpu_s() - before_s) / passed_s, (time.process_time() - mine_s) / passed_s
    waits_s.sort()
    at = {share: waits_s[min(int(len(waits_s) * share), len(waits_s) - 1)] for share in (0.5, 0.95, SHARE)}
    print(f"{len(waits_s):,} requests of {clients} clients in {seconds:g} s; statuses {dict(statuses)}")
    print(f"fire: {', '.join(f'{count} x {name}' for name, count in fired.items())}")
    print(f"CPU: server {cpu_ratio:.0%} of a core, clients {mine_ratio:.0%}; {reference():.2f} s for a fixed loop")
    figure = ", ".join(f"p{share * 100:g} {wait_s * 1e3:.0f} ms" for share, wait_s in at.items())
    bars = [
        bar(f"{clients} clients, p99 < {MOST_S * 1e3:.0f} ms", at[SHARE] < MOST_S, figure),
        bar("every request is answered", set(statuses) <= {200, 201, 409}, f"{dict(statuses)}"),
        bar("what is fired is refused", all(fired.values()), f"{sum(fired.values())} refused"),
    ]
    return all(bars)


async def _load(server: Server, clients: int, seconds: float) -> tuple[list[float], Counter[int], Counter[str]]:
    headers = {"Authorization": f"Bearer {server.token}"}
    waits_s: list[float] = []
    statuses: Counter[int] = Counter()
    port = int(server.url.rpartition(":")[2])
    fired: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=f"{server.url}/api/v1", headers=headers, timeout=30) as http:
        end_s = time.monotonic() + seconds

        async def client(number: int) -> None:
            await asyncio.sleep(number / clients)
            wire = await Wire.to(port, server.token)
            turn = number
            while time.monotonic() < end_s:
                began_s = time.monotonic()
                if turn % 97 == 0:
                    status = await wire.ask("POST", "/services", json.dumps(a_spec("again")).encode())
                else:
                    status = await wire.ask("GET", READS[turn % len(READS)])
                waits_s.append(time.monotonic() - began_s)
                statuses[status] += 1
                turn += 1
                await asyncio.sleep(max(began_s + 1.0 - time.monotonic(), 0.0))

        async def fire() -> None:
            while time.monotonic() < end_s:
                for name, (body, kind, status) in FIRE.items():
                    content = _chunks(body) if "without" in name else body
                    answer = await http.post("/services", content=content, headers={"Content-Type": kind})
                    assert answer.status_code == status, (name, answer.status_code, answer.text[:200])
                    fired[name] += 1
                    await asyncio.sleep(0.2)

        await asyncio.gather(fire(), *map(client, range(clients)))
    return waits_s, statuses, fired


class Wire:
    """A connection that stays open, with as little around it as there can be: 200 clients must fit into a process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader, self._writer, self._token = reader, writer, token

    @staticmethod
    async def to(port: int, token: str) -> "Wire":
        """A new connection."""
        return Wire(*await asyncio.open_connection("127.0.0.1", port), token)

    async def ask(self, method: str, path: str, body: bytes = b"") -> int:
        """The status of an answer, which is read whole."""
        head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(answer.split(None, 2)[1])


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 65_536):
        yield body[at : at + 65_536]


def schema(server: Server, folder: Path, examples: int) -> bool:
    """The bars of schemathesis."""
    ended = schemathesis(server.url, server.token, folder, examples, "examples,coverage,fuzzing,stateful")
    summary = ended.stdout.rpartition("SUMMARY")[2].strip(" =\n")
    if ended.returncode:
        print(ended.stdout)
    return bar("schemathesis finds nothing", ended.returncode == 0, " ".join(summary.split())[:300])


if __name__ == "__main__":
    main()
