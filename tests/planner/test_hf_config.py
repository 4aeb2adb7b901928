"""Published config.json files to models: the same as the catalogue's rows, or a refusal that names file and key."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from planner.architecture import parameters
from planner.catalog.hf_config import MAX_BYTES, from_config
from planner.catalog.models import model
from planner.errors import BadInput
from tests.planner.config_factories import LLAMA, PUBLISHED, QWEN3_MOE, read, small


def refusal(folder: Path, config: object) -> str:
    with pytest.raises(BadInput) as refused:
        read(folder, config)
    return str(refused.value).removeprefix(f"{folder}/")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_the_catalogues_row(name: str, tmp_path: Path) -> None:
    found, row = read(tmp_path, PUBLISHED[name]), model(name)
    assert parameters(found) == parameters(row)
    described = {"name": row.name, "published_params": row.published_params, "aliases": row.aliases}
    assert replace(found, **described, source=row.source, family=row.family) == row  # type: ignore[arg-type]


def test_a_model_is_named_by_its_folder_or_file(tmp_path: Path) -> None:
    folder = tmp_path / "My-Llama"
    folder.mkdir()
    assert read(folder, LLAMA).name == "My-Llama"
    assert from_config(folder).name == "My-Llama"
    assert read(tmp_path, LLAMA, "mine.json").name == "mine"


def test_a_service_names_a_config_by_file_or_folder_relative_to_itself(tmp_path: Path) -> None:
    (tmp_path / "My-Llama").mkdir()
    made = read(tmp_path / "My-Llama", LLAMA)
    assert model("My-Llama/config.json", tmp_path) == made
    assert model("My-Llama", tmp_path) == made
    with pytest.raises(BadInput, match=r"none\.json: cannot be read \(No such file or directory\)"):
        model("none.json", tmp_path)


def test_a_catalogue_name_wins_over_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "gpt-oss-20b").mkdir()
    read(tmp_path / "gpt-oss-20b", LLAMA)
    assert model("gpt-oss-20b", tmp_path).family == "gpt_oss"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "hidden_size: got nothing, allowed: an integer from 1 to 1073741824"),
        ({"hidden_size": "4096"}, "hidden_size: got '4096', allowed: an integer"),
        ({"hidden_size": 4096.0}, "hidden_size: got 4096.0, allowed: an integer"),
        ({"hidden_size": True}, "hidden_size: got True, allowed: an integer"),
        ({"hidden_size": -1}, "hidden_size: got -1, allowed: an integer"),
        ({"hidden_size": float("nan")}, "hidden_size: got nan, allowed: an integer"),
        ({"hidden_size": float("inf")}, "hidden_size: got inf, allowed: an integer"),
        ({"vocab_size": 10**30}, "vocab_size: got 1000000000000000000000000000000, allowed"),
        ({"num_hidden_layers": 2_000_000}, "num_hidden_layers: got 2000000, allowed: an integer from 1 to 1024"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: got 3, allowed: a divisor of num_attention_heads (4)"),
        ({"num_attention_heads": 6}, "num_attention_heads: got 6, allowed: a divisor of hidden_size (64) where"),
        ({"attention_bias": 1}, "attention_bias: got 1, allowed: true or false"),
        ({"architectures": None}, "architectures: got nothing, allowed: one of DeciLMForCausalLM"),
        ({"architectures": ["BertModel"]}, "architectures: got 'BertModel', allowed: one of DeciLMForCausalLM"),
        ({"architectures": "LlamaForCausalLM"}, "architectures: got 'LlamaForCausalLM', allowed: a list"),
        ({"architectures": [1]}, "architectures: got a list of 1, allowed: a list of texts"),
        ({"text_config": [1]}, "text_config: got a list of 1, allowed: a mapping"),
        ({"model_type": "a\nb"}, r"model_type: got 'a\nb', allowed: a text of one line"),
        ({"torch_dtype": None}, "torch_dtype: got nothing, allowed: one of bfloat16, float16, float32, or a quant"),
        ({"torch_dtype": "float8"}, "torch_dtype: got 'float8', allowed: one of bfloat16"),
        ({"layer_types": ["full_attention"]}, "layer_types: got a list of 1, allowed: one for each of 2 layers"),
        ({"layer_types": ["full_attention", "mamba"]}, "layer_types: got 'mamba', allowed: a list of full_att"),
    ],
)
def test_a_wrong_key_is_refused_with_what_it_got_and_what_is_allowed(
    changes: Mapping[str, object], message: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path, small(**changes)).startswith(f"config.json: {message}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got text that is no JSON (Expecting value, line 1 column 1), allowed: a JSON object"),
        (b"{", "got text that is no JSON (Expecting property name"),
        (b"[1]", "got a list of 1, allowed: a JSON object"),
        (b"\xff\xfe", "got bytes that are no UTF-8 text, allowed: JSON in UTF-8"),
        (b'{"a": 1, "a": 2}', "got the key 'a' twice in one object, allowed: each key once"),
        (b"[" * 100_000, "got text that is no JSON (too deep), allowed: a JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "got text that is no JSON (Exceeds the limit"),
        (b" " * (MAX_BYTES + 1), "got more than 4 MiB, allowed: at most that"),
    ],
)
def test_what_is_no_json_object_of_bounded_size_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(data)
    with pytest.raises(BadInput) as refused:
        from_config(file)
    assert str(refused.value).startswith(f"{file}: {message}")


def test_deep_nesting_under_a_key_is_named_and_not_shown(tmp_path: Path) -> None:
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    assert "hidden_size: got a list of 1, allowed" in refusal(tmp_path, small(hidden_size=deep))


def test_an_infinity_where_nothing_is_read_does_no_harm(tmp_path: Path) -> None:
    assert parameters(read(tmp_path, small(time_step_limit=[0.0, float("inf")]))) > 0


FLOAT8 = {"weights": {"num_bits": 8, "type": "float"}}


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "model.layers.0.input_layernorm"]}, "fp8"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0.mlp.gate"]}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": FLOAT8}}, "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}},
            },
            "int8",
        ),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
    ],
)
def test_the_format_of_a_quantised_checkpoint_is_read(
    quantization: Mapping[str, object], dtype: str, tmp_path: Path
) -> None:
    assert read(tmp_path, small(quantization_config=quantization)).weight_dtype == dtype


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "awq", "bits": 4}, "quant_method: got 'awq', allowed: a 16-bit, fp8, int8, mxfp4 or nvfp4"),
        ({"quant_method": "gptq", "bits": 4}, "quant_method: got 'gptq', allowed: a 16-bit"),
        ({}, "quant_method: got nothing, allowed: a text"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "quant_algo: got 'MIXED_PRECISION', allowed"),
        (
            {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0.self_attn.q_proj"]},
            "modules_to_not_convert: got 'model.layers.0.self_attn.q_proj', allowed: fp8 in all attention and feed",
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["model.layers.0*"]},
            "ignore: got 'model.layers.0*', allowed: nvfp4 in all",
        ),
        ({"quant_method": "mxfp4"}, "modules_to_not_convert: got nothing, allowed: attention among them where"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a\nb": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            r"config_groups['a\nb'].weights.num_bits: got 4-bit int, allowed: a 16-bit",
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "config_groups: got 0 formats, allowed: one"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quant_method: got 'bitsandbytes', allowed"),
    ],
)
def test_a_format_without_a_size_or_a_mixture_is_refused(
    quantization: Mapping[str, object], message: str, tmp_path: Path
) -> None:
    found = refusal(tmp_path, small(quantization_config=quantization))
    assert found.startswith(f"config.json: quantization_config.{message}"), found


def test_the_format_is_also_read_from_the_file_beside_the_config(tmp_path: Path) -> None:
    side = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(side), "utf-8")
    assert read(tmp_path, LLAMA).weight_dtype == "fp8"


def test_equal_keys_count_the_same_whatever_the_architecture_assumes(tmp_path: Path) -> None:
    biased = read(tmp_path, small(attention_bias=True, mlp_bias=True))
    plain = read(tmp_path, small())
    per_layer = (4 + 2 * 2) * 16 + 64 + 2 * 14336 + 64
    assert parameters(biased) - parameters(plain) == 2 * per_layer


@pytest.mark.parametrize(
    ("architecture", "key"),
    [
        ("Qwen3MoeForCausalLM", "shared_expert_intermediate_size"),
        ("DeepseekV3ForCausalLM", "attention_bias"),
        ("PhiForCausalLM", "qk_layernorm"),
        ("MiniMaxM2ForCausalLM", "shared_intermediate_size"),
        ("MiniMaxText01ForCausalLM", "shared_intermediate_size"),
        ("NemotronHForCausalLM", "moe_latent_size"),
    ],
)
def test_what_would_be_counted_wrongly_is_refused(architecture: str, key: str, tmp_path: Path) -> None:
    found = refusal(tmp_path, small(architectures=[architecture], **{key: 7}))
    assert found == f"config.json: {key}: got 7, allowed: none: what it stands for cannot be counted"


def test_sparse_and_dense_layers_alternate_as_configured(tmp_path: Path) -> None:
    def experts(**changes: object) -> list[tuple[int, int]]:
        made = read(tmp_path, {**QWEN3_MOE, **changes})
        return sorted((block.ffn.experts, block.count) for block in made.blocks if block.ffn)

    assert experts() == [(128, 48)]
    assert experts(decoder_sparse_step=2) == [(0, 24), (128, 24)]
    assert experts(mlp_only_layers=[0, 1, 47]) == [(0, 3), (128, 45)]
    found = refusal(tmp_path, {**QWEN3_MOE, "mlp_only_layers": [48]})
    assert found == "config.json: mlp_only_layers: got a list of 1, allowed: different layers from 0 to 47"


def test_qwen_slides_only_from_the_named_layer_on(tmp_path: Path) -> None:
    changes = {"sliding_window": 512, "max_window_layers": 40}
    windows = {
        used: sorted(
            (block.attention.window or 0, block.count)
            for block in read(tmp_path, {**QWEN3_MOE, **changes, "use_sliding_window": used}).blocks
            if block.attention
        )
        for used in (False, True)
    }
    assert windows == {False: [(0, 48)], True: [(0, 40), (512, 8)]}
