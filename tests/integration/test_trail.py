"""A backup that is gone without a tombstone shows: in list, purge, verify and doctor, and in an issue of its own.

The actions' own steps run here, in scheduled runs, with a strict stand-in for GitHub.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fac_backup.operations import doctor
from fac_backup.operations.surroundings import Surroundings
from fac_backup.policy.matrix import load
from fac_backup.store import layout
from fac_backup.store.bucket import Bucket
from fac_backup.store.catalog import Entry
from fac_backup.store.signing import Signer, new_private_pem
from fac_backup.store.store import Store
from fac_backup.store.trail import gaps, newest, previous
from tests.integration.test_store import NOW, an_id, backups, bucket_name, manifest
from tests.support.github_api import Token, World, serve
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import Space
from tests.unit.hosting.world import Asked, Stepped, consumer

__all__ = ["backups", "bucket_name"]


def chain(store: Store, *minutes: int, signer: Signer | None = None) -> list[Entry]:
    """Backups one after the other, each of which names the one before it."""
    for minute in minutes:
        before = previous(newest(store, store.catalog.entries()))
        store.catalog.commit(manifest(an_id(minute), previous=before), None, signer=signer)
    return store.catalog.entries()


def told(store: Store) -> list[tuple[str, bool]]:
    return [(str(gap.id), gap.changed) for gap in gaps(store, store.catalog.summaries())]


def test_a_backup_that_went_without_a_signed_tombstone_is_a_gap_and_a_purged_one_is_none(backups: Bucket) -> None:
    mine, other = Signer.from_pem(new_private_pem()), Signer.from_pem(new_private_pem())
    store = Store(backups, "dev", clock=lambda: NOW, trusted_keys=(mine.public_pem(),), require_signed=True)
    one, two, three, four = (entry.id for entry in chain(store, -9, -8, -7, -6, signer=mine))
    assert told(store) == []
    store.tombstones.put(one, by="purge", rule="7 days", signer=mine)
    store.catalog.remove(one)
    assert told(store) == []

    store.catalog.remove(three)
    assert told(store) == [(str(three), False)]
    # What somebody without the key can write in its place: none of it is a tombstone of this backup.
    store.tombstones.put(three, by="me", rule="trust me")
    assert told(store) == [(str(three), False)]
    store.tombstones.put(three, by="me", rule="trust me", signer=other)
    assert told(store) == [(str(three), False)]
    for key in (layout.tombstone_key(one), layout.signature_key(layout.tombstone_key(one))):
        store.bucket.put(key.replace(str(one), str(three)), store.bucket.get(key))
    assert told(store) == [(str(three), False)]
    # An unsigned manifest that names what never was accuses nobody.
    false = previous(newest(store, store.catalog.entries()))
    assert false is not None
    store.catalog.commit(
        manifest(an_id(-2), previous=false.model_copy(update={"id": str(an_id(-30))})), None, signer=other
    )
    assert told(store) == [(str(three), False)]
    assert newest(store, store.catalog.entries()).id == four  # type: ignore[union-attr]
    assert two in store.catalog.ids()


def test_without_signatures_a_tombstone_is_enough_and_a_changed_manifest_is_told(backups: Bucket) -> None:
    store = Store(backups, "dev", clock=lambda: NOW)
    one, two, three = (entry.id for entry in chain(store, -9, -8, -7))
    store.tombstones.put(one, by="purge", rule="7 days")
    store.catalog.remove(one)
    assert told(store) == []
    store.bucket.put(layout.manifest_key(two), manifest(two, note="rewritten").to_json())
    assert told(store) == [(str(two), True)]
    store.bucket.put(layout.manifest_key(two), b"{")
    assert told(store) == [(str(two), True)]
    store.catalog.remove(two)
    assert told(store) == [(str(two), False)]
    assert store.catalog.ids() == [three]


MATRIX = """\
version: 1
who: {team: octo/admins}
spaces:
  dev: {retention: {daily: {keep_days: 1}}}
