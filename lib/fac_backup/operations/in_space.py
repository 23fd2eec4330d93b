"""Operations in ``mode: task``: decided here, on the runner; done in a container of the app (docs/cloud-gov.md).

What needs the database runs as a task. What needs the store alone (list, purge, hold, verifying objects) runs here,
with a key to the backups bucket that lives as long as the operation.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fac_backup.documents.listing import Listing
from fac_backup.operations import gate, opening, own_sql, views
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain import errors
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import ActNowError, FacBackupError, FailedError, IntegrityError, UsageError
from fac_backup.plain.locations import BucketAddress
from fac_backup.plain.text import plural, verb
from fac_backup.policy.authorization import FirstAttempt
from fac_backup.report.views import CheckRow, Fact, Outcome
from fac_backup.store import layout
from fac_backup.store.bucket import Bucket
from fac_backup.store.catalog import Catalog
from fac_backup.store.pieces import Pieces
from fac_backup.store.store import Store

if TYPE_CHECKING:
    from fac_backup.hosting.cloudfoundry.errors import LeftBehindError
    from fac_backup.hosting.cloudfoundry.handover import Listed
    from fac_backup.hosting.cloudfoundry.space import Order, Settings, Source
    from fac_backup.operations.backup import BackupRequest
    from fac_backup.operations.restore import RestoreRequest
    from fac_backup.operations.verify import VerifyRequest

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[3]


def wanted(env: Mapping[str, str]) -> bool:
    """Whether operations are asked to run inside the app. Raises UsageError for a mode that does not exist."""
    mode = env.get("FAC_BACKUP_MODE") or "direct"
    if mode not in ("direct", "task"):
        raise UsageError(f"There is no mode {mode[:20]!r}", next_step="It is direct or task (docs/cloud-gov.md).")
    return mode == "task"


def backup(request: BackupRequest, around: Surroundings) -> Result:
    """``operations.backup.run``, in the mode that is asked for."""
    from fac_backup.operations.backup import run

    if not wanted(around.env):
        return run(request, around)
    space, kind = around.one_space(request.space), request.kind or around.default_kind()
    # The runner chooses the id, so that it knows what to look for if Cloud Foundry loses sight of the task.
    named = BackupId.parse(request.backup_id) if request.backup_id else BackupId.now(space, kind, around.clock())
    gate.admit(gate.Wish("backup", space=space, kind=kind, backup_id=request.backup_id), around)
    words = ["backup", "--space", space, "--kind", kind, "--backup-id", str(named), "--note", request.note]
    if request.range_threshold is not None:
        words += ["--range-threshold", str(request.range_threshold)]
    if request.range_pages is not None:
        words += ["--range-pages", str(request.range_pages)]
    if request.archives:
        raise UsageError(
            "A task makes its archives itself", next_step="Leave `archives` out: `manage_py` in the matrix."
        )
    if request.manage_py and around.inside_actions:
        raise UsageError(
            "No option names a program in a job of Actions", next_step="Set `manage_py` of the space in the matrix."
        )
    for name, value in (("--engine", request.engine), ("--manage-py", request.manage_py)):
        words += [name, value] if value else []

    def ask(bucket: BucketAddress, reason: str) -> int:
        if opening.store_of(around, space, bucket).bucket.head(layout.manifest_key(named)) is not None:
            log.warning("Cloud Foundry does not know how the task ended (%s); the backup is there", reason)
            return 0
        raise FailedError(
            f"The task ended without a backup: {reason}", state="No backup was made.", next_step="Run it again."
        )

    from fac_backup.hosting.cloudfoundry.space import Order

    order = Order("backup", (*words, "--json"), _env(around), _files(around), ask)
    return _run(order, around, space, None, {"backup_id": str(named), "space": space, "kind": kind})


def restore(request: RestoreRequest, around: Surroundings) -> Result:
    """``operations.restore.run``, in the mode that is asked for."""
    from fac_backup.operations.restore import run

    if not wanted(around.env):
        return run(request, around)
    if request.beside or request.only or request.before_swap_sql or request.before_swap_command:
        raise UsageError(
            "--beside, --only, --before-swap-sql and --before-swap-command are not possible in mode: task",
            next_step="Run that inside the space (bin/fac-backup-task), or name `before_swap` in the matrix.",
        )
    around.matrix.space(request.source or request.target), around.matrix.space(request.target)
    _admit_restore(request, around)
    words = ["restore", "--target", request.target, "--confirm", request.target, "--json"]
    for name, value in (("--source", request.source), ("--backup-id", request.backup_id)):
        words += [name, value] if value else []
    words += [name for name, given in (("--dry-run", request.dry_run), ("--resume", request.resume)) if given]

    def ask(bucket: BucketAddress, reason: str) -> int:
        raise _unknown(opening.store_of(around, request.target, bucket), request.target, reason)

    from fac_backup.hosting.cloudfoundry.space import Order

    files = _files(around) | own_sql.carried(request, around)
    order = Order("restore", tuple(words), _env(around), files, ask)
    source = None
    if request.source and request.source != request.target and not request.resume:
        source = _source(around, request.source, BackupId.parse(request.backup_id))
    facts = {"backup_id": request.backup_id, "source": request.source, "target": request.target}
    return _run(order, around, request.target, source, facts)


def verify(request: VerifyRequest, around: Surroundings) -> Result:
    """``operations.verify.run``. In mode: task what needs the space's database runs there, the rest here.

    A rehearsal for which a scratch server is given (``FAC_BACKUP_SCRATCH_DATABASE_URL``) runs here as well.
    """
    from fac_backup.operations.verify import run

    rehearsal = request.level == "restore" and not around.env.get("FAC_BACKUP_SCRATCH_DATABASE_URL")
    if not wanted(around.env) or not (rehearsal or request.live):
        with with_store(around, request.space) as there:
            return run(request, there)
    space = around.one_space(request.space)
    gate.admit(gate.Wish("verify", space=space, backup_id=request.backup_id), around)
    words = ["verify", "--space", space, "--level", request.level, "--json"]
    words += ["--backup-id", request.backup_id] if request.backup_id else []
    words += ["--live"] if request.live else []
    words += ["--max-age-hours", str(request.max_age_hours)] if request.max_age_hours is not None else []
    from fac_backup.hosting.cloudfoundry.space import Order

    order = Order("verify", tuple(words), _env(around), _files(around))
    return _run(order, around, space, None, {"space": space})


@contextmanager
def with_store(around: Surroundings, space: str, *, source: bool = False) -> Iterator[Surroundings]:
    """The world with a key to the store of ``space``, for operations that need nothing else; mode: direct as it is.

    ``source``: the space is the other one of a restore (``_settings``).
    """
    if not wanted(around.env):
        yield around
        return
    from fac_backup.hosting.cloudfoundry.space import reached

    with reached(_settings(around, around.one_space(space), source=source), around.doing) as bucket:
        yield replace(around, env=_with_bucket(around.env, bucket))


def handed_over(around: Surroundings, source: str, target: Store) -> Store | None:
    """Inside a task: the source's store as far as it was handed over, to be read only; None if nothing was.

    Its bucket can list, head, get and stream the objects of one backup (``cloudfoundry.handover.UrlBucket``).
    """
    key = around.env.get("FAC_BACKUP_SOURCE_INDEX", "")
    if not key or around.inside_actions:  # in a job of Actions an earlier step may have set it
        return None
    from fac_backup.hosting.cloudfoundry.handover import opened

    root = replace(target.bucket.address, prefix=target.bucket.address.prefix.removesuffix(f"{target.space}/"))
    store = opening.store_of(around, source, root)
    # The reading parts look at what was handed over; locks, journal and the rest of the source's store are not there.
    store.bucket = cast(Bucket, opened(root, key)).below(f"{source}/")
    store.pieces = Pieces(store.bucket, handed_over=True)
    store.catalog = Catalog(
        store.bucket, source, clock=around.clock, keys=store.keys,
        require_signed=around.matrix.space(source).require_signatures,
    )  # fmt: skip
    return store


# the runner's side


def _run(order: Order, around: Surroundings, space: str, source: Source | None, facts: dict[str, str]) -> Result:
    from fac_backup.hosting.cloudfoundry.errors import LeftBehindError
    from fac_backup.hosting.cloudfoundry.space import run_in_space

    settings = _settings(around, space, task=order.operation)
    try:
        done = run_in_space(order, settings, source)
    except LeftBehindError as left:
        raise _left_behind(left, order.operation, space, facts, settings) from None
    data = {key: value for key, value in done.document.items() if key not in ("operation", "exit_code")}
    if done.exit_code:
        raise _failure(done.exit_code, data, space)
    data = {**facts, **data}
    put_right = [found for found in done.swept if found.removed]
    troubles = tuple(f"{found.what} in {found.space}, left by run {found.run}: {found.trouble}"
                     for found in done.swept if found.trouble)  # fmt: skip
    left_by = tuple(Fact("put right", f"{found.what} in {found.space}, left by run {found.run}") for found in put_right)
    warned = (str(one) for one in data.get("warnings") or ())
    title = "The live tables of {space} were compared with the backup" if data.get("live") else _TITLES[order.operation]
    made = data.get("backup_id") if order.operation == "backup" else data.get("undo_id")
    forms = views.forms_of(str(made), around) if made else ()
    outcome = Outcome(
        order.operation, title.format(space=space), backup_id=str(data.get("backup_id", "")),
        undo_id=str(data.get("undo_id", "")), warnings=(*troubles, *warned), dry_run=bool(data.get("dry_run")),
        facts=(Fact("where", f"as a task of the app in {space}"), *views.facts_of(data), *left_by), forms=forms,
        links=(("Open the restore workflow", around.restore_url),) if forms and around.restore_url else (),
        checks=tuple(CheckRow(str(one["name"]), True, str(one["sentence"])) for one in data.get("checks", ())),
    )  # fmt: skip
    return Result(outcome, data)


_TITLES = {
    "backup": "Backup of {space} is complete",
    "restore": "{space} was restored",
    "verify": "The backup of {space} restores",
}


def _left_behind(
    left: LeftBehindError, operation: str, space: str, facts: dict[str, str], settings: Settings
) -> FacBackupError:
    """What could not be taken away, together with what became of the operation: both must be known."""
    code = left.data.pop("exit_code", None)
    told = f"The {operation} in {space} itself " + {None: "was not done.", 0: "is complete."}.get(code, "failed.")
    # A restore that was done has touched its target: "failed, the target is as before" would be wrong.
    kind = ActNowError if operation == "restore" and code == 0 else FailedError
    after = ""
    if operation == "restore" and code == 0 and settings.restart == "rolling":
        after = (
            f" Then, because {settings.place.app} was not restarted: cf restart {settings.place.app} --strategy rolling"
        )
    error = kind(left.what, state=f"{told} {left.state}", next_step=left.next_step + after)
    error.data.update({**facts, **{k: v for k, v in left.data.items() if k != "operation"}} if code == 0 else facts)
    return error


def _failure(code: int, data: dict[str, Any], space: str) -> FacBackupError:
    kinds = {kind.exit_code: kind for kind in FacBackupError.__subclasses__() if kind.__module__ == errors.__name__}
    line = str(data.pop("error", "")) or f"The operation in {space} failed with exit code {code}; its log is above"
    error = kinds.get(code, FailedError)(line, state="")
    error.data.update(data)
    return error


def _unknown(store: Store, target: str, reason: str) -> FacBackupError:
    if store.journal.unfinished():
        return ActNowError(
            f"The restore into {target} was stopped half-way: {reason}",
            state="The target may be half replaced.",
            next_step=f"Finish it: `fac-backup restore --target {target} --resume --confirm {target}`.",
        )
    return FailedError(
        f"It is unknown how the restore into {target} ended: {reason}",
        state="No restore is unfinished there: it changed nothing, or was done.",
        next_step="`fac-backup list` shows whether a pre-restore backup was made and so how far it came.",
    )


def _admit_restore(request: RestoreRequest, around: Surroundings) -> None:
    wish = gate.Wish(
        "restore", source=request.source, target=request.target, backup_id=request.backup_id, confirm=request.confirm,
        resume=request.resume, dry_run=request.dry_run,
    )  # fmt: skip

    def made_by_this_run() -> bool:
        with with_store(around, request.source, source=request.source != request.target) as there:
            manifest = opening.open_store(there, request.source).catalog.read(BackupId.parse(request.backup_id))
        return manifest.run.url == around.run.url != ""

    def first_attempt() -> FirstAttempt:
        with with_store(around, request.target) as there:
            store = opening.open_store(there, request.target)
            records = [r for r in store.audit.since(around.clock() - timedelta(days=31)) if r.operation == "restore"]
        ours = [record for record in records if record.run == around.run.url]
        for record in ours:
            facts = record.facts
            if facts.get("attempt") == 1:
                failed = all(later.result != "done" for later in ours if later.at >= record.at)
                source, target, named = (str(facts.get(name)) for name in ("source", "target", "backup_id"))
                return FirstAttempt(source, target, named, failed=failed)
        return FirstAttempt(request.source, request.target, "", failed=True)

    gate.admit(wish, around, made_by_this_run=made_by_this_run, first_attempt=first_attempt)


def _source(around: Surroundings, space: str, backup_id: BackupId) -> Source:
    from fac_backup.hosting.cloudfoundry.space import Source

    settings = _settings(around, space, source=True)

    def objects(address: BucketAddress) -> Iterable[Listed]:
        return objects_of(opening.store_of(around, space, address), backup_id)

    def keeping(address: BucketAddress) -> AbstractContextManager[object]:
        return opening.store_of(around, space, address).pins.pinned(backup_id, by=around.who)

    return Source(settings.account, settings.place, objects, keeping)


def objects_of(store: Store, backup_id: BackupId) -> Iterator[Listed]:
    """Every object that a restore of one backup reads, keys with the space before them. Raises IntegrityError.

    Sizes are those that the store has now: a piece may have been compressed anew since the manifest was written.
    """
    from fac_backup.hosting.cloudfoundry.handover import Listed

    manifest = store.catalog.read(backup_id)
    manifest_key = layout.manifest_key(backup_id)
    for key in (layout.FORMAT_KEY, manifest_key, layout.signature_key(manifest_key)):
        head = store.bucket.head(key)
        if head is not None:
            yield Listed(f"{store.space}/{key}", head.size)
    for found in store.bucket.list(f"{layout.BACKUPS}{backup_id}/"):
        yield Listed(f"{store.space}/{found.key}", found.size)
    pieces = {layout.piece_key(piece.sha256) for piece in manifest.pieces()}
    for found in store.bucket.list(layout.OBJECTS):
        if found.key in pieces:
            pieces.discard(found.key)
            yield Listed(f"{store.space}/{found.key}", found.size)
    if pieces:
        raise IntegrityError(
            f"Of the backup {backup_id} {plural(len(pieces), 'piece')} {verb(len(pieces), 'is', 'are')} missing"
        )
    for part in manifest.documents:
        seen: set[bytes] = set()
        for entry in Listing.of(store.bucket, part).entries():
            digest = bytes.fromhex(entry.object)
            if digest not in seen:
                seen.add(digest)
                yield Listed(f"{store.space}/{layout.document_key(part.label, entry.object)}", entry.size)


def _settings(around: Surroundings, space: str, *, task: str = "", source: bool = False) -> Settings:
    """Where ``space`` is and who works there; ``task`` is the operation that runs as a task there, if one does.

    ``source``: it is the other space of a restore, with an account of its own where one is given.
    """
    from fac_backup.hosting.cloudfoundry.login import Account
    from fac_backup.hosting.cloudfoundry.space import Place, Settings
    from fac_backup.hosting.cloudfoundry.tasks import Limits

    given = around.env
    declared, settings = around.matrix.place(space), around.matrix.space(space)
    which = "SOURCE_CF" if source and given.get("FAC_BACKUP_SOURCE_CF_USERNAME") else "CF"
    account = Account(
        given.get(f"FAC_BACKUP_{which}_USERNAME", ""), given.get(f"FAC_BACKUP_{which}_PASSWORD", ""),
        f"{which.lower().replace('_', '-')}-username and {which.lower().replace('_', '-')}-password",
    )  # fmt: skip
    space_name = ("" if source else given.get("FAC_BACKUP_CF_SPACE")) or declared.space or space
    named = {
        "cf-api": given.get("FAC_BACKUP_CF_API") or declared.api,
        "cf-org": given.get("FAC_BACKUP_CF_ORG") or declared.organization,
        "cf-app": given.get("FAC_BACKUP_CF_APP") or declared.app,
        "the backups instance (matrix)": settings.instances.backups,
    }
    for name, value in named.items():
        if not value:
            raise UsageError(
                f"mode: task needs {name} for {space}", next_step="Set it, or `cloud_foundry` in the matrix."
            )
    api, org, app, backups = (str(value) for value in named.values())
    limits = Limits(
        memory_mb=int(given.get("FAC_BACKUP_TASK_MEMORY_MB") or 3072),
        disk_mb=int(given.get("FAC_BACKUP_TASK_DISK_MB") or 7168),
    )
    place = Place(org, str(space_name), app, backups, space, binding=settings.binding)
    common = Settings(
        api, account, place, around.who, limits=limits, mask=_mask if around.inside_actions else _nobody_reads
    )
    if not task:
        return common
    # Inside Actions no variable chooses which program runs in the space: an earlier step may have set it.
    bundles = _bundles({} if around.inside_actions else given, declared.python or "3.12")
    common = replace(common, bundles=bundles, additional=tuple(settings.instances.documents.values()))
    if task != "restore":
        return common
    restart = given.get("FAC_BACKUP_RESTART") or declared.restart or "none"
    if restart not in ("none", "rolling", "stop"):
        raise UsageError(f"There is no restart {restart[:20]!r}", next_step="It is none, rolling or stop.")
    return replace(common, restart=restart, before=declared.before_restore or (), after=declared.after_restore or ())


def _mask(values: Iterable[str]) -> None:
    from fac_backup.hosting.github.commands import mask

    mask(values)


def _nobody_reads(_: Iterable[str]) -> None:
    """Outside Actions there is no log that others read, and no runner that masks."""


def _bundles(env: Mapping[str, str], python: str) -> tuple[Path, ...]:
    """The bundle for that Python beside the program, or named by FAC_BACKUP_BUNDLES; built now where there is none."""
    folder = Path(env.get("FAC_BACKUP_BUNDLES") or ROOT / "dist")
    python = env.get("FAC_BACKUP_TASK_PYTHON") or python
    wanted = f"fac-backup-*-cp{python.replace('.', '')}.pyz"
    builder = ROOT / "tools" / "bundle.py"
    if not list(folder.glob(wanted)) and builder.is_file():
        log.info("Building the bundle for Python %s", python)
        built = subprocess.run(
            [sys.executable, "-I", builder, "--python", python, "--output", folder], check=False, capture_output=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("FAC_BACKUP_")},
        )  # fmt: skip
        if built.returncode:
            raise FailedError("The bundle for the task could not be built", next_step="`make bundle` shows why.")
    return tuple(sorted(folder.glob(wanted))[-1:])


def _env(around: Surroundings) -> dict[str, str]:
    """The task's settings: who runs it, for manifest and audit; the signing key, behind the binding."""
    run = around.run
    told = {"FAC_BACKUP_RUN_ACTOR": run.actor, "FAC_BACKUP_RUN_URL": run.url, "FAC_BACKUP_RUN_WHO": around.who}
    key = around.env.get("FAC_BACKUP_SIGNING_KEY", "")
    return told | ({"FAC_BACKUP_SIGNING_KEY": key} if key.strip() else {})


