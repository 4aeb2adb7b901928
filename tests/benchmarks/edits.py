"""Edits of specs at a rate, and how long each waits for the first word about it; with the least that could answer.

python -m tests.benchmarks.edits KUBECONFIG    # answers every edit with its generation and nothing else
"""

import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from controller.kube.rest import MERGE, Api, ApiError, Stream, connect
from tests.controller.live import until

PATH = "/apis/muster.dev/v1alpha1/namespaces/default/gpuservices"


def edits(kubeconfig: Path, names: list[str], seconds: float, per_s: float, rate: float) -> list[float]:
    """Edit specs at a rate; the seconds from each edit to the first status of its generation."""
    api = connect(kubeconfig)
    lock = threading.Lock()
    asked: dict[tuple[str, int], float] = {}
    told: dict[str, list[tuple[int, float]]] = {}  # by name: generations as they were first told of, and when
    taken: list[float] = []
    streams: list[Stream] = []
    opened, done = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.is_set():  # a server under load ends the watches of whoever is slow; the next shows all objects
            try:
                streams.append(api.stream(PATH, {"watch": "true"}, 600.0))
                opened.set()
                for line in streams[-1]:
                    obj = orjson.loads(line)["object"] if line else {}
                    name = obj.get("metadata", {}).get("name", "")
                    seen, now_s = (obj.get("status") or {}).get("observedGeneration", 0), time.monotonic()
                    with lock:
                        told.setdefault(name, []).append((seen, now_s))
                        for key in [key for key in asked if key[0] == name and key[1] <= seen]:
                            taken.append(now_s - asked.pop(key))
            except (ApiError, orjson.JSONDecodeError):  # perhaps in the middle of a line
                time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    opened.wait(30)
    draw = random.Random(1)
    end_s, step = time.monotonic() + seconds, 0

    def edit(name: str, to: float) -> None:
        sent_s = time.monotonic()
        made = api.request("PATCH", f"{PATH}/{name}", _edit(to), content_type=MERGE)
        mine = made["metadata"]["generation"]
        with lock:  # the word may come before the answer to the edit
            if at_s := next((at_s for seen, at_s in told.get(name, ()) if seen >= mine), 0.0):
                taken.append(at_s - sent_s)
            else:
                asked[name, mine] = sent_s

    began_s = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        while time.monotonic() < end_s:
            step += 1
            pool.submit(edit, draw.choice(names), rate + draw.uniform(-1, 1))
            time.sleep(max(began_s + step / per_s - time.monotonic(), 0.0))
    until(lambda: len(asked) < 0.02 * step, 60)
    done.set()
    streams[-1].end()
    return sorted(taken)


def _edit(rate: float) -> object:
    return {"spec": {"workload": {"ratePerSecond": rate}}}


def echo(api: Api) -> None:
    """Answer each edit with its generation, as soon as it is seen: what the API server alone takes."""

    def say(name: str, generation: int) -> None:
        try:
            body = {"status": {"observedGeneration": generation}}
            api.request("PATCH", f"{PATH}/{name}/status", body, content_type=MERGE)
        except ApiError as error:
            print(error, flush=True)

    with ThreadPoolExecutor(8) as pool:
        for line in api.stream(PATH, {"watch": "true"}, 600.0):
            meta = (obj := orjson.loads(line)["object"])["metadata"] if line else {}
            if line and (obj.get("status") or {}).get("observedGeneration", 0) < meta["generation"]:
                pool.submit(say, meta["name"], meta["generation"])


if __name__ == "__main__":
    echo(connect(Path(sys.argv[1])))
