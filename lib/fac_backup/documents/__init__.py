"""Documents: inventory of a bucket, incremental copies into the store, restore, markers (docs/architecture.md)."""
