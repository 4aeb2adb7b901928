"""Packed readings: what comes out is what went in."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.errors import BadRecord
from telemetry.packed import LINK_NAMES, NAMES, Unpacker, line
from telemetry.sample import TIERS, Instance, Reading
from telemetry.wire import Count
from tests.telemetry.fake_nvml.state import FakeNvml
from tests.telemetry.samples import START_S, hot, lost, warm

_NUMBER = st.floats(allow_nan=False, allow_infinity=False)
_LINKS = st.lists(st.dictionaries(st.sampled_from(LINK_NAMES), _NUMBER, max_size=4), max_size=3).map(tuple)
_READING = st.sampled_from(TIERS).flatmap(
    lambda tier: st.builds(
        Reading, st.integers(0, 255), st.just(tier), st.floats(0, 1e10),
        st.dictionaries(st.sampled_from(NAMES[tier]), _NUMBER, max_size=20), _LINKS, lost=st.just(""),
        took_s=st.floats(0, 100), instances=st.just(()),
    )
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_READING, max_size=3))
def test_what_is_unpacked_is_what_was_packed(readings: list[Reading]) -> None:
    unpacker = Unpacker()
    assert [unpacker.message(line(one)[:-1]) for one in readings] == readings


@pytest.mark.nvml
def test_all_that_a_gpu_tells_has_a_place(nvml: FakeNvml, nvml_library: Path) -> None:
    subprocess.run([sys.executable, "-c", _READ_AND_COMPARE], env=nvml.environment(nvml_library), check=True)


_READ_AND_COMPARE = """
from telemetry.nvml.device import opened
from telemetry.nvml.library import start
from telemetry.packed import Unpacker, line
from telemetry.sample import TIERS
start()
device, unpacker = opened(0), Unpacker()
for tier in TIERS * 2:
    read = device.read(tier)
    assert len(read.values) > 5 and unpacker.message(line(read)[:-1]) == read, read
assert len(device.read("warm").links) == 18 and "sm_active_ratio" in device.read("warm").values
"""


def test_links_that_read_as_before_are_the_same_object() -> None:
    unpacker = Unpacker()
    first, second, third = (unpacker.message(line(one)[:-1]) for one in (warm(0), warm(5), warm(10, link={"crc": 1.0})))
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert isinstance(third, Reading)
    assert second.links is first.links
    assert third.links[1]["crc"] == 1.0


@pytest.mark.parametrize(
    "message",
    [lost(1.0), Count(8, START_S), warm(1.0)._replace(instances=(Instance("MIG-1", 1, 0),))],
    ids=["lost", "count", "MIG"],
)
def test_what_has_no_place_goes_as_json(message: Reading | Count) -> None:
    assert line(message)[:1] == b"{"
    assert Unpacker().message(line(message)) == message


@settings(deadline=None)
@given(st.sampled_from((hot(1.0), warm(1.0))), st.integers(0, 400), st.binary(min_size=1, max_size=3), st.booleans())
def test_a_damaged_line_is_refused_or_holds_numbers(reading: Reading, at: int, damage: bytes, cut: bool) -> None:
    text = line(reading)[:-1]
    text = text[:at] if cut else text[:at] + damage + text[at + len(damage) :]
    try:
        found = Unpacker().message(text)
    except BadRecord:
        return
    assert isinstance(found, Reading)
    assert found.tier in TIERS
    assert all(math.isfinite(value) for values in (found.values, *found.links) for value in values.values())
