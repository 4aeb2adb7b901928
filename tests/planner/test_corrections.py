"""The file of corrections: written, read back to the last bit, and refused by line where it is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from planner.corrections import Correction, Factor, for_deployment, load, text
from planner.errors import BadInput

ONE = Correction(
    engine="vllm",
    engine_version="0.19.0",
    model="llama-3.1-8b",
    gpu="H100-SXM",
    tp=1,
    pp=1,
    dp=1,
    weight_format="bf16",
    prefill=Factor(1.2, 1.1, 1.3),
    decode=Factor(0.9, 0.85, 0.95),
    requests=300,
    input_tokens=857.46,
    output_tokens=652.5,
    concurrency=141.5,
    measured_at="2026-01-01T00:00:00+00:00",
    inputs_sha256="ab" * 32,
)


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text((ONE, replace(ONE, tp=2))))
    assert load(path) == (ONE, replace(ONE, tp=2))


def test_yaml_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    path.write_text(text((ONE,)).replace('"kind": "Calibration"', "kind: Calibration"))
    assert load(path) == (ONE,)


def test_a_correction_is_for_its_own_deployment_and_the_last_one_wins() -> None:
    later = replace(ONE, requests=7)
    assert for_deployment((ONE, later), ONE.deployment) == later
    for other in (ONE.deployment._replace(weight_format="fp8"), ONE.deployment._replace(engine_version="")):
        assert for_deployment((ONE, later), other) is None


def test_near_is_within_a_factor_of_two_each_way() -> None:
    assert ONE.near(2 * 857.46, 652.5, 141.5 / 2)
    assert not ONE.near(857.46, 652.5, 2.1 * 141.5)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("nothing: 1", "got no corrections"),
        ("[1, 2]", "got no corrections"),
        (text((ONE,)).replace('"tp": 1', '"tp": "one"'), "corrections[0].tp: got 'one', allowed: a number above 0"),
        (
            text((ONE,)).replace('"tp": 1', '"tq": 1'),
            "corrections[0].tq: got 1, allowed: only engine, engine_",
        ),
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
