"""Published request traces: each format is told by its first line, and a bad row is named by its line."""

import gzip
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import traces
from planner.errors import BadInput
from planner.traces import Trace, read_trace
from tests.pace import pace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def trace(folder: Path, text: str | bytes, name: str = "trace") -> Trace:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_trace(path)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(BadInput) as refused:
        trace(folder, text)
    return str(refused.value).removeprefix(f"{folder}/")


def rows(read: Trace) -> list[tuple[float, int, int]]:
    return [
        (round(float(arrival_s), 6), int(inputs), int(outputs))
        for arrival_s, inputs, outputs in zip(read.arrival_s, read.input_tokens, read.output_tokens, strict=True)
    ]


def test_azure_2023_has_dates_with_seven_decimals(tmp_path: Path) -> None:
    read = trace(tmp_path, AZURE + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n")
    assert read.format == "azure"
    assert rows(read) == [(0.0, 374, 44), (4.314579, 396, 109)]


def test_azure_2024_has_dates_with_an_offset_and_sometimes_no_fraction(tmp_path: Path) -> None:
    read = trace(tmp_path, AZURE + "2024-05-10 00:00:00+00:00,1,2\n2024-05-10 00:00:00.250000+00:00,3,4\n")
    assert rows(read) == [(0.0, 1, 2), (0.25, 3, 4)]


def test_burstgpt_without_sessions_counts_and_drops_failed_requests(tmp_path: Path) -> None:
    read = trace(
        tmp_path,
        BURST + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n118,GPT-4,417,276,693,x\n",
    )
    assert (read.format, read.failed) == ("burstgpt", 1)
    assert rows(read) == [(0.0, 472, 18), (113.0, 417, 276)]


def test_burstgpt_with_sessions_finds_its_columns_by_name(tmp_path: Path) -> None:
    header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    read = trace(tmp_path, header + '5.5,s-1,1.2,"ChatGPT, old",472,18,490,log\n')
    assert rows(read) == [(0.0, 472, 18)]


def test_mooncake_has_milliseconds_and_its_hashes_are_passed_over(tmp_path: Path) -> None:
    published = '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}\n'
    other_order = '{"output_length": 5, "extra": {"a": []}, "input_length": 7, "timestamp": 28482.5}\n'
    read = trace(tmp_path, published + other_order)
    assert read.format == "mooncake"
    assert rows(read) == [(0.0, 6955, 52), (1.0005, 7, 5)]


def test_rows_out_of_order_are_sorted_by_time(tmp_path: Path) -> None:
    read = trace(tmp_path, BURST + "9,a,1,1,2,x\n3,a,2,2,4,x\n3,a,3,3,6,x\n")
    assert rows(read) == [(0.0, 2, 2), (0.0, 3, 3), (6.0, 1, 1)]


def test_gzip_is_told_by_its_bytes_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    text = "\ufeff" + AZURE.replace("\n", "\r\n") + "2023-11-16 18:15:46,374,44\r\n\r\n"
    assert rows(trace(tmp_path, gzip.compress(text.encode()))) == [(0.0, 374, 44)]


def test_blocks_make_no_difference(tmp_path: Path) -> None:
    text = BURST + "".join(f"{n},a,{n + 1},7,0,x\n" for n in range(1000))
    whole = trace(tmp_path, text)
    assert rows(read_trace(tmp_path / "trace", block_bytes=100)) == rows(whole)


@pytest.mark.parametrize("block_bytes", [100, traces.BLOCK_BYTES])
def test_lines_are_counted_over_blocks(tmp_path: Path, block_bytes: int) -> None:
    path = tmp_path / "trace"
    path.write_text(BURST + "".join(f"{n},a,{n + 1 if n != 501 else 5.5},7,0,x\n" for n in range(1000)))
    with pytest.raises(BadInput, match=r"trace:503: got a row whose cells do not fit, allowed: 6 cells"):
        read_trace(path, block_bytes)


def test_a_line_longer_than_a_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(b"a" * 500)
    with pytest.raises(BadInput, match="trace:1: got a line above 100 bytes, allowed: rows of text"):
        read_trace(tmp_path / "trace", block_bytes=100)


@pytest.mark.parametrize(
    ("row", "line", "what"),
    [
        ("2023-11-16 18:15:46,x,1", 3, "whose cells do not fit"),
        ("2023-11-16 18:15:46,-1,1", 3, "whose cells do not fit"),
        ("2023-11-16 18:15:46,1.5,1", 3, "whose cells do not fit"),
        ("2023-11-16 18:15:46,nan,1", 3, "whose cells do not fit"),
        ("2023-11-16 18:15:46,1e300,1", 3, "whose cells do not fit"),
        ("2023-11-16 18:15:46,1", 3, "of 2 cells"),
        ("2023-11-16 18:15:46,1,024,1", 3, "of 4 cells"),
        ("2023-13-16 18:15:46,1,1", 3, "whose cells do not fit"),
        ("now,1,1", 3, "whose cells do not fit"),
        ("\n\n,1,1", 5, "whose cells do not fit"),
        ("x" * 200_000, 3, "that is no CSV"),
    ],
    ids=range(11),
)
def test_a_bad_row_is_named_with_its_line_and_what_is_allowed(tmp_path: Path, row: str, line: int, what: str) -> None:
    text = refusal(tmp_path, AZURE + "2023-11-16 18:15:46,1,1\n" + row + "\n2023-11-16 18:15:46,1,1\n")
    assert text.startswith(f"trace:{line}: got a row {what}, allowed: 3 cells, of which TIMESTAMP: a date and time")


@pytest.mark.parametrize(
    "row",
    [
        "[1, 2]",
        '{"timestamp": 1}',
        '{"timestamp": 1, "input_length": true, "output_length": 1}',
        '{"timestamp": 1, "input_length": "1", "output_length": 1}',
        '{"timestamp": 1, "input_length": NaN, "output_length": 1}',
        '{"timestamp": 1, "input_length": 1' + "0" * 400 + ', "output_length": 1, "x": 1}',
        "[" * 100_000,
    ],
    ids=range(7),
)
def test_a_bad_json_line_is_named_too(tmp_path: Path, row: str) -> None:
    text = refusal(tmp_path, '{"timestamp": 1, "input_length": 1, "output_length": 1}\n' + row)
    assert text.startswith("trace:2: got something else, allowed: JSON with timestamp: a number")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "trace: got no request"),
        (AZURE.encode(), "trace: got no request"),
        (
            b"a,b,c\n1,2,3\n",
            "trace:1: got the columns 'a,b,c', allowed: CSV with TIMESTAMP,ContextTokens,GeneratedTokens (Azure)",
        ),
        (b"\xff\xfe\n", "trace:1: got bytes that are no text"),
        (AZURE.encode() + b"2023-11-16 18:15:46,1,1\n\xff\n", "trace:3: got bytes that are no text"),
        (AZURE.encode() + b"2023-11-16 18:15:46,5,0\n", "trace: got 1 requests without tokens"),
        (gzip.compress(AZURE.encode() * 100)[:60], "trace: cannot be read ("),
    ],
    ids=range(7),
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in refusal(tmp_path, data)


