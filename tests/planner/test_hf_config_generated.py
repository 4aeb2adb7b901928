"""Whatever stands in a config.json: a model, or one line of refusal."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.architecture import parameters
from planner.catalog.architectures import ARCHITECTURES
from planner.catalog.models import model, models
from planner.errors import BadInput
from tests.planner.config_factories import read, rows

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


BASES = rows()
KEYS = sorted({key for config in BASES.values() for key in config})
PLAUSIBLE = (
    JSON
    | st.integers(0, 4096)
    | st.sampled_from(["bfloat16", "fp8", "M*-E", "0,1"])
    | st.lists(st.integers(-1, 9), max_size=4)
    | st.dictionaries(st.sampled_from([*KEYS, "quant_method", "weights", "ignore"]), JSON, max_size=4)
)


@given(config=JSON)
@settings(max_examples=150)
def test_any_json_is_a_model_or_one_line_of_refusal(config: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    answered(tmp_path_factory, config)


@given(
    name=st.sampled_from(sorted(BASES)),
    architecture=st.sampled_from(sorted(ARCHITECTURES)) | st.none(),
    changes=st.dictionaries(st.sampled_from(KEYS), PLAUSIBLE, max_size=4),
)
@settings(max_examples=300)
def test_any_change_to_a_config_is_a_model_or_one_line_of_refusal(
    name: str, architecture: str | None, changes: Mapping[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    chosen = {} if architecture is None else {"architectures": [architecture]}
    answered(tmp_path_factory, {**BASES[name], **chosen, **changes})


def answered(factory: pytest.TempPathFactory, config: object) -> None:
    message = ""
    try:
        found = read(factory.getbasetemp(), config)
    except BadInput as refused:
        message = str(refused)
    if message:
        assert "allowed: " in message
        assert message.isprintable(), "one line"
    else:
        assert parameters(found) > 0


@pytest.mark.parametrize("name", [row.name for row in models()])
def test_a_config_with_the_keys_of_a_row_is_that_row(name: str, tmp_path: Path) -> None:
    found, row = read(tmp_path, BASES[f"row {name}"]), model(name)
    assert (found.blocks, found.tied_embeddings, parameters(found)) == (
        row.blocks,
        row.tied_embeddings,
        parameters(row),
    )
