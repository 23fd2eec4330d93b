"""Replace a space's database and documents by a backup.

The steps, in order, and the state that a failure leaves at each:

 1. may this run do it                                   nothing was touched
 2. the backup, the target and its markers               nothing was touched
 3. every check that can be made beforehand: the plan    nothing was touched (a dry run ends here)
 4. locks, and a pin in the source's store               nothing was touched
 5. the pre-restore backup of the target: the undo       nothing was touched
 6. the new database is built beside the old, verified   put back: it is dropped; the old one serves all the time
 7. documents that the target lacks are added            put back: they are deleted again
 8. the swap, one transaction                            it happened or it did not; a journal knows that it was near
 9. documents: overwrite and delete                      put back: the old database returns, documents from the undo
10. the end: old database dropped or kept, markers renewed, statistics, audit

In place (no room, or no right to create databases) step 6 only reads every piece, and step 8 is: wipe, fill, verify;
a failure fills it again from the pre-restore backup. Where something cannot be put back the exit code is 7. A killed
restore leaves its journal: ``--resume`` goes on from there, and so does the next restore of the same backup. Any other
begins anew. Each takes a pre-restore backup of what is there when it begins, unless that is a database that was wiped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from fac_backup.operations import (
    backup,
    gate,
    markers,
    opening,
    own_sql,
    restore_database,
    restore_documents,
    restore_kept,
    restore_plan,
    stages,
)
from fac_backup.operations.opening import Opened
from fac_backup.operations.restore_plan import Chosen, RestorePlan
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import (
    STOPPED_THERE,
    ActNowError,
    FacBackupError,
    FailedError,
    IntegrityError,
    LockedError,
    NoSuchBackupError,
    RefusedError,
    Stopped,
    UsageError,
    told,
)
from fac_backup.plain.manifest import Documents, Manifest
from fac_backup.policy.authorization import FirstAttempt, Trouble
from fac_backup.store.locks import Lease
from fac_backup.store.records import JournalEntry
from fac_backup.store.store import Store

log = logging.getLogger(__name__)

LOCK_WAIT = 900.0
"""Seconds to wait for backups of the target, and for a purge of either store, to end."""


UNTOUCHED = frozenset({"begun", "building"})
"""Steps of the journal at which nothing of the target has changed yet."""

HALF_REPLACED = frozenset({"swapping", "swapped", "wiping", "filled"})
"""Steps of the journal from which on the target may be neither what it was nor the backup. Before them the old database
serves, and people may have gone on with it."""

DOCUMENTS_TOO = frozenset({"swapped", "filled"})
"""Those at which documents may have been overwritten or deleted as well."""


@dataclass(frozen=True)
class Prepared:
    """What the shards of this very restore have left: their plan, and listings for the pre-restore backup."""

    plan: str = ""
    listed: tuple[Documents, ...] = ()


@dataclass(frozen=True)
class RestoreRequest:
    """What is asked for, to the letter as it came."""

    source: str
    target: str
    backup_id: str
    confirm: str
    dry_run: bool = False
    resume: bool = False
    beside: str = ""
    only: tuple[str, ...] = ()
    before_swap_sql: str = ""
    before_swap_command: str = ""
    continued: bool = False
    """A later stage of a restore in shards (``sharded_restore``)."""


def run(
    request: RestoreRequest, around: Surroundings, prepare: Callable[[Opened], Prepared] | None = None
) -> Result:  # fmt: skip
    """Carry out the steps above. Raises FacBackupError that says what state things are in.

    ``prepare`` is called once this run may do it and the markers are the target's (``sharded_restore``).
    """
    try:
        return _carried_out(request, around, prepare)
    except Stopped as stopped:
        if stopped.told.state == STOPPED_THERE:  # else it was after the first change, and says what became of that
            stopped.told.state = "The target is as before."
        raise


def _carried_out(
    request: RestoreRequest, around: Surroundings, prepare: Callable[[Opened], Prepared] | None
) -> Result:  # fmt: skip
    began = time.monotonic()
    refuse_nonsense(request, around)
    admission = admit(request, around)
    target = opening.open_space(around, request.target)
    markers.require(target)
    prepared = prepare(target) if prepare is not None else Prepared()
    unfinished = _unfinished(target, request)
    wiped = unfinished is not None and restore_database.is_wiped(unfinished)
    if wiped:
        target.database.write_anyway()  # it is closed for all others
    chosen = restore_plan.choose(around, _what(request, unfinished, around), target)
    own = own_sql.of(request, chosen.manifest, around)
    if request.resume:
        own_sql.require_the_same(unfinished, own)
    if request.beside:
        with locked(target, around), _pinned(chosen, target, around):
            return restore_database.beside_only(request, chosen, target, around, own.before, began)
    # What was wiped in place is filled in place, whatever the role may do by now: no old database is there to serve.
    mode = "in-place" if wiped else restore_plan.mode_of(around, target)
    changed = bool(own.before.digest)
    plan = restore_plan.check(chosen, target, around, mode, admission, changed=changed)
    plan = replace(plan, own_sql=own.facts())
    if request.dry_run:
        return restore_plan.result(plan, chosen, target, around, began)

    restore_plan.tell(plan, around)
    with ExitStack() as stack:
        lease, ours = stack.enter_context(locked(target, around))
        # Until now it may have been the journal of a restore that was running, and has ended since.
        unfinished = _still_unfinished(target, request, unfinished)
        if request.resume:
            own_sql.require_the_same(unfinished, own)
        stack.enter_context(_pinned(chosen, target, around))
        for overtaken in stages.give_up_all(target.store, but=prepared.plan):
            log.warning("%s, of which only some shards are done, is given up", overtaken)
        work = _Work(chosen, target, around, lease, ours, plan, own, prepared.listed)
        work.begin(with_undo=admission.decision.pre_restore or plan.mode == "in-place")
        work.carry_out()
    done = restore_plan.done(plan, chosen, target, work.undo, around, began, work.facts)
    if work.not_after is not None:
        work.not_after.data.update(done.data)
        raise work.not_after
    return done


class _Work:
    """The part of a restore that changes things. Holds what has been reached, and can put it back."""

    def __init__(
        self,
        chosen: Chosen,
        target: Opened,
        around: Surroundings,
        lease: Lease,
        ours: Lease,
        plan: RestorePlan,
        own: own_sql.OwnSql,
        listed: tuple[Documents, ...] = (),
    ) -> None:
        self.chosen = chosen
        self.target = target
        self.around = around
        self.plan = plan
        self.own = own
        self.listed = listed
        self.undo: Manifest | None = None
        self.facts: dict[str, Any] = {}
        self.not_after: ActNowError | None = None
        """That the restore is done, and the SQL after it failed."""
        self._stopped = False
        self.meanwhile = ""
        """The pre-restore backup of what was there when a killed restore was gone on with."""
        self._superseded: JournalEntry | None = None
        """A killed restore that has half replaced the target, and that this one does not go on with."""
        self._leases = (lease, ours)
        self._journal: tuple[JournalEntry, str] | None = None
        self._documents = restore_documents.Documents(chosen, target, around, self._alive)
        self._database = restore_kept.choose(plan.mode, chosen, target, around, own.before)

    # 5 ------------------------------------------------------------------------------------------------------------

    def begin(self, *, with_undo: bool) -> None:
        """Keep what is there in a pre-restore backup, find the one of a killed restore that is gone on with; write the
        journal."""
        journals = self.target.store.journal.unfinished()
        before = [restore_database.as_reached(self.target.database, entry) for entry, _ in journals]
        left = before[-1] if before else None
        goes_on = left is not None and self._goes_on(left)
        wiped = left is not None and restore_database.is_wiped(left)
        data: dict[str, Any] = {}
        step = "begun"
        if goes_on and left is not None:
            # Its undo is the state before it, and so is what is put back if this one fails.
            self._documents.half_replaced(replaced=left.step in DOCUMENTS_TOO)
            data, step = left.data, left.step
        else:
            self._superseded = next((entry for entry in reversed(before) if entry.step in HALF_REPLACED), None)
            self._take_away(left)
        if with_undo and not wiped:
            taken = self._keep_what_is_there(goes_on=goes_on)
            if goes_on:
                self.meanwhile = taken.id
            else:
                self.undo = taken
        data = {
            **data,
            "source": self.chosen.manifest.space,
            "backup_id": self.chosen.manifest.id,
            "undo_id": self.undo.id if self.undo else "",
            "mode": self.plan.mode,
            own_sql.KEY: self.own.before.digest,
        }
        data.update(self._database.remembers(data))
        self._journal = self.target.store.journal.begin("restore", owner=self.around.who, step=step, data=data)
        for entry in before:  # only now: a kill in between must not make a half replaced target look like a whole one
            self.target.store.journal.finish(entry)
        self._audit("begun")

    def _goes_on(self, left: JournalEntry) -> bool:
        """Whether this restore finishes a killed one, whose undo it finds: one of the same backup, with the same SQL
        before the swap, whose database is there; or whatever has wiped the database."""
        if left.step not in HALF_REPLACED:
            return False
        wiped = restore_database.is_wiped(left)
        same = (left.data.get("backup_id"), left.data.get(own_sql.KEY) or "") == (
            self.chosen.manifest.id, self.own.before.digest,
        )  # fmt: skip
        if not wiped and not same:
            return False
        known = str(left.data.get("undo_id") or "")
        try:
            undo = self.target.store.catalog.read(BackupId.parse(known), future_too=True) if known else None
        except (NoSuchBackupError, IntegrityError) as error:
            log.warning("The pre-restore backup of the killed restore is not to be had: %s", error.what)
            if not wiped:
                return False
            undo = None
        if not self._database.takes_up(left.data) and not wiped:
            return False
        self.undo = undo
        return True

    def _keep_what_is_there(self, *, goes_on: bool) -> Manifest:
        of = self.chosen.manifest.id
        note = f"before the unfinished restore of {of} was gone on with" if goes_on else f"before the restore of {of}"
        wanted = backup.BackupRequest(self.target.space, "pre-restore", note)
        taken = backup.take(
            self.target, self.around, wanted, self._leases[0], began=time.monotonic(), listed=self.listed
        )
        log.info("%s is kept as %s", "What is there now" if goes_on else "The state before", taken.id)
        return taken

    def _take_away(self, unfinished: JournalEntry | None) -> None:
        """The documents that a killed restore of this backup had added would come back with the undo."""
        data = unfinished.data if unfinished is not None and unfinished.step == "adding" else {}
        if data.get("undo_id") and data.get("backup_id") == self.chosen.manifest.id:
            self._alive()
            undo_id = BackupId.parse(str(data["undo_id"]))
            self._documents.take_away(self.target.store.catalog.read(undo_id, future_too=True))

    # 6 to 10 ------------------------------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """From the first change to the last. What fails is put back, if it can be."""
        try:
            self._alive()
            self._database.build(self.own.before, self.undo, self._step)
            self._note("adding")
            self._documents.add()
            self._database.replace(self._step)
            self._documents.finish()
        except BaseException as error:
            self._failed(error)
            raise
        self.facts = {**self._database.facts(), **self._documents.facts()}
        self.facts["warnings"] = [*self.facts.get("warnings", ()), *self._told_of_the_killed()]
        self.not_after = self.own.run_after(self.target.database, self.target.space)
        self._close()

    def _told_of_the_killed(self) -> list[str]:
        """What is kept of the states before, where a restore was killed before this one."""
        told = []
        if self.meanwhile:
            told.append(
                "This finished a restore that was killed: the undo is the state before that one. What was there when "
                f"this run began is kept as {self.meanwhile}."
            )
        if self._superseded is not None:
            earlier = str(self._superseded.data.get("undo_id") or "")
            told.append(
                f"A restore of {self._superseded.data.get('backup_id')} was killed before this one, and was not gone on"
                " with." + (f" What was there before it is kept as {earlier}." if earlier else "")
            )
        return told

    def _close(self) -> None:
        """The target is the backup now: what remains must not make a success look like a failure, nor may a signal.

        The journal goes first: should we be killed while the long ones run, the next restore has nothing to go on with.
        """
        how = "done" if self.not_after is None else "done, after_restore failed"
        self._last("write the audit", lambda: self._audit(how))
        self._last("forget the journal", self._forget)
        self._last("renew the markers", lambda: markers.renew(self.target))
        self._last("remove the replaced database and gather statistics", self._database.close, long=True)

    def _last(self, words: str, action: Callable[[], None], *, long: bool = False) -> None:
        """One of the last steps. What it fails with, a signal too, becomes a warning; after a signal no ``long`` one is
        begun."""
        reason = "it was interrupted"
        if not (long and self._stopped):
            try:
                action()
                return
            except Stopped:
                self._stopped = True
            except FacBackupError as error:
                reason = error.what
        log.warning("The restore is done, but it was not possible to %s: %s", words, reason)
        self.facts["warnings"].append(f"It was not possible to {words}: {reason}")

    # when something fails ------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException) -> None:
        """Put back what was changed and say so in ``error``. Raises ActNowError where that cannot be done."""
        known = told(error)
        lost = error if isinstance(error, LockedError) else self._lost_lock()
        if lost is not None:
            # Somebody else may be at work on the target: we must not touch it any more, not even to put it back.
            if self._journal is None or self._journal[0].step in UNTOUCHED:
                raise LockedError(
                    lost.what, state="The target is as before.", next_step="See who restores into it, then run again."
                ) from None
            raise ActNowError(
                f"The restore stopped, because its lock was lost ({lost.what})",
                state=self._database.state(),
                next_step=f"See whether another restore into {self.target.space} runs (`fac-backup unlock`); if none "
                f"does: `fac-backup restore --target {self.target.space} --resume`.",
            ) from None
        log.warning("The restore failed; putting back what it changed")
        try:
            self._put_back()
        except Exception as second:  # whatever it is: nobody may be told that the target is as before
            reason = (
                second if isinstance(second, FacBackupError) else FailedError(f"unexpected {type(second).__name__}")
            )
            with suppress(FacBackupError):
                self._audit("failed, not put back")
            raise self._act_now(known, reason) from None
        if known is not None:
            known.state = " ".join(("The target was put back: it is as before.", *self._left_by_the_killed()))
            known.data.update(self._data())

    def _left_by_the_killed(self) -> list[str]:
        """What "as before" means where a restore was killed before this one."""
        if self.meanwhile:
            return [f"That is: before the restore that was killed; what was there since is kept as {self.meanwhile}."]
        if self._superseded is not None:
            return ["That is: as the restore that was killed has left it, which can still be gone on with (--resume)."]
        return []

    def _put_back(self) -> None:
        if self.undo is None and self._documents.replaced:
            raise FailedError("documents were replaced, and no pre-restore backup was taken")
        if not self._database.put_back(self.undo):
            raise FailedError("there is no pre-restore backup of its database")
        self._documents.put_back(self.undo)
        if self._superseded is not None:
            left = self._superseded
            self.target.store.journal.begin("restore", owner=left.owner, step=left.step, data=left.data)
        self._forget()
        with suppress(FacBackupError):
            self._audit("failed, put back")

    def _act_now(self, first: FacBackupError | None, second: FacBackupError) -> ActNowError:
        what = first.what if first is not None else "an unexpected error"
        again = " with the same SQL or command before the swap" if self.own.by_hand else ""
        undo = f"or undo it with the id {self.undo.id}; " if self.undo else ""
        act = ActNowError(
            f"The restore into {self.target.space} failed half-way ({what}) and could not be put back ({second.what})",
            state=self._database.state(),
            next_step=f"Finish it: `fac-backup restore --target {self.target.space} --resume --confirm "
            f"{self.target.space}`{again}; {undo}docs/operations.md, `exit code 7`.",
        )
        act.data.update(self._data())
        return act

    def _data(self) -> dict[str, Any]:
        return {"backup_id": self.chosen.manifest.id, "undo_id": self.undo.id if self.undo else ""}

    # small things ---------------------------------------------------------------------------------------------------

    def _alive(self) -> None:
        for lease in self._leases:
            lease.check()

    def _lost_lock(self) -> LockedError | None:
        """Whatever failed may have failed because we were paused and another restore has taken over."""
        try:
            self._alive()
        except LockedError as error:
            return error
        return None

    def _note(self, step: str) -> None:
        """As ``_step``, but one that goes on where another was killed stays at the later step."""
        self._alive()
        if self._journal is not None and self._journal[0].step not in HALF_REPLACED:
            self._step(step)

    def _step(self, step: str, data: dict[str, Any] | None = None) -> None:
        """Note in the journal what comes next, between two looks at the leases: the second is the last before it."""
        self._alive()
        if self._journal is not None:
            self._journal = self.target.store.journal.advance(*self._journal, step, data)
        self._alive()

    def _forget(self) -> None:
        if self._journal is not None:
            self.target.store.journal.finish(self._journal[0])
            self._journal = None

    def _audit(self, result: str) -> None:
        run_ = self.around.run
        facts: dict[str, Any] = {**self._data(), "source": self.chosen.manifest.space, "target": self.target.space,
                                 "attempt": self.around.attempt}  # fmt: skip
        self.target.store.audit.record("restore", result, actor=run_.actor, run=run_.url, facts=facts)


# 1 ----------------------------------------------------------------------------------------------------------------


def refuse_nonsense(request: RestoreRequest, around: Surroundings) -> None:
    """Raises UsageError for what contradicts itself, RefusedError where there is no matrix."""
    if not around.has_matrix:
        raise RefusedError(
            "A restore needs a matrix, and there is none",
            state="Nothing was read and nothing was changed.",
            next_step="Add action-matrix.yml: examples/action-matrix.minimal.yml is one of a few lines.",
        )
    if request.resume and (request.backup_id or request.source):
        raise UsageError("--resume takes neither --source nor --backup-id", next_step="The journal knows them.")
    if not request.resume and not (request.source and request.backup_id):
        raise UsageError("Name --source and --backup-id", next_step="`fac-backup list --space SOURCE` shows the ids.")
    if request.only and not request.beside:
        raise UsageError("--only goes with --beside", next_step="A space is restored as a whole, or not at all.")
    own_sql.refuse_inside_actions(request, around)


def admit(request: RestoreRequest, around: Surroundings) -> gate.Admission:
    """Whether this run may do it, with fresh facts. Raises RefusedError."""
    wish = gate.Wish(
        "restore", source=request.source, target=request.target, backup_id=request.backup_id, confirm=request.confirm,
        resume=request.resume, dry_run=request.dry_run, continued=request.continued,
    )  # fmt: skip

    def made_by_this_run() -> bool:
        store = opening.source_store(around, request.source, request.target)
        return store.catalog.read(BackupId.parse(request.backup_id)).run.url == around.run.url != ""

    def first_attempt() -> FirstAttempt | Trouble:
        from datetime import timedelta

        store = opening.open_space(around, request.target).store
        for record in store.audit.since(around.clock() - timedelta(days=31)):
            facts = record.facts
            if record.operation == "restore" and record.run == around.run.url and facts.get("attempt") == 1:
                later = [r for r in store.audit.since(record.at) if r.run == record.run and r.operation == "restore"]
                return FirstAttempt(
                    str(facts.get("source")), str(facts.get("target")), str(facts.get("backup_id")),
                    failed=all(r.result != "done" for r in later),
                )  # fmt: skip
        # Attempt 1 did not come as far as this: it failed before it touched the target, so there is nothing to differ.
        return FirstAttempt(request.source, request.target, "", failed=True)

    return gate.admit(wish, around, made_by_this_run=made_by_this_run, first_attempt=first_attempt)


# 2 ----------------------------------------------------------------------------------------------------------------


def _unfinished(target: Opened, request: RestoreRequest) -> JournalEntry | None:
    """The journal of a restore into the target that was killed, if there is one."""
    found = target.store.journal.unfinished()
    if request.resume and not found:
        raise NoSuchBackupError(
            f"No restore into {request.target} is unfinished", next_step="There is nothing to resume."
        )
    return found[-1][0] if found else None


def _still_unfinished(target: Opened, request: RestoreRequest, known: JournalEntry | None) -> JournalEntry | None:
    """The same, now that nobody else restores into the target. Raises FailedError if that is another one by now."""
    now = _unfinished(target, request)
    if request.resume and now and known and now.data.get("backup_id") != known.data.get("backup_id"):
        raise FailedError(
            "Another restore into this space was left unfinished in the meantime", next_step="Run --resume again."
        )
    return now


def _what(request: RestoreRequest, unfinished: JournalEntry | None, around: Surroundings) -> RestoreRequest:
    """The request, its source and id from the journal where an unfinished restore is resumed."""
    if not request.resume or unfinished is None:
        return request
    source, backup_id = str(unfinished.data.get("source")), str(unfinished.data.get("backup_id"))
    gate.admit_unfinished(source, backup_id, request.target, around)
    return replace(request, source=source, backup_id=backup_id)


# 4 ----------------------------------------------------------------------------------------------------------------


@contextmanager
def locked(target: Opened, around: Surroundings) -> Iterator[tuple[Lease, Lease]]:
    """A restore's two locks: the target's store shared, the space for nobody else. Raises LockedError."""
    with (
        target.store.locks.acquire("store", "shared", wait=around.patience(LOCK_WAIT)) as lease,
        target.store.locks.acquire("space", "exclusive", wait=around.patience(LOCK_WAIT)) as ours,
    ):
        yield lease, ours


@contextmanager
def _pinned(chosen: Chosen, target: Opened, around: Surroundings) -> Iterator[None]:
    """Keep the backup from a purge of its store while we need it: a pin, and no lock, in a store that is not ours."""
    store: Store | None = chosen.store
    if store is None:
        yield
        return
    if store.bucket.address == target.store.bucket.address:
        store.catalog.read(chosen.manifest.backup_id)  # a purge may have removed it while we waited for our locks
        yield
        return
    with store.pins.pinned(chosen.manifest.backup_id, by=around.who):
        wait_for_purge(store)
        store.catalog.read(chosen.manifest.backup_id)  # the purge may have been about to remove it
        yield


def wait_for_purge(store: Store) -> None:
    """A purge that has read the pins before ours was there ends before we rely on the backup."""
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        dead = {holder.token for holder in store.locks.expired("store")}
        busy = [h for h in store.locks.holders("store") if h.mode == "exclusive" and h.token not in dead]
        if not busy:
            return
        if time.monotonic() > deadline:
            raise LockedError(f"A purge of {store.space} does not end", next_step="`fac-backup unlock` shows it.")
        time.sleep(2)
