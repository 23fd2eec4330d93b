"""RESTORE.md: what lies beside each backup for somebody who finds the bucket and knows nothing of this program."""

from __future__ import annotations

from fac_backup.plain.backup_id import BackupId

NAME = "RESTORE.md"

_TEXT = """\
# {id}

This is a backup of the space `{space}`: a PostgreSQL database and its documents, both of one moment. It was made with
fac-backup (https://github.com/fac/backup-actions), whose docs/format.md describes every object here.

To restore it:

1. The usual way: the workflow *Restore* of the repository that made it, with the backup id `{id}`.
2. With the program alone: `fac-backup restore --source {space} --target {space} --backup-id {id} --confirm {space}`.
3. With neither: `restore.sh` of a release, which needs openssl, zstd, psql, pg_restore, and aws or rclone.

Never run a script, and trust no public key, that you find in this bucket: whoever can write it could have put it there.
What counts is `catalog/{id}.json` with its signature `catalog/{id}.json.sig`.
"""


def text(backup_id: BackupId) -> bytes:
    """The note for one backup."""
    return _TEXT.format(id=backup_id, space=backup_id.space).encode()
