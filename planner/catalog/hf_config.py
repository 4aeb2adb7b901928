"""A model from the `config.json` that its publisher ships on Hugging Face.

Only the language model is read: of a model that also sees or hears, what lies under `text_config`. A file that says
something which Muster cannot count, or leaves out what it needs, is refused; nothing is guessed.
"""

import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from planner.catalog.architectures import ARCHITECTURES, assemble
from planner.catalog.fields import Fields, shown
from planner.errors import BadInput
from planner.model import Model
from planner.units import got
from planner.yaml_text import show_path

FILE = "config.json"
SIDE_FILE = "hf_quant_config.json"  # where Model Optimizer states its format, if not in config.json
MAX_BYTES = 4 * 2**20

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
# Formats by what names them: quant_method, the algorithm of NVIDIA's Model Optimizer, kind and bits.
_METHODS = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4"}
_ALGORITHMS = {"FP8": "fp8", "NVFP4": "nvfp4"}
_KINDS = {("float", 8): "fp8", ("int", 8): "int8"}
_FOUR_BIT = "a 16-bit, fp8, int8, mxfp4 or nvfp4 checkpoint (for 4-bit integers plan the 16-bit one with w4a16)"
# Where a format's exceptions are listed, and those that no format narrows anyway.
_EXCEPTIONS = ("modules_to_not_convert", "ignore", "exclude_modules")
_ALWAYS_WIDE = re.compile(
    r"lm_head|^head$|embed|norm|router|gate(\.weight)?\W*$|correction_bias|conv1d|vision|visual|projector|mtp"
)


def from_config(path: Path) -> Model:
    """The model that a config.json, or the one in a folder, describes; raises BadInput with file, key and got."""
    file = path / FILE if path.is_dir() else path
    top = _fields(file)
    architecture = _architecture(top)
    text = top.child("text_config") if top.has("text_config") else top
    tied = {"tie_word_embeddings": top.values["tie_word_embeddings"]} if top.has("tie_word_embeddings") else {}
    name = file.absolute().parent.name if file.name == FILE else file.stem
    return assemble(
        architecture,
        text.with_defaults(tied),
        name=name or FILE,
        family=top.text("model_type", architecture),
        weight_dtype=_weight_dtype(top, text, file.with_name(SIDE_FILE)),
        source=str(file),
    )


def _fields(file: Path) -> Fields:
    """The keys of a JSON file."""
    return Fields(_read(file), lambda path: f"{file}: {show_path(path)}")


def _read(file: Path) -> Mapping[str, object]:
    """The JSON object in a file of bounded size."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # to open a pipe or a device may wait for ever
            raise ValueError("not a regular file")
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: also a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{file}: cannot be read ({reason}), allowed: the {FILE} of a published model") from error
    if len(data) > MAX_BYTES:
        raise BadInput(f"{file}: got more than {MAX_BYTES >> 20} MiB, allowed: at most that")
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except _Repeated as error:
        raise BadInput(
            f"{file}: got the key {got(error.args[0])} twice in one object, allowed: each key once"
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: got bytes that are no UTF-8 text, allowed: JSON in UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}: got text that is no JSON ({_reason(error)}), allowed: a JSON object") from error
    if not isinstance(value, dict):
        raise BadInput(f"{file}: got {shown(value)}, allowed: a JSON object")
    return value


class _Repeated(Exception):
    """A key that stands twice in one object."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object as a dict; a repeated key is an error, not the last one's victory."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Repeated(next(key for key in keys if keys.count(key) > 1))
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, line {error.lineno} column {error.colno}"
    return "too deep" if isinstance(error, RecursionError) else str(error).splitlines()[0]


def _architecture(top: Fields) -> str:
    """The one architecture in the list that Muster knows."""
    listed = top.texts("architectures")
    known = [name for name in listed if name in ARCHITECTURES]
    if len(known) != 1:
        what = got(", ".join(listed)) if listed else None
        raise top.refuse("architectures", f"one of {', '.join(sorted(ARCHITECTURES))}", what)
    return known[0]


def _weight_dtype(top: Fields, text: Fields, side: Path) -> str:
    """What the checkpoint's weights are stored as."""
    for fields in (top, text):
        if fields.has("quantization_config"):
            return _quantized(fields.child("quantization_config"))
    if side.is_file():
        return _quantized(_fields(side).child("quantization"))
    for fields in (top, text):
        for key in ("torch_dtype", "dtype"):
            if fields.has(key):
                name = fields.text(key)
                if name not in _DTYPES:
                    raise fields.refuse(key, f"one of {', '.join(_DTYPES)}")
                return _DTYPES[name]
    raise top.refuse("torch_dtype", f"one of {', '.join(_DTYPES)}, or a quantization_config")


def _quantized(quantization: Fields) -> str:
    """The number format of a quantised checkpoint; one that Muster has no size for, or a mixture, is refused."""
    found = _format(quantization)
    kept = [(key, name) for key in _EXCEPTIONS for name in quantization.texts(key) if not _ALWAYS_WIDE.search(name)]
    if found == "mxfp4":  # experts only, everywhere
        if not any("attn" in name for _, name in kept):
            raise quantization.refuse("modules_to_not_convert", "attention among them where the format is mxfp4")
    elif kept:
        key, name = kept[0]
        raise quantization.refuse(key, f"{found} in all attention and feed-forward layers", got(name))
    return found


def _format(quantization: Fields) -> str:
    """What the method, the algorithm or the bits call it."""
    if quantization.has("quant_algo"):
        algorithm = quantization.text("quant_algo")
        if algorithm not in _ALGORITHMS:
            raise quantization.refuse("quant_algo", f"one of {', '.join(_ALGORITHMS)}")
        return _ALGORITHMS[algorithm]
    method = quantization.text("quant_method")
    if method == "compressed-tensors":
        return _compressed(quantization, quantization.child("config_groups"))
    if method == "bitsandbytes" and quantization.flag("load_in_8bit"):
        return "int8"
    if method not in _METHODS:
        raise quantization.refuse("quant_method", _FOUR_BIT)
    return _METHODS[method]


def _compressed(quantization: Fields, groups: Fields) -> str:
    """The one format of all groups of layers."""
    formats = set()
    for group in groups.values:
        weights = groups.child(group).child("weights")
        kind = (weights.text("type"), weights.count("num_bits"))
        if kind not in _KINDS:
            raise weights.refuse("num_bits", _FOUR_BIT, f"{kind[1]}-bit {kind[0]}")
        formats.add(_KINDS[kind])
    if len(formats) != 1:
        raise quantization.refuse("config_groups", "one format for all layers", f"{len(formats)} formats")
    return formats.pop()
