"""Where the torture happens: one space with two states, ``a`` and ``b``, each with a committed backup.

Every attempt works on a copy of the store as it was when both backups had been made, under a prefix of its own, so that
attempts neither help nor hinder each other. What is compared is read here, not by the program: every table's rows and
checksum, sequences, constraints, indexes and views; every document's bytes, content type and metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg2

from fac_backup.documents.check import references
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store import sweep
from fac_backup.store.bucket import Bucket
from fac_backup.store.store import Store
from tests.support.space import Done, Space

from .forge import Forge, Running
from .table import require
from .whole import Whole

State = tuple[dict[str, Any], dict[str, tuple[bytes, str, str]]]

_TABLES = (
    "SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text FROM pg_class c JOIN pg_namespace n ON"
    " n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'fac_backup')"
    " AND c.relkind IN ('r', 'm', 'S') ORDER BY 1"
)
_SCHEMA = (
    "SELECT array_agg(x ORDER BY x)::text FROM (SELECT format('%s %s %s', conname, convalidated,"
    " pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace UNION ALL SELECT"
    " indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL SELECT definition FROM pg_matviews) AS t(x)"
)


def database_state(url: str) -> dict[str, Any]:
    """What is in a database: rows and checksum of every table, sequences, and what the schema promises."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_SCHEMA)
            found: dict[str, Any] = {"schema": cursor.fetchone()}
            cursor.execute(_TABLES)
            for name, kind in cursor.fetchall():
                what = "last_value, is_called" if kind == "S" else "count(*), sum(hashtextextended(t::text, 0))"
                cursor.execute(f"SELECT {what} FROM {name} AS t")
                found[name] = cursor.fetchone()
            return found
    finally:
        connection.close()


