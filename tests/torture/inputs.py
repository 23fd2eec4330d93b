"""Random matrices, manifests and ids: whatever comes in, the program answers with one of its own errors.

A third each: texts that are nothing, texts that are nearly right (a valid matrix or manifest with one part replaced,
moved, doubled or cut), and ids made of everything that Unicode has. hypothesis makes them and shrinks what it finds.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FacBackupError
from fac_backup.plain.manifest import Manifest
from fac_backup.policy.lint import lint
from fac_backup.policy.matrix import load

from .table import Lost, Row
from .world import World

MATRIX = """\
version: 1
time_zone: America/New_York
repositories: [GSA-TTS/FAC]
who: {team: GSA-TTS/fac-admins}
kinds: {hourly: {keep_newest: 3}}
spaces:
  production: {store: production, replace: beside, keep_previous: 4, retention: {daily: {keep_days: 7}}}
  staging: {replace: in-place, max_object_age_days: 60}
  dev: {}
paths:
  - {source: production, target: staging, purpose: refresh, when: unattended}
  - {source: dev, target: dev, purpose: recovery, when: [manual, unattended], undo: none}
"""

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(), st.binary(max_size=4),
    st.sampled_from(["production", "dev", "daily", "team", "unattended", "in-place", "..", "latest", "*", "a" * 5000]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in _places(one, (*at, key)))]


@st.composite
def nearly(draw: st.DrawFn, whole: Any) -> Any:
    """``whole`` with one or two of its parts replaced, removed or put under another name."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(_places(value)[1:] or [()]))
        if not place:
            continue
        there = value
        for key in place[:-1]:
            there = there[key]
        how = draw(st.sampled_from(["replace", "remove", "rename"]))
        if how == "remove":
            del there[place[-1]]
        elif how == "rename" and isinstance(there, dict):
            there[draw(st.text(max_size=12))] = there.pop(place[-1])
        else:
            there[place[-1]] = draw(VALUES)
    return value


@st.composite
def cut_or_doubled(draw: st.DrawFn, text: str) -> str:
    """``text`` with a stretch taken out, doubled, or replaced."""
    begin = draw(st.integers(0, len(text)))
    end = min(len(text), begin + draw(st.integers(0, 40)))
    new = draw(st.sampled_from(["", text[begin:end] * 2]) | st.text(max_size=10))
    return text[:begin] + new + text[end:]


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, allow_unicode=True))


def matrices() -> st.SearchStrategy[str]:
    """Texts for a matrix file."""
    whole = yaml.safe_load(MATRIX)
    return st.one_of(st.text(), VALUES.map(_yaml), nearly(whole).map(_yaml), cut_or_doubled(MATRIX))


def manifests(sample: bytes) -> st.SearchStrategy[bytes]:
    """Bytes for a manifest object."""
    text = sample.decode()
    texts = st.one_of(
        VALUES.map(lambda value: json.dumps(value, default=str)),
        nearly(json.loads(text)).map(lambda value: json.dumps(value, default=str)),
        cut_or_doubled(text),
    )
    return st.one_of(st.binary(), texts.map(lambda text: text.encode(errors="surrogatepass")))


def ids() -> st.SearchStrategy[str]:
    """Texts for a backup id."""
    near = st.from_regex(r"[a-z.\-]{0,35}_[0-9]{6,9}T[0-9]{5,7}Z_[a-z\-/]{0,35}")
    return st.one_of(st.text(), near, cut_or_doubled("dev_20261122T201653Z_pre-deploy"))


def _read_matrix(text: str) -> None:
    load(text, "action-matrix.yml")
    lint(load(text, "action-matrix.yml"))


def _survives(read: Callable[[Any], object], strategy: st.SearchStrategy[Any], count: int, start: int) -> int:
    """Read ``count`` of them; how many were good. Raises Lost with the smallest one that is not answered properly."""
    good, tried = 0, 0

    @seed(start)
    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(strategy)
    def one(value: Any) -> None:
        nonlocal good, tried
        tried += 1
        try:
            read(value)
            good += 1
        except FacBackupError as error:
            line = error.line()
            if not line or "\n" in line:
                raise AssertionError(f"the error is not one line: {value!r}") from None

    try:
        one()
    except Exception as error:
        raise Lost(f"{type(error).__name__}: {str(error)[:300]}") from error
    return good


def run(row: Row, world: World, numbers: list[int]) -> None:
    """As many inputs as there are numbers, a third of each sort; the first number says which."""
    world.fill(20, 3)
    backup_id = world.backup()
    sample = world.store().catalog.read(BackupId.parse(backup_id)).to_json()
    sorts: dict[str, tuple[Callable[[Any], object], st.SearchStrategy[Any]]] = {
        "matrices": (_read_matrix, matrices()),
        "manifests": (lambda data: Manifest.from_json(data, backup_id), manifests(sample)),
        "ids": (BackupId.parse, ids()),
    }
    row.unit = "inputs"
    each = -(-len(numbers) // len(sorts))
    for number, (name, (read, strategy)) in enumerate(sorts.items(), numbers[0]):

        def work(rng: random.Random, read: Any = read, strategy: Any = strategy, name: str = name) -> None:
            row.counts[f"valid {name}"] += _survives(read, strategy, each, rng.randrange(2**31))
            row.counts[name] += each

        row.attempt(number, work)
    row.tried = sum(row.counts[name] for name in sorts)
