from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fac_backup.plain.errors import UsageError
from fac_backup.policy.matrix import DEFAULT, default_kind, json_schema, lint_text, load
from fac_backup.policy.schema import schema_text

ROOT = Path(__file__).parents[3]
FAC = (ROOT / "action-matrix.yml").read_text()
MINIMAL = (ROOT / "examples" / "action-matrix.minimal.yml").read_text()


def matrix_or_complaint(text: str) -> str:
    """What is said about ``text``; empty if it is a matrix. Anything but a UsageError fails the test."""
    try:
        load(text)
    except UsageError as error:
        return error.line()
    return ""


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(text)
    return caught.value.what


def test_the_fac_matrix_says_what_the_procedure_says():
    matrix = load(FAC)
    listed = {(path.source, path.target): (set(path.when), path.undo) for path in matrix.paths}
    assert listed == {
        ("production", "production"): ({"manual"}, "pre-restore"),
        ("production", "staging"): ({"unattended", "manual"}, "pre-restore"),
        ("dev", "dev"): ({"unattended", "manual"}, "none"),
        ("dev", "preview"): ({"manual"}, "pre-restore"),
    }
    assert str(matrix.retention("production", "pre-deploy")) == "keep the 2 newest"
    assert str(matrix.retention("production", "daily")) == "keep 7 days"
    assert str(matrix.retention("dev", "daily")) == "keep 1 day"
    assert all(
        str(matrix.retention(space, kind)) == "keep 7 days"
        for space in matrix.spaces
        for kind in ("manual", "pre-restore")
    )
    assert (matrix.time_zone, str(matrix.who)) == ("America/New_York", "the team GSA-TTS/fac-admins")
    assert matrix.environment("restore", "staging", unattended=True) == "staging"
    assert matrix.environment("restore", "staging", unattended=False) == "staging-restore"
    assert {space.max_object_age_days for space in matrix.spaces.values()} == {60}
    assert matrix.place("preview").model_dump(exclude_none=True) == {
        "api": "https://api.fr.cloud.gov",
        "organization": "gsa-tts-oros-fac",
        "space": "preview",
        "app": "gsa-fac",
        "restart": "rolling",
    }


def test_what_a_space_says_about_cloud_foundry_replaces_what_the_top_says():
    matrix = load(
        "version: 1\ncloud_foundry: {app: a, python: '3.13', restart: rolling, after_restore: [migrate]}\n"
        "spaces:\n  one:\n  two: {cloud_foundry: {app: b, restart: stop, before_restore: [lock], after_restore: []}}\n"
    )
    one, two = matrix.place("one"), matrix.place("two")
    assert (one.app, one.space, one.python, one.restart, one.after_restore) == (
        "a", "one", "3.13", "rolling", ("migrate",)
    )  # fmt: skip
    assert (two.app, two.python, two.restart, two.before_restore, two.after_restore) == (
        "b", "3.13", "stop", ("lock",), ()
    )  # fmt: skip


def test_the_fac_matrix_and_the_minimal_one_have_no_mistakes_of_meaning():
    assert lint_text(FAC) == lint_text(MINIMAL) == ()


def test_five_lines_are_a_matrix():
    assert len(MINIMAL.splitlines()) == 5
    assert load(MINIMAL).path("production", "staging") is not None


def test_the_schema_on_disk_is_the_one_that_the_model_makes():
    assert (ROOT / "action-matrix.schema.json").read_text() == schema_text(), (
        "stale: python -m fac_backup.policy.schema > action-matrix.schema.json"
    )
    json.dumps(json_schema())


def test_an_editor_that_reads_the_schema_has_a_sentence_for_every_key():
    schema = json_schema()
    parts = {**schema["$defs"], "(top)": schema}
    silent = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, said in part.get("properties", {}).items()
        if not said.get("description", "").endswith(".")
    ]
    assert silent == []


def test_the_schema_accepts_both_matrices_and_refuses_a_wrong_key():
    import jsonschema
    import yaml

    validator = jsonschema.Draft202012Validator(json_schema())
    for text in (FAC, MINIMAL):
        assert list(validator.iter_errors(yaml.safe_load(text))) == []
    assert not list(validator.iter_errors({"version": 1, "spaces": {"dev": None}}))
    for wrong in (
        {"spacs": {}},
        {"spaces": {"Dev": {}}},
        {"spaces": {"dev": {"retention": {"daily": {"keep_days": 0}}}}},
        {"spaces": {}},
        {"paths": [{"source": "dev", "target": "dev", "when": "sometimes"}]},
        {"who": "bob"},
        {"who": {"team": "o/t", "users": ["a"]}},
    ):
        assert list(validator.iter_errors(yaml.safe_load(MINIMAL) | wrong)), wrong


