"""A purge where signatures are required, through the action's own step: no tombstone, no removal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import Bucket
from fac_backup.store.signing import Signer, new_private_pem
from fac_backup.store.store import Store
from tests.integration.test_store import manifest
from tests.support.github_api import serve
from tests.support.s3 import S3Server
from tests.unit.hosting.world import Asked, Stepped, consumer

NOW = datetime.now(UTC).replace(microsecond=0)
PEM = new_private_pem()
KEY = Signer.from_pem(PEM)
MATRIX = f"""\
version: 1
who: {{team: octo/admins}}
spaces:
  dev:
    retention: {{daily: {{keep_days: 2}}}}
    require_signatures: true
    public_keys: ["{"".join(KEY.public_pem().split("-----")[2].split())}"]
"""


@pytest.fixture
def store(s3: S3Server) -> Iterator[Store]:
    name = s3.bucket("signed")
    given = S3Credentials(s3.access_key, s3.secret_key, endpoint=s3.endpoint)
    made = Store(
        Bucket(BucketAddress(name, "", given), role="the backups bucket", jobs=8),
        "dev", trusted_keys=(KEY.public_pem(),), require_signed=True,
    )  # fmt: skip
    made.open_for_writing()
    yield made
    s3.remove(name)


def purge(store: Store, s3: S3Server, folder: Path, **places: str) -> Stepped:
    """The step of the action `purge` in a scheduled run."""
    folder.mkdir()
    world = consumer()
    world.matrix(MATRIX)
    world.attempt(1, event="schedule")
    binding = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key, "endpoint": s3.endpoint}
    given = {"bucket": f"s3://{store.bucket.address.name}", "bucket-credentials": json.dumps(binding), **places}
    with serve(world) as url:
        return Asked(url, operation="purge", space="dev", event="schedule").step(folder, given)


def test_where_signatures_are_required_a_purge_signs_its_tombstones_or_removes_nothing(
    store: Store, s3: S3Server, tmp_path: Path
) -> None:
    old, older, newest = (BackupId.now("dev", "daily", NOW - timedelta(days=days)) for days in (5, 6, 0))
    for backup_id in (older, old, newest):
        store.catalog.commit(manifest(backup_id), None, signer=KEY)
    before = sorted(info.key for info in store.bucket.list(""))

    # Without the key, with a key that the matrix does not list, and with what is no key.
    for number, (given, words) in enumerate(
        (("", "no signing key is given"), (new_private_pem(), "does not list the public key"), ("x", "not an Ed25519"))
    ):
        refused = purge(store, s3, tmp_path / str(number), **{"signing-key": given})
        assert refused.code == 2, refused.log
        assert words in refused.reasons()
        assert "PRIVATE" not in refused.said()
    assert sorted(info.key for info in store.bucket.list("")) == before

    done = purge(store, s3, tmp_path / "signed", **{"signing-key": PEM})
    assert done.code == 0, done.log
    assert store.catalog.ids() == [newest]
    assert store.tombstones.ids() == [older, old]
    assert store.keys is not None
    assert {store.tombstones.read(gone, store.keys).tombstone for gone in (older, old)} == {str(older), str(old)}
    assert PEM.splitlines()[1] not in done.said()