@pytest.mark.parametrize(
    "first", ["root:x:0:0:root:/root:/bin/bash", "token=hunter2,", "-----BEGIN KEY-----", "{secret", "one", "a,b;c", ""]
)
def test_a_file_that_is_no_table_is_not_shown_to_the_author_of_the_spec(tmp_path: Path, first: str) -> None:
    text = refusal(tmp_path, f"{first}\nsecond line\n")
    assert text.startswith("trace:1: got a first line that is no known header, allowed: CSV with TIMESTAMP")


def test_a_long_header_is_shown_in_part(tmp_path: Path) -> None:
    text = refusal(tmp_path, "arrived," + "word," * 100 + "\n")
    assert text.startswith("trace:1: got the columns 'arrived,word,word,word,word,word,word,wo', allowed: ")


def test_a_pipe_is_refused_at_once_and_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match=r"pipe: cannot be read \(not a regular file\), allowed: a readable trace"):
        read_trace(tmp_path / "pipe")
    with pytest.raises(BadInput, match="not a regular file"):
        read_trace(Path(os.devnull))
    (tmp_path / "trace").write_text(AZURE + "2023-11-16 18:15:46,374,44\n")
    (tmp_path / "link").symlink_to("trace")
    assert rows(read_trace(tmp_path / "link")) == [(0.0, 374, 44)]


@pytest.mark.parametrize("name", ["absent.csv", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"cannot be read \(.*allowed: a readable trace"):
        read_trace(tmp_path / name)


@settings(max_examples=200)
@given(
    st.sampled_from([AZURE, BURST, "", "{"]),
    st.binary(max_size=60) | st.text(alphabet='0123456789,.-: "{}[]\n\reE+', max_size=60).map(str.encode),
)
def test_any_bytes_give_a_trace_or_bad_input(tmp_path_factory: pytest.TempPathFactory, head: str, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(head.encode() + data)
    try:
        read = read_trace(path)
    except BadInput:
        return
    assert len(read) > 0
    assert bool(np.isfinite(read.arrival_s).all())


def test_the_published_azure_trace_is_read_whole(shared: Path) -> None:
    read = read_trace(shared / "data/planner/traces/azure_llm_2023_conv_first_half.csv")
    assert (len(read), read.failed) == (9683, 0)
    assert rows(read)[1] == (4.314579, 396, 109)


def test_a_hundred_thousand_rows_take_well_under_a_second_of_cpu(tmp_path: Path) -> None:
    text = AZURE + "".join(
        f"2024-05-10 {n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.5+00:00,{n},{n % 900 + 1}\n"
        for n in range(1, 100_001)
    )
    started_s = time.process_time()
    assert len(trace(tmp_path, text)) == 100_000
    assert time.process_time() - started_s < 1.0 * pace()
