"""Specs: YAML files of kind GPUService, ClusterInventory and Plan to the planner's nouns, and their JSON Schemas."""

from planner.spec.load import load_inventory, load_services, load_together, validate
from planner.spec.schema import schema

__all__ = ["load_inventory", "load_services", "load_together", "schema", "validate"]