"""


class Nightly:
    """Scheduled runs of the actions on one space."""

    def __init__(self, space: Space, world: World, folder: Path) -> None:
        self.space, self.world, self.folder = space, world, folder
        world.matrix(MATRIX)
        world.attempt(1, event="schedule")
        world.tokens["job"] = Token(permissions={"metadata", "actions", "contents", "issues:write"})

    def binding(self) -> str:
        """The buckets' credentials."""
        s3 = self.space.s3
        return json.dumps({"access_key_id": s3.access_key, "secret_access_key": s3.secret_key, "endpoint": s3.endpoint})

    def step(self, action: str, **places: str) -> Stepped:
        """One step of an action."""
        binding = self.binding()
        given = {
            "bucket": f"s3://{self.space.backups}", "bucket-credentials": binding, "database-url": self.space.url,
            "documents": f"uploads=s3://{self.space.documents}", "documents-credentials": binding,
            "report-issue": "true", **{name.replace("_", "-"): value for name, value in places.items()},
        }  # fmt: skip
        self.folder.joinpath("GITHUB_STEP_SUMMARY").unlink(missing_ok=True)
        self.folder.joinpath("GITHUB_OUTPUT").unlink(missing_ok=True)
        with serve(self.world) as url:
            asked = Asked(url, operation=action, space="dev", event="schedule", token="job", backup_id="")
            return asked.step(self.folder, given)

    def issues(self) -> dict[str, str]:
        """State of each issue, by the check that its title names."""
        return {issue["title"].split("`")[1]: issue["state"] for issue in self.world.issues}


@pytest.fixture
def nightly(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Nightly]:
    space = Space(pg18, s3, tmp_path, unique).fill(children=20, documents=2)
    yield Nightly(space, consumer(), tmp_path)
    space.close()


def doctors_word(nightly: Nightly) -> list[dict[str, Any]]:
    with serve(nightly.world) as url:
        given = {"GITHUB_TOKEN": "job", "GITHUB_API_URL": url, "FAC_BACKUP_BUCKET_CREDENTIALS": nightly.binding()}
        env = nightly.space.env(given)
        result = doctor.run(Surroundings(load(MATRIX), "m", True, False, env), "octo/app")
    return [one for one in result.data["findings"] if one["name"] == "catalog of dev"]


def test_each_kind_of_check_opens_and_closes_its_own_issue_and_a_backup_that_went_shows_everywhere(
    nightly: Nightly,
) -> None:
    space = nightly.space
    first, second = space.backup(), space.backup()
    young = nightly.step("verify", level="age")
    assert young.code == 0, young.log
    assert nightly.issues() == {}

    too_old = nightly.step("verify", level="age", max_age_hours="0")
    assert too_old.code == 1, too_old.log
    assert "newest backup of dev is" in too_old.reasons()
    space.sql("TRUNCATE child")
    emptied = nightly.step("verify", live="true")
    assert emptied.code == 1, emptied.log
    assert "missing or empty" in emptied.reasons()
    assert nightly.issues() == {"age": "open", "live": "open"}
    young = nightly.step("verify", level="age")
    assert young.code == 0, young.log
    assert nightly.step("verify", level="objects").code == 0
    assert nightly.issues() == {"age": "closed", "live": "open"}, "a success closes its own issue only"
    space.sql("INSERT INTO child (parent_id, note) VALUES (1, 'x')")
    assert nightly.step("verify", live="true").code == 0
    assert nightly.issues() == {"age": "closed", "live": "closed"}
    assert [one["passed"] for one in doctors_word(nightly)] == [True]

    # Somebody who holds the bucket's key removes the earlier backup; the later one names it.
    space.s3.client().delete_object(Bucket=space.backups, Key=f"dev/{layout.CATALOG}{first}.json")
    for step in (
        nightly.step("verify", level="age"), nightly.step("list"), nightly.step("purge"),
    ):  # fmt: skip
        assert step.code == 0, step.log
        assert f"{first} was removed without a purge" in html.unescape(step.summary).replace("\u200b", "")
        assert json.loads(step.outputs["result"])["warnings" if "backups" in step.outputs["result"] else "missing"]
    assert nightly.issues() == {"age": "closed", "live": "closed", "catalog": "open"}
    ((finding),) = doctors_word(nightly)
    assert (finding["passed"], finding["matters"]) == (False, False)
    assert first in finding["sentence"]
    written = json.dumps(nightly.world.issues)
    assert not [word for word in (first, second, "child", space.backups, space.unique) if word in written]
    assert space.run("list", "--space", "dev").out.count("was removed without a purge") == 1