def _files(around: Surroundings) -> dict[str, str]:
    """The matrix that decided, for the task: JSON is YAML."""
    return {"action-matrix.yml": around.matrix.model_dump_json(by_alias=True, exclude_defaults=True)}


def _with_bucket(env: Mapping[str, str], bucket: BucketAddress) -> dict[str, str]:
    keys = bucket.credentials
    given = {
        "access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key, "region": keys.region,
        "endpoint": keys.endpoint,
    }  # fmt: skip
    return {
        **env, "FAC_BACKUP_BUCKET": f"s3://{bucket.name}/{bucket.prefix}",
        "FAC_BACKUP_BUCKET_CREDENTIALS": json.dumps(given),
    }  # fmt: skip


def sweep(space: str, around: Surroundings) -> Result:
    """Put right what killed runs left in one space, or in all on Cloud Foundry. Exit code 1 if something stays.

    A space that the account cannot see is named and passed over: accounts are given for each space.
    """
    from fac_backup.hosting.cloudfoundry.space import sweep_spaces

    names = [space] if space else [n for n in around.matrix.spaces if around.matrix.space(n).instances.backups]
    for name in names:
        gate.admit(gate.Wish("sweep", space=around.one_space(name)), around)
    rows, troubles = [], []
    for name in names:
        try:
            rows += [replace(found, space=name) for found in sweep_spaces([_settings(around, name)])]
        except FacBackupError as error:
            troubles.append(f"{name}: {error.what}")
    troubles += [f"{found.space}: {found.what}: {found.trouble}" for found in rows if found.trouble]
    facts = tuple(
        Fact(found.what, f"{found.space}: {'put right' if found.removed else found.trouble or 'its run lives'}")
        for found in rows
    )
    removed = sum(found.removed for found in rows)
    title = f"{plural(removed, 'leftover')} put right in {plural(len(names), 'space')}"
    outcome = Outcome("sweep", title, facts=facts, warnings=tuple(troubles))
    data = {
        "removed": [{"what": found.what, "space": found.space, "run": found.run} for found in rows if found.removed],
        "kept": [{"what": found.what, "space": found.space, "run": found.run} for found in rows if not found.removed],
        "troubles": troubles,
    }
    return Result(outcome, data, exit_code=1 if troubles else 0)
