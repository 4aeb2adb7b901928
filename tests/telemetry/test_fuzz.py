"""Whatever stands in the files and pipes that the agent reads: a refusal in words, or a message that does no harm."""

import base64
import contextlib
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry import boundness, job_trace, keep, kmsg
from telemetry.agent import Agent
from telemetry.errors import BadRecord
from telemetry.packed import Unpacker
from telemetry.sample import Driver, Gpu, Reading, Xid
from telemetry.settings import Settings
from telemetry.wire import Count, Hello, decode, encode
from tests.telemetry.samples import hot, warm

_KEYS = st.sampled_from(
    ("hello", "reading", "xid", "count", "gpus", "at_s", "gpu", "tier", "values", "links", "lost", "took_s", "code",
     "source", "text", "driver", "uuid", "index")
) | st.text(max_size=4)  # fmt: skip
_LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(("hot", "nvml"))
_JSON = st.recursive(
    _LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6), max_leaves=15
)
_GOOD = [
    Hello(Driver("580", "13", "boot"), (Gpu(0, "GPU-0"),), 1e9), hot(1.0), warm(2.0), Count(8, 1e9),
    Xid(0, 79, 1e9, "kmsg", "text"), Reading(1, "cold", 1e9, lost="GPU is lost"),
]  # fmt: skip
_FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)


def harmless(line: bytes) -> None:
    """It is refused, or the agent takes it and can write its page."""
    try:
        message = Unpacker().message(line)
    except BadRecord:
        return
    agent = Agent(Settings("node-1", sysfs="/nowhere"), "boot", 0.0)
    agent.hear(_GOOD[0])  # type: ignore[arg-type]
    agent.hear(message)
    agent.metrics()


@settings(deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=900).map(lambda body: b"R" + base64.b64encode(body)))
def test_any_bytes_from_the_reader_are_harmless(line: bytes) -> None:
    harmless(line)


@settings(deadline=None)
@given(_JSON)
def test_any_json_from_the_reader_is_harmless(found: object) -> None:
    harmless(json.dumps(found).encode())


@settings(deadline=None)
@given(st.sampled_from(_GOOD), _KEYS, _JSON)
def test_a_message_with_one_thing_changed_is_harmless(message: Hello, key: str, value: object) -> None:
    found = json.loads(encode(message))
    for part in (found, *(inner for inner in found.values() if isinstance(inner, dict))):
        harmless(json.dumps({**found, **({key: value} if part is found else {})}).encode())
        if part is not found:
            name = next(outer for outer, inner in found.items() if inner is part)
            harmless(json.dumps({**found, name: {**part, key: value}}).encode())


@_FILES
@given(st.binary(max_size=300) | _JSON.map(lambda found: json.dumps(found).encode()))
def test_a_broken_state_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agent.json"
    path.write_bytes(content)
    assert keep.read(path) == keep.Kept()
    assert path.with_suffix(".broken").exists()


@_FILES
@given(st.sampled_from(("boot_id", "sequence", "kernel_sequence", "gpus", "xids", "states", "waiting")), _JSON)
def test_a_state_file_with_one_thing_changed_lets_the_agent_start(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "agent.json"
    first = Agent(Settings("node-1", state=str(tmp_path)), "boot", 0.0)
    first.hear(_GOOD[0])  # type: ignore[arg-type]
    first.hear_xid(Xid(0, 79, 1e9, "nvml"))
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), key: value}), "utf-8")
    again = Agent(Settings("node-1", state=str(tmp_path)), "boot", 0.0)
    again.hear(_GOOD[0])  # type: ignore[arg-type]
    again.tick(1e9)
    again.metrics()
    again.save()


@given(st.text(max_size=100) | st.from_regex(r"\d,\d{1,4},\d{1,9},-;NVRM: Xid \(PCI:.{0,12}\): \d{1,30}(, .{0,20})?"))
def test_any_kernel_message_is_an_xid_or_none(record: str) -> None:
    found = kmsg.parsed(record)
    assert found is None or (found.code >= 0 and len(found.text) <= kmsg.LONGEST_TEXT)


_CSV = ",".join(job_trace.COLUMNS)


@_FILES
@given(st.binary(max_size=200), st.booleans(), st.sampled_from(("", _CSV + "\n", _CSV + "\n0,0,0,0,1,fwd,1,2,3\n")))
def test_any_trace_of_a_job_is_read_or_refused_in_words(tmp_path: Path, more: bytes, zipped: bool, head: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(gzip.compress(head.encode() + more)[: None if more else -3] if zipped else head.encode() + more)
    with contextlib.suppress(BadRecord):
        job_trace.read(path)


_EVENT = st.fixed_dictionaries(
    {},
    optional={
        "ph": st.sampled_from(("X", "B", 1)), "cat": st.sampled_from(("kernel", "cuda_runtime", None)),
        "name": st.sampled_from(("cudaLaunchKernel", "gemm", 3)), "ts": _LEAF, "dur": _LEAF,
        "args": st.dictionaries(st.just("correlation"), _JSON, max_size=1) | _LEAF,
    },
)  # fmt: skip


@_FILES
@given(_JSON | st.fixed_dictionaries({"traceEvents": st.lists(_EVENT | _JSON, max_size=6)}))
def test_any_profile_is_read_or_refused_in_words(tmp_path: Path, found: object) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(found), "utf-8")
    with contextlib.suppress(BadRecord):
        boundness.judge([boundness.read(path)])


def test_a_line_without_end_is_cut_and_said_to_be() -> None:
    with pytest.raises(BadRecord, match="at most"):
        decode(b"x" * ((1 << 20) + 1))
