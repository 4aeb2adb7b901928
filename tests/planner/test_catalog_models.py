"""The model rows against what their publishers state."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from planner.architecture import active_parameters, gemms, kv_elements, parameters
from planner.base import WEIGHT_BYTES
from planner.catalog.models import ROWS, load, model, models
from planner.errors import BadInput, UnknownName
from planner.model import Model
from planner.yaml_text import read
from tests.pace import pace

# Tables (embedding, head) among the active parameters, where the publisher counts other than both.
ACTIVE_TABLES = {
    "gpt-oss-20b": 1,
    "gpt-oss-120b": 1,
    "deepseek-v2-lite": 1,
    "minimax-text-01": 0,
    "minimax-m2": 0,
    "step-3": 1,
}
SCALE = {"M": 10**6, "B": 10**9, "T": 10**12}


def stated(key: str) -> dict[str, tuple[float, float]]:
    """What the file states under a key: name -> value and the weight of its last digit (0 = exact)."""
    found: dict[str, tuple[float, float]] = {}
    rows = read(ROWS)[0].root.plain()
    assert isinstance(rows, list)
    for row in rows:
        assert isinstance(row, dict)
        value = row.get(key)
        if isinstance(value, int):
            found[str(row["name"])] = (value, 0.0)
        elif isinstance(value, str):
            digits = len(value[:-1].partition(".")[2])
            scale = SCALE[value[-1]]
            found[str(row["name"])] = (float(value[:-1]) * scale, scale / 10**digits)
    return found


def off(counted: Mapping[str, float], published: Mapping[str, tuple[float, float]]) -> list[str]:
    """A line for each count that is not what is published; a rounded one may also have been cut off."""
    return [
        f"{name}: counted {counted[name]:,.0f}, published {value:,.0f} within {unit:,.0f}"
        for name, (value, unit) in published.items()
        if not (-unit / 2 <= counted[name] - value <= max(unit - 1, 0))
    ]


def kv_bytes_per_token(row: Model) -> int:
    """In 16 bits, no window applied."""
    return 2 * sum(block.count * kv_elements(block.attention) for block in row.blocks if block.attention)


def test_every_parameter_count_is_the_published_one() -> None:
    beside = {name: value for name, (value, _) in stated("besideText").items()}
    counted = {row.name: parameters(row) + beside.get(row.name, 0.0) for row in models()}
    published = stated("parameters")
    assert published.keys() == counted.keys()
    wrong = off(counted, published)
    assert not wrong, "\n".join(wrong)
    assert sum(unit == 0 for _, unit in published.values()) >= 50, "most counts are known to the last digit"


def test_every_active_parameter_count_is_the_published_one() -> None:
    counted = {
        row.name: active_parameters(row) - (2 - ACTIVE_TABLES.get(row.name, 2)) * row.hidden * row.vocab
        for row in models()
    }
    published = stated("active")
    sparse = {row.name for row in models() if any(block.ffn and block.ffn.experts for block in row.blocks)}
    assert published.keys() == sparse
    wrong = off(counted, published)
    assert not wrong, "\n".join(wrong)


def test_the_published_count_of_a_row_is_that_of_its_text_part() -> None:
    assert model("gemma-3-4b").published_params == 4_300_079_472 - 419_816_304
    assert model("step-3").published_params == 316e9


def test_what_models_that_see_hold_beside_text_is_their_vision_encoder_and_projector() -> None:
    # SigLIP of Gemma 3: 27 layers of width 1152 on 896-pixel images; every linear layer has a bias.
    layer = 4 * (1152**2 + 1152) + 2 * 1152 * 4304 + 4304 + 1152 + 4 * 1152
    tower = 3 * 14 * 14 * 1152 + 1152 + (896 // 14) ** 2 * 1152 + 27 * layer + 2 * 1152
    expected = {
        f"gemma-3-{size}": tower + 1152 * hidden + 1152 for size, hidden in (("4b", 2560), ("12b", 3840), ("27b", 5376))
    }
    # Llama 4: 34 layers of width 1408 on 336-pixel images, a pixel-shuffle unit and one projection.
    layer = 4 * (1408**2 + 1408) + 2 * 1408 * 5632 + 5632 + 1408 + 4 * 1408
    tower = 3 * 14 * 14 * 1408 + 1408 + ((336 // 14) ** 2 + 1) * 1408 + 4 * 1408 + 34 * layer
    whole = tower + 5632 * 4096 + 4096 * 4096 + 4096 * 5120
    expected |= {"llama-4-scout": whole, "llama-4-maverick": whole}
    # Pixtral of Mistral Small 3.1: 24 gated layers of width 1024 without biases; four patches are merged into one.
    layer = 4 * 1024**2 + 3 * 1024 * 4096 + 2 * 1024
    tower = 3 * 14 * 14 * 1024 + 1024 + 24 * layer
    expected["mistral-small-3.1-24b"] = tower + 1024 + 4 * 1024 * 1024 + 1024 * 5120 + 5120 * 5120
    assert {name: value for name, (value, _) in stated("besideText").items()} == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-3.1-8b", 32 * 2 * 8 * 128 * 2),
        ("llama-2-70b", 80 * 2 * 8 * 128 * 2),
        ("deepseek-v3", 61 * (512 + 64) * 2),
        ("qwen3-30b-a3b", 48 * 2 * 4 * 128 * 2),
        ("gemma-2-9b", 42 * 2 * 8 * 256 * 2),
        ("minimax-text-01", 10 * 2 * 8 * 128 * 2),
        ("nemotron-nano-9b-v2", 4 * 2 * 8 * 128 * 2),
        ("llama-3.3-nemotron-super-49b", 49 * 2 * 8 * 128 * 2),
        ("step-3", 61 * 2 * 256 * 2),
    ],
)
def test_kv_bytes_per_token_are_layers_times_what_a_layer_keeps(name: str, expected: int) -> None:
    assert kv_bytes_per_token(model(name)) == expected


def test_kv_bytes_per_token_as_published() -> None:
    assert kv_bytes_per_token(model("llama-3.1-8b")) == 131_072
    assert kv_bytes_per_token(model("deepseek-v3")) == 70_272


def test_windows_stand_where_the_publisher_put_them() -> None:
    def windowed(name: str) -> dict[int | None, int]:
        found: dict[int | None, int] = {}
        for block in model(name).blocks:
            assert block.attention is not None
            found[block.attention.window] = found.get(block.attention.window, 0) + block.count
        return found

    assert windowed("gpt-oss-120b") == {128: 18, None: 18}
    assert windowed("gemma-2-9b") == {4096: 21, None: 21}
    assert windowed("gemma-3-27b") == {1024: 52, None: 10}
    assert windowed("llama-4-scout") == {8192: 36, None: 12}
    assert windowed("mistral-7b-v0.1") == {4096: 32}
    assert windowed("mistral-7b") == {None: 32}


def test_two_flops_per_matrix_weight_are_those_of_the_active_parameters() -> None:
    for row in models():
        flops = 0
        for block in row.blocks:
            for gemm in gemms(row, block):
                times = block.ffn.experts_per_token if gemm.shard == "expert" and block.ffn else 1
                flops += 2 * gemm.inputs * gemm.outputs * times * block.count
        flops += 2 * row.hidden * row.vocab  # the head
        embedding = 0 if row.tied_embeddings else row.hidden * row.vocab
        assert flops == pytest.approx(2 * (active_parameters(row) - embedding), rel=2e-3), row.name


def test_equal_layers_are_one_block() -> None:
    for row in models():
        shapes = [(block.attention, block.ffn, block.norms) for block in row.blocks]
        assert len(shapes) == len(set(shapes)), row.name
    assert [block.count for block in model("deepseek-v3").blocks] == [3, 58]
    assert sum(block.count for block in model("nemotron-h-56b").blocks) == 118


def test_every_row_names_its_source_and_a_dtype_that_has_a_size() -> None:
    for row in models():
        assert row.source, row.name
        assert row.weight_dtype in WEIGHT_BYTES, row.name
        assert row.aliases, row.name


def test_no_two_rows_share_a_name_and_every_name_finds_its_row() -> None:
    for row in models():
        for name in (row.name, *row.aliases):
            assert model(name) is row
            assert model(name.upper()) is row
            assert model(name.rpartition("/")[2]) is row


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-2-7b-hf",
        "meta-llama/Meta-Llama-3-8B",
        "mistralai/Mistral-7B-v0.1",
        "Qwen/Qwen2-7B",
        "huggyllama/llama-7b",
        "facebook/opt-6.7b",
        "llama2-70b",
        "llama1_30b",
        "llama3.1-405b",
        "llama3.1-8b",
        "mixtral-8x7b",
        "Llama-3.3-70B-Instruct",
        "Qwen2.5-72B-Instruct",
        "MiniMaxAI/MiniMax-M2.5",
        "mistralai/Mistral-Nemo-Instruct-2407",
        "Qwen/Qwen3-235B-A22B-FP8",
        "deepseek-ai/DeepSeek-R1",
        "openai/gpt-oss-120b",
        "google/gemma-3-12b-it",
        "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
        "Qwen/Qwen3-Coder-30B-A3B-Instruct",
    ],
)
def test_names_used_by_published_measurements_are_known(name: str) -> None:
    assert model(name).name


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown model 'llama-3\.1-8'; did you mean 'llama-3\.1-8b'\?"):
        model("llama-3.1-8")


@pytest.mark.parametrize("name", ["", ".", "a\0b", "x" * 5000, "../..", "no/such/folder"])
def test_a_name_that_is_no_file_is_unknown(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        model(name, tmp_path)


def test_rows_load_within_80_ms_of_cpu_and_once() -> None:
    models()  # imports and the parser are warm
    best = min(_cpu_s() for _ in range(5))
    assert best <= 0.08 * pace(), f"{best:.3f} s"
    assert models() is models()


def _cpu_s() -> float:
    start = time.process_time()
    load(ROWS)
    return time.process_time() - start


ROW = """
- name: a
  family: llama
  architecture: LlamaForCausalLM
  config: {hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4, vocab_size: 100,
    max_position_embeddings: 512}
  weightDtype: bf16
  parameters: 0.1M
  source: a test
  aliases: [org/A-Chat]
