"""The nearest valid word, for people who mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """The valid word most like ``word``, or None where none is near. Case is ignored: ``Dev`` is near ``dev``."""
    return _nearest(word, tuple(sorted(valid)))


@lru_cache(maxsize=1024)
def _nearest(word: str, valid: tuple[str, ...]) -> str | None:
    folded = {candidate.lower(): candidate for candidate in valid}
    found = difflib.get_close_matches(word[:60].strip().lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """``; did you mean 'dev'?``, or nothing where no valid word is near."""
    found = nearest(word, valid)
    return f"; did you mean {found!r}?" if found is not None else ""
