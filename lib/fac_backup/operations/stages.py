"""What the jobs of a sharded backup or restore leave for each other in the store (docs/scale.md).

Jobs pass each other numbers and the backup's id only, since outputs of jobs are public and document keys are not. All
else lies under ``backups/<backup id>/``: written by one job, read by the next, gone when the manifest is there. Where a
key signs this space's backups it signs these records too, else whoever can write into the bucket, and has no key, could
have the last job sign what is not ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, Field

from fac_backup.documents.shards import Shards
from fac_backup.operations.opening import Opened
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FailedError, IntegrityError, RefusedError, UsageError
from fac_backup.plain.manifest import Bytes, Database, Documents, Name, Plain, Previous, Run
from fac_backup.plain.text import plural
from fac_backup.store import layout
from fac_backup.store.bucket import NotFoundError
from fac_backup.store.records import dump, parse
from fac_backup.store.signing import TrustedKeys
from fac_backup.store.store import Store

log = logging.getLogger(__name__)

MOST = 64
"""Shards: each holds the store's shared lock, and a lock's holders all renew one object."""

PIN = "sharded"
PIN_SECONDS = 86400.0
"""How long what has been copied is kept between one stage and the next."""

Number = Annotated[int, Field(ge=1, le=MOST)]


class Plan(Plain):
    """What stage ``plan`` leaves: the dumped database, and where the documents are split."""

    stage: Literal["plan"] = "plan"
    id: str
    shards: Number
    began: AwareDatetime
    created: AwareDatetime
    """The snapshot's moment."""
    note: Annotated[str, Field(max_length=1000)] = ""
    run: Run
    previous: Previous | None = None
    """As the manifest will have it."""
    database: Database
    uploaded: Bytes
    """Pieces of the database that were new, as stored."""
    documents: dict[Name, Shards]


class Part(Plain):
    """What shard ``shard`` of a backup has copied: one partial listing a label, but for labels with fewer ranges."""

    stage: Literal["part"] = "part"
    id: str
    shard: Number
    documents: tuple[Documents, ...]
    copied: Annotated[int, Field(ge=0)]
    reused: Annotated[int, Field(ge=0)]
    uploaded: Bytes


class Adding(Plain):
    """What stage ``plan`` of a restore leaves in the target's store: where the documents are split."""

    stage: Literal["adding"] = "adding"
    id: str
    """An id of the target's, of kind ``pre-restore``: the folder of all that this restore's stages leave."""
    backup_id: str
    """What is restored."""
    shards: Number
    undo: bool
    """Whether the last stage takes a pre-restore backup, for which each shard stores what the target has."""
    run: Run
    documents: dict[Name, Shards]


class Added(Plain):
    """What shard ``shard`` of a restore has done in its ranges."""

    stage: Literal["added"] = "added"
    id: str
    shard: Number
    added: Annotated[int, Field(ge=0)]
    records: tuple[Documents, ...]
    """What the target has now that is as in the backup, one record a label (``documents.records``)."""
    kept: tuple[Documents, ...]
    """What the target has now and its store too, one partial listing a label; empty without an undo."""


Record = TypeVar("Record", Plan, Part, Adding, Added)


def plan_key(backup_id: str) -> str:
    """Where the plan of a sharded backup lies below the space's prefix."""
    return f"{layout.BACKUPS}{backup_id}/sharded.json"


def part_key(backup_id: str, shard: int) -> str:
    """Where a shard says what it has copied."""
    return f"{layout.BACKUPS}{backup_id}/part-{shard:04d}.json"


def put(opened: Opened, key: str, record: Plan | Part | Adding | Added) -> None:
    """Leave a record: its PUT is the end of the stage that writes it."""
    data = dump(record)
    if opened.signer is not None:
        opened.bucket.put(layout.signature_key(key), opened.signer.sign(data))
    opened.bucket.put(key, data)


def get(opened: Opened, key: str, model: type[Record]) -> Record | None:
    """Read a record, None if there is none. Raises IntegrityError if it is damaged or not signed by our own key."""
    try:
        data = opened.bucket.get(key)
    except NotFoundError:
        return None
    if opened.signer is not None:
        try:
            signature = opened.bucket.get(layout.signature_key(key), limit=1024)
        except NotFoundError:
            signature = b""
        if not TrustedKeys([opened.signer.public_pem()]).verify(data, signature):
            raise IntegrityError(
                "What an earlier job left in the store is not signed by this space's key",
                next_step="Find out who wrote it, and start again with a run of its own.",
            )
    return parse(model, data, "What an earlier job left in the store")


