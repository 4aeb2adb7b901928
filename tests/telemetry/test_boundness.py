"""Boundness on traces that PyTorch's profiler wrote on an H200, and on events written by hand."""

import json
from pathlib import Path

import pytest

from telemetry.boundness import judge, launches, read, turns_at
from telemetry.errors import BadRecord

TRACES = sorted((Path(__file__).parent / "data" / "launches").glob("*.json.gz"))


def events(waits_us: list[float], kernel_us: float) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for i, wait_us in enumerate(waits_us):
        launch = {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 100.0 * i, "dur": 3.0}
        kernel = {"ph": "X", "cat": "kernel", "name": "k", "ts": 100.0 * i + wait_us, "dur": kernel_us}
        found += [{**launch, "args": {"correlation": i}}, {**kernel, "args": {"correlation": i}}]
    return found


def test_tklqt_sums_the_time_from_launch_to_start() -> None:
    found = launches("x", events([5.0, 7.0, 9.0], 4.0))
    assert found.kernels == 3
    assert found.tklqt_s == pytest.approx(21e-6)
    assert found.busy_s == pytest.approx(12e-6)
    assert found.span_s == pytest.approx(208e-6)  # from 5 to 209 + 4


def test_it_turns_where_kernels_wait_longer_than_the_kernel_before_them_runs() -> None:
    judged = judge([launches("1", events([6.0] * 4, 5.0)), launches("2", events([16.0] * 4, 11.0)),
                    launches("4", events([40.0] * 4, 22.0))])  # fmt: skip
    assert [one.bound for one in judged] == ["cpu", "cpu", "gpu"]  # 16 <= 6 + 11, 40 > 6 + 22
    assert turns_at(judged) == "4"
    assert turns_at(judged[:2]) is None


def test_a_decoder_on_an_h200_turns_where_its_gpu_becomes_busy() -> None:
    judged = judge([read(path) for path in TRACES])
    assert turns_at(judged) == "batch-032"
    busy = [one.launches.busy_ratio for one in judged]
    assert busy == sorted(busy)
    assert busy[4] < 0.6 < 0.8 < busy[5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "no JSON trace", id="empty"),
        pytest.param("{}", "no list 'traceEvents'", id="no events"),
        pytest.param('{"traceEvents": [1, null]}', "no kernel together with its launch", id="no kernels"),
        pytest.param(json.dumps({"traceEvents": [{"ph": "X", "cat": "kernel", "args": {"correlation": 1}}]}), "ts",
                     id="no times"),
    ],
)  # fmt: skip
def test_a_bad_trace_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text, "utf-8")
    with pytest.raises(BadRecord, match=words):
        read(path)
