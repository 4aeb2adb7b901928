"""The fields that specs are made of: quantities, names, ratios, and the base of every shape.

A quantity reads through `planner.units` and shows the same pattern in the JSON Schema; a name of the catalogue is
looked up while the file is validated, so that its problem stands beside all others of the file.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_plain_validator_function

from planner.errors import BadInput, UnknownName
from planner.hardware import GPUType
from planner.model import Model
from planner.units import (
    BANDWIDTH,
    DURATION,
    ENERGY_PRICE,
    MONEY,
    PERCENTILE_PATTERN,
    POWER,
    Quantity,
    got,
    percentile,
)
from planner.yaml_text import NodePath

PROBLEMS = "problems"  # the type of the errors whose context holds problems of ours
MAX_RATE_PER_S = 1e9
SHARE_TOLERANCE = 1e-3  # shares are written to three digits; they are scaled to sum to exactly 1

Problem: TypeAlias = tuple[NodePath, str]  # where below the value, and what is wrong there


@dataclass(frozen=True, slots=True)
class Catalog:
    """Where names lead. `gpu`, `model` and `technique` raise BadInput (UnknownName) for a name they do not know."""

    gpu: Callable[[str], GPUType]
    model: Callable[[str, Path | None], Model]
    techniques: Callable[[], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a file is validated against: the catalogue, and the folder that its paths are relative to."""

    catalog: Catalog
    folder: Path


def _context(info: ValidationInfo) -> Context:
    return cast(Context, info.context)  # planner.spec.load gives it


def refused(problems: Iterable[Problem]) -> PydanticCustomError:
    """Problems of ours as the one error that a validator can raise."""
    return PydanticCustomError(PROBLEMS, "problems", {PROBLEMS: list(problems)})


def camel(name: str) -> str:
    """The key that stands for a field: `per_second` is written `perSecond`."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


class Shape(BaseModel):
    """A mapping with camelCase keys, none but its own, and values of exactly their types."""

    model_config = ConfigDict(
        alias_generator=camel,
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def problems(self, context: Context) -> Iterator[Problem]:
        """What is wrong between the fields, each of which is right alone."""
        yield from ()

    @model_validator(mode="after")
    def _agrees(self, info: ValidationInfo) -> "Shape":
        found = list(self.problems(_context(info)))
        if found:
            raise refused(found)
        return self


def twins(names: Iterable[str], path: Callable[[int], NodePath]) -> Iterator[Problem]:
    """A problem for every name that stands in a list a second time."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield path(index), f"got {got(name)} a second time, allowed: every name once"
        seen.add(name)


def shares_sum(shares: Iterable[float], path: NodePath) -> Iterator[Problem]:
    """A problem for shares that do not sum to 1."""
    total = sum(shares)
    if abs(total - 1) > SHARE_TOLERANCE:
        yield path, f"got shares that sum to {total:g}, allowed: a sum of 1 (within {SHARE_TOLERANCE:g})"


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """How the value of a field is read, and what its JSON Schema says; `read` raises BadInput."""

    read: Callable[[object], float]
    schema: Mapping[str, object]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: object) -> float:
            try:
                return self.read(value)
            except BadInput as error:
                raise refused([((), str(error))]) from None

        return no_info_plain_validator_function(read)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(self.schema)


def _quantity(quantity: Quantity, *, most: str, above_zero: bool = True) -> Reads:
    """Text with a unit, read as SI base units: above zero unless said, and at most `most`."""
    ceiling = quantity.parse(most)
    least = "more than zero" if above_zero else "zero"

    def read(value: object) -> float:
        number = quantity.parse(value)
        if number > ceiling or (above_zero and number == 0):
            raise BadInput(f"got {got(value)}, allowed: {quantity.name} from {least} to {most}")
        return number

    return Reads(read, {"type": "string", "pattern": quantity.pattern, "examples": list(quantity.examples)})


def _percentile_or_peak(value: object) -> float:
    if value == "peak":
        return 1.0
    try:
        return percentile(value)
    except BadInput as error:
        raise BadInput(f"{error}, or peak") from None