def plan_of(opened: Opened, around: Surroundings, backup_id: BackupId) -> Plan:
    """The plan of a backup that this very run has begun and that nothing has overtaken; keeps it for another day.

    Call it under the store's and the space's shared locks. Raises FailedError if it was given up or has run out.
    """
    plan = get(opened, plan_key(str(backup_id)), Plan)
    if plan is None or backup_id not in opened.store.pins.active():
        raise FailedError(
            f"There is no plan of {backup_id} any more: a restore has replaced {opened.space} since, or it is older "
            "than a day",
            state="No backup was made.",
            next_step="Start the backup again as a whole (`Re-run all jobs`): what was copied is found again.",
        )
    if plan.id != str(backup_id):
        raise IntegrityError(f"The plan of {backup_id} calls itself another's")
    if around.inside_actions and plan.run.url != around.run.url:
        raise RefusedError(f"{backup_id} was begun by another run", next_step="Each run makes backups of its own.")
    keep(opened.store, around, backup_id)
    return plan


def adding_of(target: Opened, around: Surroundings, backup_id: str, shards: int) -> Adding:
    """The plan of a restore of ``backup_id`` that this very run has begun and that nothing has overtaken; keeps it for
    another day. Call it under the target's locks. Raises FailedError if it was given up or has run out."""
    for named in under_way(target.store.pins.active(), target.store.catalog.ids()):
        if named.kind != "pre-restore":
            continue
        plan = get(target, plan_key(str(named)), Adding)
        if plan is None or (plan.id, plan.backup_id, plan.run.url) != (str(named), backup_id, around.run.url):
            continue
        if plan.shards != shards or set(plan.documents) != {source.label for source in target.sources}:
            labels = ", ".join(plan.documents) or "nothing"
            raise UsageError(
                f"The restore was planned for {plural(plan.shards, 'shard')} of {labels}",
                next_step="Give every job of a run the same --shards and the same documents.",
            )
        keep(target.store, around, named)
        return plan
    raise FailedError(
        f"This run has no plan of a restore of {backup_id} into {target.space} any more: another restore has replaced "
        f"{target.space} since, or it is older than a day",
        state="This job changed nothing. Documents that shards have added are there; nothing refers to them.",
        next_step="Start the restore again as a whole (`Re-run all jobs`): what was added is found again.",
    )


def keep(store: Store, around: Surroundings, backup_id: BackupId) -> None:
    """Let no purge sweep, for a day from now, what the backup under way has copied or counts on."""
    store.pins.put(backup_id, by=around.who, seconds=PIN_SECONDS, token=PIN)


def forget(store: Store, backup_id: BackupId) -> None:
    """The backup is complete, or given up: remove what its stages left for each other."""
    folder = f"{layout.BACKUPS}{backup_id}/"
    everything = backup_id.kind == "pre-restore"  # a folder of a restore's stages: no backup gets this id
    left = [found.key for found in store.bucket.list(folder) if everything or _is_ours(found.key.removeprefix(folder))]
    store.bucket.delete_many(sorted(left, reverse=True))  # the plan first: without it the rest means nothing
    store.pins.remove(backup_id, PIN)


def _is_ours(name: str) -> bool:
    return name.startswith(("sharded.json", "part-")) or ".part-" in name


def under_way(pinned: Iterable[BackupId], complete: Iterable[BackupId]) -> list[BackupId]:
    """The sharded backups that are between two stages: what is pinned and is not in the catalog."""
    return sorted(set(pinned).difference(complete))


def give_up_restores(store: Store) -> None:
    """Before a restore is planned: an earlier one of which the last stage never came. As ``give_up_all``."""
    for backup_id in under_way(store.pins.active(), store.catalog.ids()):
        if backup_id.kind == "pre-restore":
            log.warning("A restore of which only some shards are done is given up")
            forget(store, backup_id)


def give_up_all(store: Store, but: str = "") -> list[BackupId]:
    """Before a restore changes the space: what is copied from now on is not what a planned backup's database refers to,
    and what another restore's shards have added is not what is there then.

    Call it under the space's exclusive lock: no stage is at work then, and the next one finds no plan. ``but`` is the
    plan of the restore that calls.
    """
    found = [one for one in under_way(store.pins.active(), store.catalog.ids()) if str(one) != but]
    for backup_id in found:
        forget(store, backup_id)
    return found
