"""The nearest valid word, for people who mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

WORDS = 0.6
IDS = 0.93
"""Backup ids of one space are alike anyway: only one that differs by a character or two was meant."""


def nearest(word: str, valid: Iterable[str], alike: float = WORDS) -> str | None:
    """The valid word most like ``word``, or None where none is near. Case is ignored: ``Dev`` is near ``dev``."""
    return _nearest(word, tuple(sorted(valid)), alike)


@lru_cache(maxsize=1024)
def _nearest(word: str, valid: tuple[str, ...], alike: float) -> str | None:
    folded = {candidate.lower(): candidate for candidate in valid}
    found = difflib.get_close_matches(word[:100].strip().lower(), folded, n=1, cutoff=alike)
    return folded[found[0]] if found else None


def did_you_mean(word: str, valid: Iterable[str], alike: float = WORDS) -> str:
    """``; did you mean 'dev'?``, or nothing where no valid word is near."""
    found = nearest(word, valid, alike)
    return f"; did you mean {found!r}?" if found is not None else ""
