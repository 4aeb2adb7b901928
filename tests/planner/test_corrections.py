"""The file of corrections: written, read back to the last bit, and refused by line where it is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from planner.corrections import Correction, Factor, load, text
from planner.errors import BadInput

ONE = Correction(
    "vllm", "llama-3.1-8b", "H100-SXM", 1, 1, "bf16", Factor(1.2, 1.1, 1.3), Factor(0.9, 0.85, 0.95), 300, 857.46,
    652.5, 141.5, "2026-01-01T00:00:00+00:00", "ab" * 32,
)  # fmt: skip


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text((ONE, replace(ONE, tp=2))))
    assert load(path) == (ONE, replace(ONE, tp=2))


def test_yaml_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    path.write_text(text((ONE,)).replace('"kind": "Calibration"', "kind: Calibration"))
    assert load(path) == (ONE,)


def test_a_correction_covers_its_own_deployment_only() -> None:
    assert ONE.covers("vllm", "llama-3.1-8b", "H100-SXM", 1, 1, "bf16")
    assert not ONE.covers("vllm", "llama-3.1-8b", "H100-SXM", 1, 1, "fp8")
    assert not ONE.covers("sglang", "llama-3.1-8b", "H100-SXM", 1, 1, "bf16")


def test_near_is_within_a_factor_of_two_each_way() -> None:
    assert ONE.near(2 * 857.46, 652.5, 141.5 / 2)
    assert not ONE.near(857.46, 652.5, 2.1 * 141.5)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("nothing: 1", "got no corrections"),
        ("[1, 2]", "got no corrections"),
        (text((ONE,)).replace('"tp": 1', '"tp": "one"'), "corrections[0].tp: got 'one', allowed: a number above 0"),
        (text((ONE,)).replace('"tp": 1', '"tq": 1'), "corrections[0].tq: got 1, allowed: only engine, model"),
        (text((ONE,)).replace("1.2", "-1.2"), "corrections[0].prefill.ratio: got -1.2"),
        (text((ONE,)).replace("1.2", "1.5"), "corrections[0].prefill.ratio: got 1.5, allowed: between 1.1 and 1.3"),
        (text((ONE,)).replace('"vllm"', "7"), "corrections[0].engine: got 7, allowed: a word"),
    ],
)
def test_a_wrong_file_is_refused_by_line(tmp_path: Path, broken: str, said: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(broken)
    with pytest.raises(BadInput) as caught:
        load(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
