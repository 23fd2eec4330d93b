"""The database: snapshot, dump, load, swap, and which client binaries to run."""
