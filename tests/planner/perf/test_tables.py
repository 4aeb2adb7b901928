"""Tables in and out: CSV and Parquet, missing fields, and files that are no tables."""

from pathlib import Path

import numpy as np
import pytest

from planner.errors import BadInput
from planner.perf.tables import numbers, read, words, write


def written(folder: Path, text: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_column_is_numbers_where_all_that_is_given_are(tmp_path: Path) -> None:
    columns = read(written(tmp_path, "a,b\n1,x\n,2\n"))
    assert np.isnan(columns["a"][1])
    assert columns["b"].tolist() == ["x", "2"]
    assert numbers(columns, "a", 7.0).tolist() == [1.0, 7.0]
    assert numbers(columns, "missing", 3.0).tolist() == [3.0, 3.0]
    assert numbers(columns, "b").tolist() == [np.inf, 2.0]
    assert words(columns, "a", "?") == ["1", "?"]


def test_parquet_and_csv_give_the_same_columns(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    path = tmp_path / "rows.bin"  # known by its first bytes, whatever it is called
    parquet.write_table(arrow.table({"a": [1, None], "b": ["x", "y"]}), path)
    columns = read(path)
    assert columns["a"][0] == 1
    assert np.isnan(columns["a"][1])
    assert columns["b"].tolist() == ["x", "y"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    columns = {"a": np.array([1.5, np.nan]), "b": np.array(["x,y", ""], dtype=object)}
    write(tmp_path / "out.csv", columns)
    again = read(tmp_path / "out.csv")
    assert again["b"].tolist() == ["x,y", ""]
    assert again["a"][0] == 1.5
    assert np.isnan(again["a"][1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "column 'a' twice"),
        ("a,b\n1\n", "row 2: got 1 fields, the header has 2"),
        ("PAR1 is no table", "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read(written(tmp_path, text))


def test_a_folder_a_missing_file_and_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "none.csv", tmp_path / "bytes.csv"):
        with pytest.raises(BadInput):
            read(path)
    with pytest.raises(BadInput, match="cannot be written"):
        write(tmp_path / "no" / "out.csv", {"a": np.ones(1)})


def test_parquet_with_a_column_twice_or_days_beyond_the_calendar_is_refused(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    path = tmp_path / "rows.parquet"
    one = arrow.array([1])
    for made, said in (
        (arrow.Table.from_arrays([one, one], names=["m", "m"]), "column 'm' twice"),
        (arrow.table({"day": arrow.array([2**30], arrow.date32())}), "column 'day' of date32"),
    ):
        parquet.write_table(made, path)
        with pytest.raises(BadInput, match=said):
            read(path)


def test_parquet_of_nested_and_odd_types_becomes_words(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    path = tmp_path / "rows.parquet"
    columns = {"list": [[1, 2]], "struct": [{"a": 1}], "bytes": [b"\xff"], "m": [True]}
    parquet.write_table(arrow.table(columns), path)
    found = read(path)
    assert found["list"].tolist() == ["[1, 2]"]
    assert found["m"].tolist() == [1.0]
