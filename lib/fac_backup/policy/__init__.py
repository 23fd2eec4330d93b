"""The policy: matrix, authorization, retention. Pure functions over plain data; no I/O."""
