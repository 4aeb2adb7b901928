"""The node's agent against its bars, on a fake driver of eight GPUs: what it costs, and how soon it sees faults.

    python -m tests.benchmarks.agent [--quick] [--only cost|faults|kills|alarms|soak]

Times are on the clock of a machine that may be busy, so a reference is timed in the same run: a scrape beside one of a
server that sends the same bytes from memory, CPU seconds beside those of a fixed piece of Python.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from tests.benchmarks import agent_faults, agent_kills, agent_soak, alarms
from tests.benchmarks.agent_faults import words, worst
from tests.benchmarks.agent_process import Watched, agent, fake, fetched, under_load
from tests.benchmarks.common import bar, reference
from tests.telemetry.agent_runner import free_port
from tests.telemetry.controller_stub import controller, self_signed

MIB = float(1 << 20)
MOST_CPU, MOST_PSS_MIB, MOST_SCRAPE_S, MOST_START_S = 0.005, 40.0, 0.005, 1.0


def cost(quick: bool) -> list[bool]:
    """CPU, memory, scrapes and start."""
    with fake() as (nvml, library, folder):
        starts_s = []
        for _ in range(3 if quick else 15):
            began = time.monotonic()
            with agent(nvml, library, state=str(folder)) as one:
                one.until_read()
                starts_s.append(time.monotonic() - began)
        certificate = self_signed(folder)
        with under_load(nvml), controller(certificate) as stub:
            told = {"controller": stub.url, "controller_ca": str(certificate)}
            with agent(nvml, library, state=str(folder)) as one:
                cpu = cores(one, quick)
                pages_s, others_s, page = scrapes(one.port, 50 if quick else 1000)
                pss_mib = one.pss_bytes() / MIB
            with agent(nvml, library, state=str(folder), **told) as one:
                told_cpu = cores(one, quick)
                scrapes(one.port, 50)
                told_pss_mib = one.pss_bytes() / MIB
    print(f"      reference: {reference():.3f} CPU s for two million squares")
    of_page = f"{page.count(chr(10)):,} lines; the same bytes from memory: {words(others_s, 1e3, 'ms')}"
    return [
        bar(f"CPU at 1 s hot, <= {MOST_CPU:.1%} of a core", cpu <= MOST_CPU, f"{cpu:.2%}"),
        bar("the same, reporting over HTTPS every 5 s", told_cpu <= MOST_CPU, f"{told_cpu:.2%}"),
        bar(f"PSS of all processes, <= {MOST_PSS_MIB:.0f} MiB", pss_mib <= MOST_PSS_MIB, f"{pss_mib:.1f} MiB"),
        bar("the same, reporting over HTTPS", told_pss_mib <= MOST_PSS_MIB, f"{told_pss_mib:.1f} MiB"),
        bar("scrape, p99 <= 5 ms", worst(pages_s) <= MOST_SCRAPE_S, f"{words(pages_s, 1e3, 'ms')}; {of_page}"),
        bar("first metric after start, <= 1 s", worst(starts_s) <= MOST_START_S, words(starts_s)),
    ]


def cores(one: Watched, quick: bool) -> float:
    """CPU seconds a second of an agent that nobody scrapes."""
    one.until_read()
    time.sleep(3)
    before_s, began = one.cpu_s(), time.monotonic()
    time.sleep(15 if quick else 90)
    return (one.cpu_s() - before_s) / (time.monotonic() - began)


_CONSTANT = """
import http.server, sys
page = sys.stdin.buffer.read()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def scrapes(port: int, count: int) -> tuple[list[float], list[float], str]:
    """Seconds of scrapes, of the same bytes from a server that only sends them (taken in turns), and the page."""
    page, _ = fetched(port)
    other = free_port()
    process = subprocess.Popen([sys.executable, "-c", _CONSTANT, str(other)], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(page.encode())
    process.stdin.close()
    time.sleep(1)
    ours_s, others_s = [], []
    try:
        for _ in range(count):
            ours_s.append(fetched(port)[1])
            others_s.append(fetched(other)[1])
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    return ours_s, others_s, page


PARTS: Mapping[str, Callable[[bool], list[bool]]] = {
    "cost": cost,
    "faults": agent_faults.all_bars,
    "kills": agent_kills.bars,
    "soak": agent_soak.bars,
    "alarms": alarms.bars,
}


def main() -> None:
    """Print every bar; exit code 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few of each, in three minutes")
    parser.add_argument("--only", choices=PARTS, help="one part")
    given = parser.parse_args()
    met = [one for name, part in PARTS.items() if given.only in (None, name) for one in part(given.quick)]
    print(f"{sum(met)} of {len(met)} bars met")
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