SPACES = "version: 1\nspaces: {dev: {}, prod: {}}\nwho: {users: [ann]}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: The file is empty"),
        ("just words", "1:1: A matrix is a mapping"),
        ("- a\n- b", "1:1: A matrix is a mapping"),
        ("version: 1", "1:1: The key 'spaces' is missing"),
        ("version: 2\nspaces: {dev: {}}", "1:10: 2 does not fit"),
        ("version: '1'\nspaces: {dev: {}}", "1:10: '1' does not fit"),
        ("version: 1\nspaces: {}", "2:9: This is too short"),
        ("version: 1\nspacs: {dev: {}}", "2:1: Unknown key 'spacs'; did you mean 'spaces'?"),
        ("version: 1\nspaces:\n  dev:\n    retension: {}", "4:5: Unknown key 'retension'; did you mean 'retention'?"),
        ("version: 1\nspaces:\n  dev: {}\n  dev: {}", "4:3: The key 'dev' stands twice, first on line 3"),
        ("version: 1\nspaces: {Dev: {}}", "2:10: 'Dev' is not a name"),
        ("version: 1\nspaces: {'dev ': {}}", "2:10: 'dev ' is not a name"),
        ("version: 1\nspaces: {a_b: {}}", "2:10: 'a_b' is not a name"),
        ("version: 1\nspaces: {dev: {retention: {daily: {keep_days: 0}}}}", "2:47: 0 is too little"),
        ("version: 1\nspaces: {dev: {retention: {daily: {keep_newest: -1}}}}", "2:49: -1 is too little"),
        ("version: 1\nspaces: {dev: {retention: {daily: {keep_days: 7.5}}}}", "2:47: '7.5' does not fit"),
        ("version: 1\nspaces: {dev: {retention: {daily: {keep_days: true}}}}", "2:47: true does not fit"),
        ("version: 1\nspaces: {dev: {retention: {daily: {}}}}", "A retention rule is either"),
        ("version: 1\nspaces: {dev: {after_restore: a/../b.sql}}", "2:31: 'a/../b.sql' is not an SQL file"),
        ("version: 1\nspaces: {dev: {after_restore: /etc/b.sql}}", "2:31: '/etc/b.sql' is not an SQL file"),
        ("version: 1\nspaces: {dev: {retention: {daily: {keep_days: 1, keep_newest: 1}}}}", "A retention rule is"),
        (
            "version: 1\nspaces: {dev: {retention: {dayly: {keep_days: 1}}}}",
            "2:28: The space dev has no backups of kind",
        ),
        ("version: 1\nspaces: {dev: {kinds: [daly]}}", "2:24: There is no kind 'daly'; did you mean 'daily'?"),
        ("version: 1\nspaces: {dev: {max_object_age_days: 1}}", "1 is too little"),
        ("version: 1\nspaces: {dev: {store: 'S3://X'}}", "'S3://X' is not a store"),
        ("version: 1\nspaces: {dev: {exclude_data: [users]}}", "'users' is not a table"),
        ("version: 1\nspaces: {dev: {require_signatures: true}}", "2:36: The space dev requires signatures"),
        ("version: 1\nspaces: {dev: {public_keys: [QUJD]}}", "This is not an Ed25519 public key"),
        ("version: 1\ntime_zone: America\nspaces: {dev: {}}", "2:12: 'America' is not a time zone"),
        ("version: 1\ntime_zone: ../../etc/passwd\nspaces: {dev: {}}", "is not a time zone"),
        ("version: 1\ntime_zone: Europe/Berln\nspaces: {dev: {}}", "did you mean 'Europe/Berlin'?"),
        (
            SPACES + "paths: [{source: dve, target: dev, when: manual}]",
            "4:18: There is no space 'dve'; did you mean 'dev'",
        ),
        (SPACES + "paths: [{source: dev, target: dev, when: manuel}]", "4:42: 'manuel' is not one of the words"),
        (SPACES + "paths: [{source: dev, target: dev, when: []}]", "4:42: This is too short"),
        (SPACES + "paths: [{source: dev, target: dev}]", "4:9: The key 'when' is missing"),
        (
            SPACES
            + "paths:\n- {source: dev, target: prod, when: manual}\n- {source: dev, target: prod, when: unattended}",
            "6:3: The path from dev to prod is already listed, as number 1",
        ),
        ("version: 1\nspaces: {a: }\npaths: [{source: a, target: a, when: manual}]", "does not say who"),
        ("version: 1\nspaces: {a: }\nwho: bob", "3:6: 'bob' is not who"),
        ("version: 1\nspaces: {a: }\nwho: {}", "who is exactly one of"),
        ("version: 1\nspaces: {a: }\nwho: {team: o/t, users: [a]}", "who is exactly one of"),
        ("version: 1\nspaces: {a: }\nwho: {team: fac-admins}", "3:13: 'fac-admins' is not a team"),
        ("version: 1\nspaces: {a: }\nrefs: {manual: [main]}", "3:17: 'main' is not a ref"),
        ("version: &v 1\nspaces: {a: *v}", "1:10: Anchors"),
        ("version: !!int 1\nspaces: {a: }", "1:10: Tags"),
        ("version: 1\n---\nversion: 1", "2:1: A second document"),
        ("version: 1\n\tspaces: 1", "This is not valid YAML"),
        ("version: [1", "This is not valid YAML"),
        ("? [a]\n: b", "1:3: A key must be a word"),
        ("version: 1\nspaces: \x07", "This is not valid YAML: it contains a character"),
        ("version: \ud800", "This is not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        ("a: " * 5000, "not valid YAML"),
        ("x" * 300_000, "has more than 256 thousand characters"),
        ("version: 1\nspaces: {a: {max_object_age_days: " + "9" * 5000 + "}}", "does not fit"),
        ("version: 1\nspaces: {dev: {'::error::\\x0a': 1}}", "Unknown key '::error::"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_column(text: str, expected: str):
    said = complaint(text)
    assert expected in said
    assert re.match(r"action-matrix\.yml:\d+:\d+: ", said)
    assert "\n" not in said
    assert len(said) < 700


def test_an_anchor_bomb_is_refused_at_its_first_anchor():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join('*' + old for _ in range(9))}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "1:4: Anchors" in complaint(bomb)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("{}[]:,-?&*!|>'\"%@`#\n\t az10\x00\ud800é~<"), max_size=60))
def test_no_text_makes_anything_but_a_matrix_or_one_clear_error(text: str):
    assert "\n" not in matrix_or_complaint(text)


