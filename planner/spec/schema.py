"""JSON Schemas of the kinds, generated from their shapes, for editors and CI."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from planner.errors import UnknownName
from planner.spec.clusterinventory import ClusterInventory
from planner.spec.gpuservice import GPUService
from planner.spec.plan_shape import PlanObject

SHAPES: Mapping[str, type[BaseModel]] = {
    "gpuservice": GPUService,
    "inventory": ClusterInventory,
    "plan": PlanObject,
}


class Terse(GenerateJsonSchema):
    """No titles that repeat the key, and no null for editors to fill in where a key is better left out."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of "gpuservice", "inventory" or "plan"; raises UnknownName for another kind."""
    if kind not in SHAPES:
        raise UnknownName("kind", kind, SHAPES)
    generated = SHAPES[kind].model_json_schema(by_alias=True, schema_generator=Terse)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **generated}
