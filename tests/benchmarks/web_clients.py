"""200 clients of `muster up` while it is attacked: python -m tests.benchmarks.web_clients [--rounds 5] [--busy 2]

A whole Muster (the demo's fleet, an hour of it in a minute) runs in a process of its own, 200 clients that ask once a
second in another, attackers in a third: bodies of 10 MB, YAML bombs, bodies of very many values, and 200 connections
that ask without a pause, all at once. `--busy` processes take what they get of the processors besides. Rounds with and
without the attack alternate on one Muster; the bar is of the median of their p99. What a client was late by itself is
printed, and no part of the figures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from tests.benchmarks.api_load import Server
from tests.benchmarks.common import bar, reference

MOST_S = 0.2
_ALLOWED = {200, 201, 409}


@dataclass(frozen=True)
class Round:
    """What 200 clients saw."""

    p50_s: float
    p99_s: float
    worst_s: float
    statuses: Counter[str]
    words: str


def main() -> None:
    """Print the rounds and the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--crowd", type=int, default=200, help="connections that ask without a pause")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, default=0, help="processes that only take time of the processors")
    parser.add_argument("--only", default="", help="these attacks alone, joined by +; such as 'YAML bomb+crowd'")
    chosen = parser.parse_args()
    calm: list[Round] = []
    fired: list[Round] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        server = Server(Path(folder))
        ends.callback(server.stop)
        ends.enter_context(_busy(chosen.busy))
        attacker = _token(server, "attacker")
        tokens = [_token(server, f"client-{index}") for index in range(chosen.clients)]
        for _ in range(chosen.rounds):
            calm.append(_round(server, chosen, tokens, ""))
            fired.append(_round(server, chosen, tokens, attacker))
    print(
        f"{os.cpu_count()} processors, {chosen.busy} other processes busy; a fixed loop takes {reference():.2f} s now"
    )
    sys.exit(0 if all([_judged("undisturbed", calm), _judged("under attack", fired)]) else 1)


def _judged(name: str, rounds: list[Round]) -> bool:
    p99_s, p50_s = median(one.p99_s for one in rounds), median(one.p50_s for one in rounds)
    ends = f"{min(one.p99_s for one in rounds) * 1e3:.0f} to {max(one.p99_s for one in rounds) * 1e3:.0f}"
    figure = f"p50 {p50_s * 1e3:.0f}, p99 {p99_s * 1e3:.0f} ms ({ends} in {len(rounds)} rounds)"
    statuses = sum((one.statuses for one in rounds), Counter[str]())
    return all(
        [
            bar(f"{name}: p99 < {MOST_S * 1e3:.0f} ms", p99_s < MOST_S, figure),
            bar(f"{name}: all are answered", {int(one) for one in statuses} <= _ALLOWED, f"{dict(statuses)}"),
        ]
    )


def _round(server: Server, chosen: argparse.Namespace, tokens: list[str], attacker: str) -> Round:
    """One round, attacked where there is a token to attack with."""
    port = server.url.rpartition(":")[2]
    with ExitStack() as ends:
        told = ends.enter_context(_attack(port, attacker, chosen)) if attacker else {}
        cpu_s, began_s, busy_s = server.cpu_s(), time.monotonic(), _busy_s()
        asking = _python("web_asking", port, str(chosen.seconds))
        seen = json.loads(asking.communicate("\n".join(tokens))[0])
        passed_s = time.monotonic() - began_s
        share, used = (server.cpu_s() - cpu_s) / passed_s, (_busy_s() - busy_s) / passed_s
        load = os.getloadavg()[0]
    waits_s = sorted(seen["waits_s"])
    late = ", ".join(f"{name} {_at(seen[f'{name}_late_s'], 0.99) * 1e3:.1f}" for name in ("sent", "read"))
    slow = ", ".join(f"{path} {wait_s * 1e3:.0f}" for wait_s, path in seen["slowest"][:3])
    name = "attacked" if attacker else "calm"
    figures = ", ".join(f"p{at * 100:g} {_at(waits_s, at) * 1e3:.1f}" for at in (0.5, 0.95, 0.99))
    words = (
        f"{name:8} {figures}, worst {waits_s[-1] * 1e3:.0f} ms of {len(waits_s)}; server {share:.0%} of a core, all"
        f" {used:.0%}, load {load:.1f}; the clients' own p99 {late} ms; slowest {slow};"
        f" worst by second {' '.join(f'{one * 1e3:.0f}' for one in seen['by_second_s'].values())}"
    )
    print(words, flush=True)
    if attacker:
        print(f"         {told}", flush=True)
    return Round(_at(waits_s, 0.5), _at(waits_s, 0.99), waits_s[-1], Counter(seen["statuses"]), words)


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def _python(module: str, *words: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(("", str(Path.cwd()), *sys.path))}
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *words]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def _attack(port: str, token: str, chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The attack for as long as the body takes; gives what is filled with what came of it."""
    process, told = _python("web_attack", port, token, str(chosen.crowd), chosen.only), dict[str, Any]()
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1.0)
    try:
        yield told
    finally:
        told.update(json.loads(process.communicate("end\n")[0]))


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Processes that take what they get of the processors."""
    made = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in made:
            one.kill()
            one.wait()


def _busy_s() -> float:
    """Seconds that all processors together were at work, ours and others'."""
    fields = [int(one) for one in Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _token(server: Server, name: str) -> str:
    """A token of somebody's own: it may read and write, as anybody's."""
    headers = {"Authorization": f"Bearer {server.token}"}
    body = {"name": name, "scopes": ["read", "write"]}
    answer = httpx.post(f"{server.url}/api/v1/tokens", headers=headers, json=body, timeout=30.0)
    return str(answer.raise_for_status().json()["token"])


if __name__ == "__main__":
    main()