KEYS = [
    *("version", "time_zone", "who", "team", "users", "spaces", "dev", "kinds", "retention", "daily", "keep_days"),
    *(
        "keep_newest",
        "paths",
        "source",
        "target",
        "when",
        "environments",
        "restore",
        "manual",
        "instances",
        "documents",
    ),
    *("refs", "pre-deploy", "cloud_foundry", "public_keys"),
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["dev", "daily", "manual", "environment"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["who", "kinds", "paths", "environments", "refs", "spaces", "repositories"]), values
    )
)
def test_no_structure_makes_anything_but_a_matrix_or_one_clear_error(extra: dict[str, object]):
    # JSON is YAML, but for characters that YAML refuses, which is a clear error too.
    text = json.dumps({"version": 1, "spaces": {"dev": {}}} | extra)
    assert re.match(r"$|action-matrix\.yml:\d+:\d+: ", matrix_or_complaint(text))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_damage_to_the_real_matrix_makes_a_traceback(data: st.DataObject):
    start = data.draw(st.integers(0, len(FAC)))
    length = data.draw(st.integers(0, 40))
    put = data.draw(st.text(alphabet="{}[]:,-&*!'\" \nabc7", max_size=4))
    said = matrix_or_complaint(FAC[:start] + put + FAC[start + length :])
    assert not said or said.startswith("action-matrix.yml:")


@pytest.mark.parametrize("word", ["no", "on", "yes", "off", "y", "n"])
def test_a_space_may_be_called_what_old_yaml_takes_for_a_boolean(word: str):
    assert list(load(f"version: 1\nspaces: {{{word}: {{}}}}").spaces) == [word]


def test_a_team_that_backs_up_every_two_hours_adds_one_line():
    matrix = load("version: 1\nspaces: {prod: {}}\nkinds: {two-hourly: {keep_days: 2}}\n")
    assert matrix.kind("prod", "two-hourly") == "two-hourly"
    assert str(matrix.retention("prod", "two-hourly")) == "keep 2 days"


