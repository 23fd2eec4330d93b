"""The documents: inventory of a bucket, copy into the store, restore."""
