"""kill -9 of `muster up` at random moments: whatever was answered is there after the next start, and there once.

    python -m tests.benchmarks.up_kills --kills 50

Between two kills services are made, changed and deleted over the API, and the planner works; each third start is killed
before it serves. What was answered is compared with what the API says after the next start, and with what is on disk:
there an event of one time and wording may be once, and a decision on one service once. Left out: power loss of the
machine (the store is in WAL mode with synchronous=NORMAL: a write that was answered survives the process, and the
last few may not survive the machine).
"""

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks.common import bar
from tests.controller.running import Up, a_body, start

_MOST = 5


class Ledger:
    """What was answered: services by name with their priority, and everything that was seen of events and plans."""

    def __init__(self) -> None:
        self.services: dict[str, int] = {}
        self.events: set[str] = set()
        self.decisions: dict[str, set[tuple[str, float]]] = {}
        self.going: set[str] = set()  # deleted: there until their replicas are gone
        self.unsure: set[str] = set()  # asked for when the kill came: done or not, either is right
        self.lost: list[str] = []

    def look(self, up: Up) -> None:
        """Compare with what there is now, and take it down."""
        objects = up.ask("GET", "/api/v1/services?limit=500")["items"]
        there = [{"name": one["metadata"]["name"], "priority": one["spec"].get("priority", 0)} for one in objects]
        named = [row["name"] for row in there]
        if len(named) != len(set(named)):
            self.lost.append(f"services doubled: {named}")
        for name, priority in self.services.items():
            found = next((row for row in there if row["name"] == name), None)
            if name not in self.unsure | self.going and (found is None or found["priority"] != priority):
                self.lost.append(f"service {name}: answered priority {priority}, found {found and found['priority']}")
        for name in set(named) - set(self.services) - self.unsure:
            self.lost.append(f"service {name} is there again")
        self.services = {row["name"]: row["priority"] for row in there}
        self.unsure.clear()
        ids = set(_events(up))
        if gone := self.events - ids:
            self.lost.append(f"{len(gone)} events are gone")
        self.events |= ids
        for name in set(self.services) - self.going:
            self._plans(up, name)

    def _plans(self, up: Up, name: str) -> None:
        try:
            rows = up.ask("GET", f"/api/v1/plans/default/{name}/history")["outcomes"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            rows = []  # none was made yet
        marks = [(row["decision"], row["at_s"]) for row in rows]
        if gone := self.decisions.get(name, set()) - set(marks):
            self.lost.append(f"{len(gone)} plans of {name} are gone")
        self.decisions[name] = set(marks)


def _events(up: Up) -> list[str]:
    """The marks of all events, page by page."""
    found: list[str] = []
    after = ""
    while True:
        page = up.ask("GET", f"/api/v1/events?limit=500{after}")
        found += [row["id"] for row in page["items"]]
        if not page.get("continue"):
            return found
        after = f"&continue={page['continue']}"


def doubled(file: Path) -> list[str]:
    """What is on disk twice, of a process that is dead: the same event, the same decision on the same service."""
    disk = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        objects = [(plural, json.loads(body)) for plural, body in disk.execute("SELECT plural, body FROM objects")]
        past = [json.loads(body) for (body,) in disk.execute("SELECT body FROM past WHERE plural = 'plans'")]
    finally:
        disk.close()
    events = [one for plural, one in objects if plural == "events"]
    told = Counter((e["reason"], e["regarding"].get("uid"), e["note"], e["eventTime"]) for e in events)
    plans = [*past, *(one for plural, one in objects if plural == "plans")]
    made = Counter(
        (p["metadata"]["uid"], p["spec"]["decisionId"], p["spec"]["planned"]["at"])
        for p in plans
        if "planned" in p["spec"]
    )
    services = Counter(one["metadata"]["uid"] for plural, one in objects if plural == "gpuservices")
    return [f"twice on disk: {mark}" for rows in (told, made, services) for mark, count in rows.items() if count > 1]


def act(up: Up, ledger: Ledger, chance: random.Random, number: int) -> None:
    """One change, taken down when it was answered."""
    name = f"s{number}"
    if len(ledger.services) < _MOST:
        ledger.unsure.add(name)
        up.ask("POST", "/api/v1/services", a_body(name, 2.0))
        ledger.services[name] = 0
    elif chance.random() < 0.5:
        name, priority = chance.choice(sorted(set(ledger.services) - ledger.going) or [name]), chance.randrange(1, 1000)
        ledger.unsure.add(name)
        patch: dict[str, Any] = {"spec": {"priority": priority}}
        version = up.ask("GET", f"/api/v1/services/default/{name}")["metadata"]["resourceVersion"]
        up.ask("PATCH", f"/api/v1/services/default/{name}", patch, {
            "Content-Type": "application/merge-patch+json", "If-Match": f'"{version}"'})  # fmt: skip
        ledger.services[name] = priority
    else:
        name = chance.choice(sorted(ledger.services))
        ledger.unsure.add(name)
        ledger.decisions.pop(name, None)
        ledger.going.add(name)
        up.ask("DELETE", f"/api/v1/services/default/{name}")
        return  # it goes once its replicas are gone
    ledger.unsure.discard(name)


def _killed_early(state: Path, after_s: float) -> None:
    """Start it and kill it so soon, whatever it is doing."""
    command = [
        sys.executable,
        "-m",
        "planner.main",
        "up",
        "--listen",
        "127.0.0.1:0",
        "--state",
        str(state),
        "--no-auth",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after_s)
    process.kill()
    process.wait()


def main() -> None:
    """Print what was lost or doubled; exit code 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance, ledger, done = random.Random(given.seed), Ledger(), 0
    with tempfile.TemporaryDirectory() as folder:
        for kill in range(given.kills):
            if kill % 3 == 2:
                _killed_early(Path(folder) / "state", chance.uniform(0.3, 2.5))
                print(f"kill {kill + 1}: before it served", flush=True)
                continue
            up = start(Path(folder) / "state", "--no-auth", "--speed", "60")
            ledger.look(up)
            end_s = time.monotonic() + chance.uniform(0.2, 6.0)
            while time.monotonic() < end_s:
                try:
                    act(up, ledger, chance, done)
                except urllib.error.HTTPError as error:
                    if error.code not in (404, 409, 412):
                        raise
                done += 1
                time.sleep(chance.uniform(0.0, 0.3))
            up.kill()
            ledger.lost += doubled(Path(folder) / "state" / "cluster.db")
            print(f"kill {kill + 1}: {len(ledger.services)} services, {len(ledger.events)} events seen", flush=True)
        up = start(Path(folder) / "state", "--no-auth", "--speed", "60")
        ledger.look(up)
        up.end()
    for one in ledger.lost[:20]:
        print(one)
    words = f"{len(ledger.lost)} lost or doubled over {given.kills} kills and {done} changes"
    sys.exit(0 if bar("kill -9 of muster up", not ledger.lost, words) else 1)


if __name__ == "__main__":
    main()
