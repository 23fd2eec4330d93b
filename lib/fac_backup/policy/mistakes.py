"""Turns the model's complaints into sentences for the people who edit the matrix."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fac_backup.plain.words import did_you_mean
from fac_backup.policy.model import PATTERN_SENTENCES, Matrix

Location = tuple[str | int, ...]

_TYPES = {
    "int_type": "a whole number",
    "string_type": "a word or text",
    "bool_type": "true or false",
    "dict_type": "a mapping (keys with values below it)",
    "model_type": "a mapping (keys with values below it)",
    "model_attributes_type": "a mapping (keys with values below it)",
    "tuple_type": "a list",
}


def sentence_for(detail: Mapping[str, Any]) -> tuple[Location, bool, str]:
    """One of pydantic's error dictionaries as (location, whether the key and not the value is meant, sentence)."""
    at: Location = tuple(detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    at_key = False
    if kind == "extra_forbidden":  # first: somebody may have called a key what pydantic calls the key of a mapping
        keys = keys_at(at[:-1])
        return at, True, f"Unknown key {_shown(at[-1])}{did_you_mean(str(at[-1]), keys) or _one_of(keys)}"
    if at and at[-1] == "[key]":
        at, at_key = at[:-1], True
    if kind == "missing":
        return at[:-1], False, f"The key {_shown(at[-1])} is missing here"
    if "at" in context:
        at = tuple(context["at"])
        return at, "retention" in at, context["sentence"]
    return at, at_key, _value(kind, context, detail)


def _value(kind: str, context: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    shown = _shown(detail.get("input"))
    if kind == "string_pattern_mismatch":
        return f"{shown} {PATTERN_SENTENCES.get(context['pattern'], 'does not have the form that is expected here')}"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        if not words:
            return f"{shown} does not fit here; it must be {context['expected']}"
        hint = did_you_mean(str(detail.get("input")), words) or _one_of(words)
        return f"{shown} is not one of the words for this key{hint}"
    if kind == "greater_than_equal":
        return f"{shown} is too little; it must be at least {context['ge']}"
    if kind == "less_than_equal":
        return f"{shown} is too much; it must be at most {context['le']}"
    if kind == "too_short":
        return f"This is too short; at least {context['min_length']}"
    if kind in ("too_long", "string_too_long"):
        return f"This is too long; at most {context['max_length']}"
    if kind in _TYPES:
        return f"{shown} does not fit here; it must be {_TYPES[kind]}"
    return str(detail["msg"])


def keys_at(location: Location) -> tuple[str, ...]:
    """The keys that the mapping at ``location`` may have, where they are fixed by the model."""
    kind: Any = Matrix
    for step in location:
        kind = _part(kind, step)
    for candidate in _alternatives(kind):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return tuple(field.alias or name for name, field in candidate.model_fields.items())
    return ()


def _part(kind: Any, step: str | int) -> Any:
    """The type of what stands at ``step`` of a value of type ``kind``; ``kind`` itself if the step leads nowhere."""
    for candidate in _alternatives(kind):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            for name, field in candidate.model_fields.items():
                if step in (name, field.alias):
                    return field.annotation
        origin, arguments = typing.get_origin(candidate), typing.get_args(candidate)
        if origin is dict or (origin is tuple and isinstance(step, int)):
            return arguments[1] if origin is dict else arguments[0]
    return kind


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """``kind`` without ``Annotated``, and the members of a union."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(kind)[0])
    if origin is not None and type(None) in typing.get_args(kind):
        return tuple(part for member in typing.get_args(kind) for part in _alternatives(member))
    return (kind,)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:59] + "…")
    if value is None:
        return "Nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return "A list" if isinstance(value, tuple | list) else "A mapping"


def _one_of(words: typing.Iterable[str]) -> str:
    listed = ", ".join(words)
    return f"; possible are: {listed}" if listed else ""
