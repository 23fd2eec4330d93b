"""Reads YAML into plain values that remember where they stood. Small files only; no anchors, tags, second documents.

The types are those of YAML 1.2's core schema: ``no`` and ``on`` are words, not booleans; a space may be called so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_CHARACTERS = 256 * 1024
"""A matrix is a page or two. Larger input is a mistake or an attack."""

MAX_DEPTH = 20
MAX_EVENTS = 50_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True)
class Place:
    """Line and column, counted from 1."""

    line: int
    column: int


class MisreadError(Exception):
    """The text is not YAML of the accepted sort; the message is a sentence for people."""

    def __init__(self, sentence: str, place: Place) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.place = place


@dataclass(frozen=True)
class Tree:
    """A value (None, bool, int, str, tuple or dict of such) with its place and those of what is in it."""

    value: Any
    place: Place
    parts: dict[str | int, Tree] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)

    def find(self, location: tuple[str | int, ...], *, at_key: bool = False) -> Place:
        """The place of the value at ``location`` (or of its key), or of the nearest thing around it.

        Steps that lead nowhere are passed over: the model names its alternatives in its locations, too.
        """
        tree, key_place = self, self.place
        for step in location:
            part = tree.parts.get(step)
            if part is not None:
                key_place = tree.keys[step] if isinstance(step, str) else part.place
                tree = part
        return key_place if at_key else tree.place


def read(text: str) -> Tree:
    """The tree of one YAML document. Raises MisreadError, and nothing else, for whatever ``text`` may hold."""
    if len(text) > MAX_CHARACTERS:
        raise MisreadError(f"The file has more than {MAX_CHARACTERS // 1024} thousand characters", Place(1, 1))
    try:
        text.encode()
        _look_through(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise MisreadError(
            f"This is not valid YAML: {error.problem or 'it cannot be read'}", _place(mark) if mark else Place(1, 1)
        ) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        raise MisreadError(
            "This is not valid YAML: it contains a character that is not allowed",
            Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1),
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise MisreadError("This is not valid YAML: it cannot be read", Place(1, 1)) from None
    if node is None:
        raise MisreadError("The file is empty", Place(1, 1))
    return _tree(node)


def _look_through(text: str) -> None:
    """Refuse what could make building the tree costly or surprising, before it is built."""
    depth = documents = 0
    for count, event in enumerate(_events(text)):
        if count > MAX_EVENTS:
            raise MisreadError("The file has too many parts", _place(event.start_mark))
        if getattr(event, "anchor", None) is not None:
            raise MisreadError("Anchors (&) and aliases (*) are not used in a matrix", _place(event.start_mark))
        if getattr(event, "tag", None) is not None:
            raise MisreadError("Tags (!) are not used in a matrix", _place(event.start_mark))
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise MisreadError("A second document begins here; a matrix is one", _place(event.start_mark))
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise MisreadError("The file is nested too deeply", _place(event.start_mark))
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=_LOADER)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _tree(node: yaml.Node) -> Tree:
    place = _place(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        parts: dict[str | int, Tree] = {}
        keys: dict[str, Place] = {}
        for key_node, value_node in node.value:
            key_place = _place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                raise MisreadError("A key must be a word", key_place)
            key = str(key_node.value)
            if key in keys:
                raise MisreadError(f"The key {key[:60]!r} stands twice, first on line {keys[key].line}", key_place)
            keys[key] = key_place
            parts[key] = _tree(value_node)
        return Tree({key: parts[key].value for key in keys}, place, parts, keys)
    if isinstance(node, yaml.SequenceNode):
        items = [_tree(child) for child in node.value]
        return Tree(tuple(item.value for item in items), place, dict(enumerate(items)))
    return Tree(_scalar(node), place)


def _scalar(node: Any) -> bool | int | str | None:
    text = str(node.value)
    if node.style:  # quoted, or a block
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return int(text) if _INT.fullmatch(text) else text
