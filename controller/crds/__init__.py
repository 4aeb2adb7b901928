"""Custom resources: their types, structural schemas, rules, and manifests."""
