"""Plain types that every room may use: frozen values, errors, identifiers, safe text. No I/O."""
