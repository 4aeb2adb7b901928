"""The page of the GPUs: what it keeps from scrape to scrape never differs from what it would write anew."""

import random
import subprocess
import sys

from telemetry.fields import CLOCK_EVENT_MASK
from telemetry.page import Page
from telemetry.render import Identity
from telemetry.sample import Driver, Gpu, Sample
from tests.telemetry.samples import HOT, LINK, START_S, WARM

GPUS = tuple(Gpu(index, f"GPU-{index}", "H200", f"0000:0{index}:00.0", index, links=3) for index in range(3))
IDENTITY = Identity("node-1", Driver("580.1"), GPUS)


def _sample(gpu: int, rng: random.Random) -> Sample:
    """Some values as they were, some new, some not told; now and then a GPU that is lost."""
    if rng.random() < 0.1:
        return Sample(gpu, {"hot": START_S}, {}, (), "GPU is lost")
    values = {
        name: rng.choice((value, value + 1.5, rng.uniform(0, 1e12)))
        for name, value in {**HOT, **WARM}.items()
        if rng.random() < 0.9
    }
    values[CLOCK_EVENT_MASK] = float(rng.choice((0, 4, 0x48)))
    links = tuple({**LINK, "replay": float(rng.randrange(2))} for _ in range(rng.choice((0, 3))))
    return Sample(gpu, {"hot": START_S + rng.random()}, values, links)


def test_a_page_that_has_written_others_before_is_the_one_that_a_new_page_writes() -> None:
    rng, kept = random.Random(0), Page(IDENTITY)
    samples: dict[int, Sample] = {}
    for _ in range(300):
        index = rng.randrange(3)
        samples = {**samples, index: _sample(index, rng)}
        assert kept.parts(samples) == Page(IDENTITY).parts(samples)


def test_a_gpu_that_tells_nothing_has_no_series_of_it() -> None:
    told, silent = Sample(0, {"hot": START_S}, {"power_w": 412.5}), Sample(1, {"hot": START_S}, {})
    text = b"".join(Page(IDENTITY).parts({0: told, 1: silent})).decode()
    assert [line for line in text.splitlines() if line.startswith("muster_gpu_power_watts")] == [
        'muster_gpu_power_watts{gpu="0",uuid="GPU-0"} 412.5'
    ]
    assert "clock_event{" not in text


def test_a_clock_event_is_one_while_its_bit_is_set() -> None:
    sample = Sample(0, {"hot": START_S}, {CLOCK_EVENT_MASK: 0x48})  # hardware slowdown, by heat
    text = b"".join(Page(IDENTITY).parts({0: sample})).decode()
    held = [line for line in text.splitlines() if line.startswith("muster_gpu_clock_event{") and line.endswith(" 1")]
    assert [line.partition("reason=")[2] for line in held] == ['"hw_slowdown"} 1', '"hw_thermal"} 1']


def test_the_most_memory_told_is_the_agents_own_and_not_that_of_what_started_it() -> None:
    """`execv` keeps getrusage's maximum: the command line that starts an agent has held much more than the agent."""
    own = "from telemetry.agent import most_resident_bytes; print(most_resident_bytes())"
    starter = f"import os, sys; held = b'x' * (200 << 20); os.execv(sys.executable, [sys.executable, '-c', {own!r}])"
    found = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=True)
    assert 5 << 20 < float(found.stdout) < 100 << 20