"""


def test_a_row_of_ones_own_loads(tmp_path: Path) -> None:
    (row,) = load(written(tmp_path, ROW))
    assert (row.name, row.hidden, row.published_params, row.aliases) == ("a", 64, 1e5, ("org/A-Chat",))


def written(folder: Path, text: str) -> Path:
    file = folder / "rows.yaml"
    file.write_text(text, "utf-8")
    return file


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("hidden_size: 64", "hidden_size: 6.4", r"rows\.yaml:5: \[0\]\.config\.hidden_size: got 6\.4, allowed: an int"),
        ("hidden_size: 64, ", "", r"rows\.yaml:5: \[0\]\.config\.hidden_size: got nothing, allowed: an integer"),
        ("family: llama", "families: llama", r"rows\.yaml:3: \[0\]\.families: got the key 'families', allowed: active"),
        ("LlamaFor", "LamaFor", r"rows\.yaml:4: \[0\]\.architecture: got 'LamaForCausalLM', allowed: one of Deci"),
        ("bf16", "bf17", r"rows\.yaml:7: \[0\]\.weightDtype: got 'bf17', allowed: one of fp32, bf16"),
        ("0.1M", "many", r"rows\.yaml:8: \[0\]\.parameters: got 'many', allowed: a whole number, or a rounded"),
        ("0.1M", ".nan", r"rows\.yaml:8: \[0\]\.parameters: got nan, allowed"),
        ("  source: a test\n", "", r"rows\.yaml:2: \[0\]\.source: got nothing, allowed: a text"),
        ("[org/A-Chat]", "org/A-Chat", r"rows\.yaml:10: \[0\]\.aliases: got 'org/A-Chat', allowed: a list"),
        ("config: {", "config: [1]\n  other: {", r"rows\.yaml:6: \[0\]\.other: got the key 'other'"),
    ],
)
def test_a_wrong_row_is_refused_with_line_and_key(before: str, after: str, message: str, tmp_path: Path) -> None:
    assert before in ROW
    with pytest.raises(BadInput, match=message):
        load(written(tmp_path, ROW.replace(before, after)))


def test_a_name_that_two_rows_claim_is_refused(tmp_path: Path) -> None:
    second = ROW.replace("name: a", "name: a-chat").replace("  aliases: [org/A-Chat]\n", "")
    with pytest.raises(BadInput, match=r"rows\.yaml:11: \[1\]\.name: got the name 'a-chat', which a has, allowed"):
        load(written(tmp_path, ROW + second.lstrip()))


def test_a_file_that_holds_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"rows\.yaml:1: got a mapping, allowed: a list of models"):
        load(written(tmp_path, "a: 1\n"))