@dataclass
class World(Space):
    """The space, its two states, and commands that run from the forge."""

    forge: Forge | None = None
    old_objects: bool = False
    lease: float = 0
    """Seconds, where it is not the program's own."""
    states: dict[str, State] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    now: str = ""
    """Which of the states the target is in."""
    prefix: str = "first"
    more_env: dict[str, str] = field(default_factory=dict)
    """For every command."""
    whole: Whole = field(init=False)
    _client: Any = field(init=False)
    _root: Bucket = field(init=False)
    _copies: int = 0
    _looked: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._client = self.s3.client()
        self.whole = Whole(self._client, self.backups)
        given = S3Credentials(self.s3.access_key, self.s3.secret_key, "", "us-east-1", self.s3.endpoint)
        self._root = Bucket(BucketAddress(self.backups, "", given))

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """As a space's, with this attempt's prefix of the store."""
        where = {"FAC_BACKUP_BUCKET": f"s3://{self.backups}/{self.prefix}"}
        return super().env({**where, **self.more_env, **(more or {})})

    def begin(self, *arguments: str, env: Mapping[str, str] | None = None) -> Running:
        """Start a command without waiting."""
        assert self.forge is not None
        return self.forge.start(arguments, self.env(env), old_objects=self.old_objects, lease=self.lease)

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 180) -> Done:
        """Run a command to its end."""
        assert self.forge is not None
        return self.forge.wait(self.begin(*arguments, env=env), timeout)

    def stored(self, prefix: str = "") -> list[str]:
        """Keys in this attempt's copy of the store, below the space's prefix."""
        start = f"{self.prefix}/{self.name}/"
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.backups, Prefix=start + prefix)
        return [one["Key"].removeprefix(start) for page in pages for one in page.get("Contents", [])]

    def look(self) -> State:
        """The target as it is."""
        return database_state(self.url), self.all_documents()

    def make_states(self, children: int = 300, documents: int = 12) -> World:
        """State ``a``, its backup, state ``b``, its backup; each differs from the other in every way there is."""
        self.fill(children, documents)
        self.ids["a"], self.states["a"] = self.backup(), self.look()
        self.sql(
            "UPDATE parent SET name = 'b ' || name", "DELETE FROM child WHERE id % 3 = 0",
            "CREATE TABLE only_in_b (id int PRIMARY KEY, parent_id int REFERENCES parent)",
            "INSERT INTO only_in_b SELECT g, 1 + g % 20 FROM generate_series(1, 50) g",
            "DROP INDEX child_parent", "REFRESH MATERIALIZED VIEW per_parent",
        )  # fmt: skip
        client = self.client()
        client.delete_object(Bucket=self.documents, Key="folder/0001.txt")
        self.put("folder/0002.txt", b"overwritten in b")
        self.put("folder/0003.txt", b"document 3" * 10, "text/other")
        for number in range(4):
            self.put(f"only in b/{number}.txt", b"b" * number)
        self.ids["b"], self.states["b"] = self.backup(), self.look()
        self.now = "b"
        return self

    @contextmanager
    def fresh_store(self) -> Iterator[None]:
        """A copy of the first store for one attempt, removed afterwards."""
        client = self.client()
        self._copies += 1
        before, self.prefix = self.prefix, f"copy{self._copies}"
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.backups, Prefix=f"{before}/")
        for one in (one for page in pages for one in page.get("Contents", [])):
            target = self.prefix + one["Key"].removeprefix(before)
            client.copy_object(Bucket=self.backups, Key=target, CopySource={"Bucket": self.backups, "Key": one["Key"]})
        try:
            yield
        finally:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.backups, Prefix=f"{self.prefix}/")
            for page in pages:
                keys = [{"Key": one["Key"]} for one in page.get("Contents", [])]
                if keys:
                    client.delete_objects(Bucket=self.backups, Delete={"Objects": keys, "Quiet": True})
            self.prefix = before

    def bring_to(self, state: str) -> None:
        """Make the target what it is in ``state``."""
        if self.now != state:
            done = self.restore(self.ids[state])
            require(done.code == 0, f"the target could not be brought to its state {state}: {done.last}")
            require(self.look() == self.states[state], f"a restore left something else than state {state}")
            self.now = state

    def client(self) -> Any:
        """One boto3 client for all that is looked at."""
        return self._client

    def store(self, space: str = "") -> Store:
        """The store of this attempt (or another space's in the same bucket), as the program sees it."""
        return Store(self._root.below(f"{self.prefix}/"), space or self.name, owner="torture")

    def break_locks(self) -> None:
        """What an operator does who does not wait for the lease of a dead run (``fac-backup unlock``)."""
        locks = self.store().locks
        for name in ("store", "space"):
            locks.break_lock(name)

    def require_committed_are_whole(self, *more: str) -> list[str]:
        """All backups that were committed are there and whole, and so is whatever else is there; their ids.

        Every twentieth time the program is asked too: it must list the same ones and find nothing wrong.
        """
        there = self.whole.require_all(f"{self.prefix}/{self.name}/")
        missing = {*self.ids.values(), *more}.difference(there)
        require(not missing, f"committed backups are gone: {missing}")
        self._looked += 1
        if self._looked % 20 == 1:
            done = self.run("list", "--space", self.name, "--json")
            require(done.code == 0, f"list fails: {done.last}")
            listed = sorted(row["id"] for row in done.json["backups"])
            require(listed == there, f"list shows others than are there: {listed}")
            for one in listed:
                checked = self.run("verify", "--space", self.name, "--backup-id", one, "--level", "objects")
                require(checked.code == 0, f"verify finds a whole backup damaged: {checked.last}")
        return there

    def require_right(self, backup_id: str, said: str = "backup", *, restores: bool = True) -> None:
        """A backup of the target as it is now holds exactly the documents that are there; ``restores``: it does."""
        if restores:
            checked = self.run("verify", "--space", self.name, "--backup-id", backup_id, "--level", "restore")
            require(checked.code == 0, f"{said}: a wrong success: {checked.last}")
        listed = self.whole.require(f"{self.prefix}/{self.name}/", backup_id)
        there = self.all_documents()
        require(set(listed) == set(there), f"{said}: a wrong success: other documents are in it than there are")
        for key, (body, _, _) in there.items():
            known = listed[key].get("sha256")
            right = listed[key]["size"] == len(body) and known in (None, hashlib.sha256(body).hexdigest())
            right = right and (known or listed[key]["etag"] == hashlib.md5(body, usedforsecurity=False).hexdigest())
            require(bool(right), f"{said}: a wrong success: the document {key!r} is another in it")

    def require_nothing_left(self) -> None:
        """No scratch database, journal, pin or held lock."""
        require(self.databases() == [self.unique], f"databases are left: {len(self.databases()) - 1}")
        left = [key for folder in ("journal/", "pins/") for key in self.stored(folder)]
        require(not left, f"left in the store: {left}")
        store = self.store()
        held = [holder.owner for name in ("store", "space") for holder in store.locks.holders(name)]
        require(not held, f"locks are held by {held}")

    def unneeded(self) -> list[str]:
        """Keys in the store that no backup needs: what the next purge takes once they are a day old."""
        store = self.store()
        wanted = sweep.needed(store.catalog, lambda manifest: references(manifest.documents, store.bucket))
        none_is_young = sweep.plan(store.bucket, wanted, store.now(), young=timedelta(0))
        return [info.key for info in none_is_young.unneeded]


def journal_step(body: bytes) -> str:
    """The step that a journal's object names."""
    try:
        return str(json.loads(body).get("step", ""))
    except (ValueError, AttributeError):
        return ""
