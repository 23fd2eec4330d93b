"""Takes SQL scripts of pg_restore apart, honouring quotes: into tokens, and into statements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fac_backup.plain.errors import IntegrityError

# In this order. pg_dump sets standard_conforming_strings, so a backslash is an escape in E'' only.
_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<name>"(?:[^"]|"")*")
    | (?P<escaped>[eE]'(?:[^'\\]|''|\\.)*')
    | (?P<text>'(?:[^']|'')*')
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>\d[\w.]*)
    | (?P<end>;)
    | (?P<other>[^\s"';])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A piece of SQL: ``kind`` is name (quoted), text, word, number, end or other."""

    kind: str
    text: str

    def is_word(self, *words: str) -> bool:
        """Whether it is one of the (upper case) keywords, unquoted."""
        return self.kind == "word" and self.text.upper() in words

    @property
    def identifier(self) -> str | None:
        """The name that it stands for, None if it is none."""
        if self.kind == "name":
            return self.text[1:-1].replace('""', '"')
        return self.text.lower() if self.kind == "word" else None


def tokens(script: str) -> Iterator[Token]:
    """The tokens of ``script``; blanks and comments are left out.

    Raises IntegrityError at a quote, a comment or a string that never ends.

    >>> [token.text for token in tokens('GRANT ALL ON "a;b" TO x;')]
    ['GRANT', 'ALL', 'ON', '"a;b"', 'TO', 'x', ';']
    """
    position = 0
    while position < len(script):
        match = _TOKEN.match(script, position)
        if match is None:
            raise _unreadable()
        kind = match.lastgroup or "other"
        position = match.end()
        if kind == "block":
            position = _end_of_comment(script, position)
        elif kind == "dollar":
            end = script.find(match[0], position)
            if end < 0:
                raise _unreadable()
            yield Token("text", script[match.start() : end + len(match[0])])
            position = end + len(match[0])
        elif kind not in ("space", "comment"):
            yield Token("text" if kind == "escaped" else kind, match[0])


def _end_of_comment(script: str, position: int) -> int:
    depth = 1
    while depth:
        match = re.compile(r"/\*|\*/").search(script, position)
        if match is None:
            raise _unreadable()
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return position


def statements(script: str) -> Iterator[tuple[Token, ...]]:
    r"""The statements of ``script``, as tokens, without semicolons; psql's own commands (``\restrict``) are left out.

    >>> [" ".join(t.text for t in s) for s in statements("SELECT 1; -- no; \nSELECT ';';")]
    ['SELECT 1', "SELECT ';'"]
    """
    gathered: list[Token] = []
    for token in tokens(_without_commands(script)):
        if token.kind != "end":
            gathered.append(token)
        elif gathered:
            yield tuple(gathered)
            gathered = []
    if gathered:
        raise _unreadable()


def _without_commands(script: str) -> str:
    r"""pg_restore writes ``\restrict KEY`` first and ``\unrestrict KEY`` last, each on a line of its own."""
    script = re.sub(r"\A(?:--[^\n]*\n|\s)*\\restrict \w+\n", "", script)
    return re.sub(r"\n\\unrestrict \w+\s*\Z", "\n", script)


def joined(statement: tuple[Token, ...]) -> str:
    """The statement as SQL again."""
    return " ".join(token.text for token in statement)


def _unreadable() -> IntegrityError:
    return IntegrityError("A statement in the archive cannot be read: a quote in it never ends")
