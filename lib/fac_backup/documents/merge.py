"""Two streams sorted by key, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Left = TypeVar("Left")
Right = TypeVar("Right")


def side_by_side(
    left: Iterable[Left], right: Iterable[Right], left_key: Callable[[Left], str], right_key: Callable[[Right], str]
) -> Iterator[tuple[Left | None, Right | None]]:
    """Pair what has the same key; what only one side has stands beside None. Both must be sorted, without repeats.

    Given the keys ``a c`` and ``b c``, yields ``(a, None), (None, b), (c, c)``.
    """
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None and other is not None:
        here, there = left_key(one), right_key(other)
        if here == there:
            yield one, other
            one, other = next(lefts, None), next(rights, None)
        elif here < there:
            yield one, None
            one = next(lefts, None)
        else:
            yield None, other
            other = next(rights, None)
    while one is not None:
        yield one, None
        one = next(lefts, None)
    while other is not None:
        yield None, other
        other = next(rights, None)
