"""One module an operation; each reads from top to bottom as the list of its steps."""