def _looked_up(find: Callable[[Context, str], object]) -> AfterValidator:
    """A validator that keeps the text and passes on what the catalogue objects to it."""

    def check(name: str, info: ValidationInfo) -> str:
        try:
            find(_context(info), name)
        except BadInput as error:
            raise refused([((), str(error))]) from None
        return name

    return AfterValidator(check)


def _technique(context: Context, name: str) -> None:
    if name not in (known := list(context.catalog.techniques())):
        raise UnknownName("technique", name, known)


_RATIO_SCHEMA = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_PERCENTILE_SCHEMA = {"type": "string", "pattern": PERCENTILE_PATTERN, "examples": ["p95", "p99.9"]}

Duration = Annotated[float, _quantity(DURATION, most="30d")]
Delay = Annotated[float, _quantity(DURATION, most="30d", above_zero=False)]
Price = Annotated[float, _quantity(MONEY, most="$100000", above_zero=False)]
Budget = Annotated[float, _quantity(MONEY, most="$1000000000")]
Power = Annotated[float, _quantity(POWER, most="100000MW")]
Bandwidth = Annotated[float, _quantity(BANDWIDTH, most="1000TB/s")]
EnergyPrice = Annotated[float, _quantity(ENERGY_PRICE, most="$1000/kWh", above_zero=False)]
Percentile = Annotated[float, Reads(percentile, {"anyOf": [_PERCENTILE_SCHEMA, _RATIO_SCHEMA]})]
PercentileOrPeak = Annotated[
    float, Reads(_percentile_or_peak, {"anyOf": [_PERCENTILE_SCHEMA, _RATIO_SCHEMA, {"const": "peak"}]})
]

Rate = Annotated[float, Field(ge=0, le=MAX_RATE_PER_S)]
Share = Annotated[float, Field(gt=0, le=1)]
Tokens = Annotated[int, Field(ge=1, le=100_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
CountOrZero = Annotated[int, Field(ge=0, le=1_000_000)]
_LABEL = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_DNS = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
_DNS_NAME = r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$"
SERVICE_NAME = r"^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$"
REFERENCE = r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,253}$"
_ONE_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$"
PATTERNS = {  # what a pattern says, in words
    _LABEL: "letters, digits and . _ - between them, at most 63",
    _ONE_LINE: "text without control characters, at least one character",
    _DNS: "lower-case letters, digits and - between them, at most 63",
    _DNS_NAME: "lower-case letters and digits, - and . between them, at most 253",
    SERVICE_NAME: "lower-case letters, digits and - between them, a letter first, at most 63",
    REFERENCE: "letters, digits and . _ / : @ + -, a letter or digit first, at most 254",
}
Label = Annotated[str, Field(pattern=_LABEL)]
DNSLabel = Annotated[str, Field(pattern=_DNS)]
DNSName = Annotated[str, Field(pattern=_DNS_NAME)]
Text = Annotated[str, Field(pattern=_ONE_LINE, max_length=4096)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
GPUName = Annotated[_Name, _looked_up(lambda context, name: context.catalog.gpu(name))]
ModelName = Annotated[Text, _looked_up(lambda context, name: context.catalog.model(name, context.folder))]
TechniqueName = Annotated[_Name, _looked_up(_technique)]


class Metadata(Shape):
    """What Kubernetes keeps about every object."""

    name: DNSLabel
    """Name of the object."""
    namespace: DNSLabel = "default"
    """Kubernetes namespace."""
    labels: Annotated[dict[str, str], Field(max_length=256)] = {}
    """Labels, text to text."""
    annotations: Annotated[dict[str, str], Field(max_length=256)] = {}
    """Annotations, text to text."""


class ServiceMetadata(Metadata):
    """What Kubernetes keeps about a GPUService; its Services are called after it."""

    name: Annotated[str, Field(pattern=SERVICE_NAME)]
    """Name of the object."""


class KubernetesObject(Shape):
    """The head that all kinds share."""

    api_version: Literal["muster.dev/v1alpha1"]
    """Version of this format."""
    metadata: Metadata
    """Name, namespace, labels and annotations."""
