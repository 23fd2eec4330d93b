"""Where things lie below ``<prefix>/<space>/``. Keys here are relative to that (docs/format.md, "In the bucket")."""

from __future__ import annotations

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import UsageError

FORMAT_KEY = "format.json"
CATALOG = "catalog/"
BACKUPS = "backups/"
OBJECTS = "objects/"
DOCUMENTS = "documents/"
HOLDS = "holds/"
TOMBSTONES = "tombstones/"
LOCKS = "locks/"
PINS = "pins/"
JOURNAL = "journal/"
AUDIT = "audit/"


def manifest_key(backup_id: BackupId) -> str:
    """``catalog/dev_20261122T201653Z_daily.json``."""
    return f"{CATALOG}{backup_id}.json"


def signature_key(signed: str) -> str:
    """The key of the signature of the object ``signed``."""
    return f"{signed}.sig"


def own_key(backup_id: BackupId, name: str) -> str:
    """What belongs to one backup alone: ``backups/<id>/documents-uploads.jsonl.zst``."""
    return f"{BACKUPS}{backup_id}/{name}"


def piece_key(sha256: str) -> str:
    """``objects/ab/ab….zst``."""
    return f"{OBJECTS}{sha256[:2]}/{sha256}.zst"


def piece_hash(key: str) -> str | None:
    """The SHA-256 that a key below ``objects/`` names, None if it is not of that form."""
    name = key.rpartition("/")[2].removesuffix(".zst")
    return name if len(name) == 64 and key == piece_key(name) and not name.strip("0123456789abcdef") else None


def document_key(label: str, name: str) -> str:
    """``documents/uploads/ab/ab…``: one version of one document; ``name`` is a hash."""
    return f"{DOCUMENTS}{label}/{name[:2]}/{name}"


def hold_key(backup_id: BackupId) -> str:
    """The object whose presence keeps purge away from a backup."""
    return f"{HOLDS}{backup_id}.json"


def tombstone_key(backup_id: BackupId) -> str:
    """What remains to be seen of a purged backup."""
    return f"{TOMBSTONES}{backup_id}.json"


def id_in(key: str, folder: str) -> BackupId | None:
    """The backup id that ``<folder><id>.json`` names, None for any other key."""
    if not key.startswith(folder) or not key.endswith(".json"):
        return None
    try:
        return BackupId.parse(key[len(folder) : -len(".json")])
    except UsageError:
        return None
