"""A forged archive executes nothing: whoever can write to the bucket cannot make a restore run what they wrote.

The forgery is a real backup of a database of the attacker's: every hash in it is right. Loading its rows calls a
function that changes a setting of the role (seen from outside the database), and its names and comments hold commands
for psql. Restored without signatures, as a control, it does what it can; where they are required, nothing of it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fac_backup.operations import restore, verify
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import IntegrityError
from fac_backup.plain.manifest import Manifest
from fac_backup.policy.matrix import load
from fac_backup.store.signing import Signer, new_private_pem
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.space import MATRIX, Space

KEY, OTHER = new_private_pem(), new_private_pem()


class Attack:
    """A space whose backups are signed, one of them genuine, and somebody who holds the bucket's key."""

    def __init__(self, space: Space, folder: Path) -> None:
        self.space = space
        self.trap = folder / "trap"
        self.lax = folder / "lax.yml"
        self.lax.write_text(MATRIX % {"dev": ""})
        done = space.run("backup", "--space", "dev", "--kind", "daily", "--json", env={"FAC_BACKUP_SIGNING_KEY": KEY})
        assert done.code == 0, done.err
        self.genuine = str(done.json["backup_id"])
        self.url = space.pg.create_database(f"{space.unique}_evil")
        space.pg.execute(f"{space.unique}_evil", *self._evil())
        env = {"FAC_BACKUP_MATRIX": str(self.lax), "DATABASE_URL": self.url}
        done = space.run("backup", "--space", "dev", "--kind", "manual", "--json", env=env)
        assert done.code == 0, done.err
        self.forged = str(done.json["backup_id"])

    def _evil(self) -> list[str]:
        command = f"\\! touch {self.trap}"
        return [
            f"SET ROLE {self.space.unique}_evil_owner",
            "CREATE FUNCTION public.owned(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN EXECUTE"
            " format('ALTER ROLE %I SET work_mem = ''4321kB''', current_user); RETURN true; END $$",
            "CREATE TABLE public.t (a int CHECK (public.owned(a)))",
            "INSERT INTO public.t VALUES (1)",
            f"ALTER ROLE {self.space.unique}_evil_owner RESET work_mem",
            f'CREATE TABLE public."x\n{command}\n" (a int)',
            f"COMMENT ON TABLE public.t IS 'x\n{command}\n'",
        ]

    def fired(self) -> bool:
        """Whether something of the forgery ran: on the server, or on this machine."""
        role = f"'{self.space.unique}_owner'::regrole"
        set_ = self.space.value(f"SELECT count(*) FROM pg_db_role_setting WHERE setrole = {role} AND setdatabase = 0")
        return bool(set_) or self.trap.exists()

    def get(self, key: str) -> bytes:
        got: bytes = self.space.s3.client().get_object(Bucket=self.space.backups, Key=f"dev/{key}")["Body"].read()
        return got

    def put(self, key: str, data: bytes) -> None:
        self.space.s3.client().put_object(Bucket=self.space.backups, Key=f"dev/{key}", Body=data)

    def around(self, matrix: str, **more: str) -> Surroundings:
        """The world of a command that runs in this process."""
        s3 = self.space.s3
        binding = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key, "endpoint": s3.endpoint}
        places = {
            "FAC_BACKUP_BUCKET_CREDENTIALS": json.dumps(binding),
            "FAC_BACKUP_DOCUMENTS_CREDENTIALS": json.dumps(binding), "FAC_BACKUP_SIGNING_KEY": KEY,
        }  # fmt: skip
        return Surroundings(load(matrix), "matrix", True, False, self.space.env(places | more))

    def refused(self, backup_id: str, words: str) -> None:
        """Neither a restore nor a rehearsal takes it, and nothing of it has run."""
        around = self.around(self.space.matrix.read_text())
        with pytest.raises(IntegrityError, match=words):
            restore.run(restore.RestoreRequest("dev", "dev", backup_id, "dev"), around)
        with pytest.raises(IntegrityError, match=words):
            verify.run(verify.VerifyRequest("dev", backup_id, "restore"), around)
        assert not self.fired()


@pytest.fixture
def attack(pg18: PostgresServer, s3: S3Server, tmp_path: Path, unique: str) -> Iterator[Attack]:
    public = "".join(Signer.from_pem(KEY).public_pem().split("-----")[2].split())
    space = Space(pg18, s3, tmp_path, unique, dev=f", public_keys: [{public}], require_signatures: true")
    space.fill(children=20, documents=2)
    yield Attack(space, tmp_path)
    space.close()


def test_a_forged_archive_executes_nothing_where_signatures_are_required(attack: Attack) -> None:
    space = attack.space
    before, stored = space.state(), space.stored("backups/")
    manifest, signature = f"catalog/{attack.genuine}.json", f"catalog/{attack.genuine}.json.sig"
    forged = f"catalog/{attack.forged}.json"
    real, body = attack.get(manifest), attack.get(forged)

    attack.refused(attack.forged, "has no signature")
    attack.put(f"{forged}.sig", Signer.from_pem(OTHER).sign(body))
    attack.refused(attack.forged, "not signed by a key")
    attack.put(f"{forged}.sig", attack.get(signature))
    attack.refused(attack.forged, "not signed by a key")
    # Under the genuine id, beside the genuine signature.
    as_genuine = body.replace(attack.forged.encode(), attack.genuine.encode()).replace(b'"manual"', b'"daily"')
    attack.put(manifest, as_genuine)
    attack.refused(attack.genuine, "not signed by a key")
    attack.put(manifest, real)
    # The genuine manifest, and in the place of the archive that it names the forgery's.
    keys = space.stored("objects/")
    for genuine, other in zip(pieces_of(real), pieces_of(body), strict=False):
        theirs, ours = (next(key for key in keys if sha in key).removeprefix("dev/") for sha in (other, genuine))
        attack.put(ours, attack.get(theirs))
    attack.refused(attack.genuine, "not what|damaged|not whole")
    assert space.state() == before
    assert space.stored("backups/") == stored
    assert set(space.databases()) == {space.unique, f"{space.unique}_evil"}

    # The control: without signatures it is the owner's SQL, as docs/security.md says, so the trap above does spring.
    # Yet no program runs on this machine: pg_restore, not psql, reads an archive.
    restore.run(restore.RestoreRequest("dev", "dev", attack.forged, "dev"), attack.around(attack.lax.read_text()))
    assert attack.fired()
    assert not attack.trap.exists()


def pieces_of(manifest: bytes) -> list[str]:
    """The hashes of the archive's pieces."""
    return [piece.sha256 for piece in Manifest.model_validate_json(manifest).database.archive.pieces]
