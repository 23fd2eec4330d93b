"""A backup dated in the future: whole, validly signed or not, and still nothing that is restored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fac_backup.plain.backup_id import BackupId
from fac_backup.store.signing import Signer, new_private_pem
from tests.integration.test_put_back import store_of
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import MATRIX, Space

PEM = new_private_pem()
KEY = Signer.from_pem(PEM)
PUBLIC = "".join(KEY.public_pem().split("-----")[2].split())
SIGNED = {"FAC_BACKUP_SIGNING_KEY": PEM}


@pytest.fixture(params=["", f", require_signatures: true, public_keys: ['{PUBLIC}']"], ids=["unsigned", "signed"])
def space(
    request: pytest.FixtureRequest, pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str
) -> Iterator[Space]:
    made = Space(pg18, s3, tmp_path, unique, dev=request.param).fill(100, 3)
    made.matrix.write_text(MATRIX % {"dev": request.param})
    yield made
    made.close()


def test_a_backup_dated_in_the_future_is_not_restored_verified_or_exported_and_can_still_be_held(space: Space) -> None:
    done = space.run("backup", "--space", "dev", "--kind", "daily", "--json", env=SIGNED)
    assert done.code == 0, done.err
    store = store_of(space)
    good = store.catalog.read(BackupId.parse(done.json["backup_id"]))
    late = datetime.now(UTC) + timedelta(days=300)
    planted = str(BackupId.now("dev", "daily", late))
    again = good.model_copy(update={"id": planted, "created": late, "finished": late})
    store.catalog.commit(again, None, signer=KEY)
    space.sql("UPDATE parent SET name = 'newer'")
    before = space.state()

    for words in (
        ("restore", "--source", "dev", "--target", "dev", "--confirm", "dev"),
        ("restore", "--source", "dev", "--target", "dev", "--confirm", "dev", "--dry-run"),
        ("restore", "--source", "dev", "--target", "dev", "--confirm", "dev", "--beside", f"{space.unique}_look"),
        ("verify", "--space", "dev"),
        ("export", "--space", "dev", "--to", str(space.folder / "out"), "--confirm", "dev"),
    ):
        done = space.run(*words, "--backup-id", planted, env=SIGNED)
        assert done.code == 5, done.err
        assert f"{planted} is dated in the future ({late:%Y-%m-%d %H:%M} UTC)" in done.last
        assert "choose another backup" in done.last
    assert space.state() == before
    assert space.databases() == [space.unique]
    assert not list((space.folder / "out").iterdir())

    assert space.run("hold", "--space", "dev", "--backup-id", planted, "--confirm", "dev").code == 0
    listed = space.run("list", "--space", "dev", "--json")
    assert listed.code == 0, listed.err
    assert [one["restorable_to"] == [] for one in listed.json["backups"]] == [True, False]
    assert space.run("purge", "--space", "dev", env=SIGNED).code == 0
    assert f"dev/catalog/{planted}.json" in space.stored("catalog/"), "it is left for a person to look at"
    assert space.run("verify", "--space", "dev").code == 0, "of the newest that counts"
    done = space.restore(good.id, env=SIGNED)
    assert done.code == 0, done.err