def test_unknown_words_are_answered_with_the_nearest_valid_one():
    matrix = load(FAC)
    with pytest.raises(UsageError, match="did you mean 'production'"):
        matrix.space("Production")
    with pytest.raises(UsageError, match="did you mean 'daily'"):
        matrix.kind("dev", "dayly")
    with pytest.raises(UsageError, match="no backups of kind 'pre-deploy'"):
        matrix.kind("dev", "pre-deploy")


def test_without_a_matrix_one_space_is_kept_seven_days_and_nothing_can_be_restored():
    assert list(DEFAULT.spaces) == ["default"]
    assert DEFAULT.paths == ()
    assert {str(DEFAULT.retention("default", kind)) for kind in DEFAULT.kinds_of("default")} == {"keep 7 days"}
    assert [default_kind(event) for event in ("schedule", "workflow_dispatch", "push", "release", "")] == [
        "daily",
        "manual",
        "pre-deploy",
        "pre-deploy",
        "manual",
    ]


BASE = "version: 1\nwho: {users: [ann]}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spaces: {a: {store: x}, b: {store: x}}", "3:29: error: a and b have one store"),
        ("spaces: {a: {store: b}, b: {}}", "a and b have one store"),
        ("spaces: {a: {store: 's3://bkt/x'}, b: {store: 's3://bkt/x/y'}}", "a and b have one store"),
        (
            "spaces: {a: {protected: true}}\npaths: [{source: a, target: a, when: unattended}]",
            "4:32: error: An unattended restore into a",
        ),
        (
            "spaces: {a: {kinds: [pre-deploy], retention: {pre-deploy: {keep_newest: 2}}}}\n"
            "paths: [{source: a, target: a, when: unattended}]",
            "An unattended restore into a",
        ),
        (
            "spaces: {a: {}, b: {}, c: {}}\npaths: [{source: a, target: b, when: manual}, "
            "{source: c, target: a, when: unattended}]",
            "An unattended restore into a",
        ),
        (
            "spaces: {a: {protected: true}, b: {}}\npaths: [{source: b, target: a, when: manual}]",
            "warning: a is protected, and this path fills it from b",
        ),
        (
            "spaces: {a: {protected: true}}\npaths: [{source: a, target: a, when: manual, undo: none}]",
            "cannot be undone",
        ),
        (
            "spaces: {a: {protected: true}}\npaths: [{source: a, target: a, when: manual, before_swap: x.sql}]",
            "would bring back other data",
        ),
        ("spaces: {a: {kinds: [daily]}}", "a has no retention for daily backups"),
        ("kinds: {hourly: }\nspaces: {a: {}}", "a has no retention for hourly backups"),
        ("kinds: {hourly: {keep_days: 1}}\nspaces: {a: {kinds: []}}", "No space has the kind hourly"),
        ("repositories: [Org/repo, org/repo]\nspaces: {a: {}}", "differ only in case"),
        ("spaces: {a: {exclude_data: [public.Log, public.log]}}", "differ only in case"),
        (
            "cloud_foundry: {space: one}\nspaces: {a: {instances: {database: db}}, b: {instances: {database: db}}}",
            "are the same instance db",
        ),
        (
            "spaces: {a: {}}\nenvironments: {restore: <target>}\npaths: [{source: a, target: a, when: manual}]",
            "serves both unattended runs and restores by hand",
        ),
        (
            "spaces: {a: {public_keys: [MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=]}}",
            "does not require signatures",
        ),
    ],
)
def test_a_mistake_of_meaning_is_found(text: str, expected: str):
    assert any(expected in finding for finding in lint_text(BASE + text)), lint_text(BASE + text)


def test_a_public_key_is_taken_as_openssl_prints_it():
    line = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
    pem = f"      -----BEGIN PUBLIC KEY-----\n      {line}\n      -----END PUBLIC KEY-----\n"
    matrix = load(f"version: 1\nspaces:\n  a:\n    require_signatures: true\n    public_keys:\n    - |\n{pem}")
    assert matrix.space("a").public_keys == (line,)


def test_a_key_that_is_called_as_pydantic_calls_keys_is_an_unknown_key() -> None:
    with pytest.raises(UsageError, match=r"Unknown key '\[key\]'"):
        load('version: 1\n"[key]": 1\nspaces: {dev: }\n')
