"""Unlock: show who holds the locks of a store; break the lock of one that is surely dead."""

from __future__ import annotations

from fac_backup.operations import gate, opening
from fac_backup.operations.result import Result
from fac_backup.operations.surroundings import Surroundings
from fac_backup.plain.errors import UsageError
from fac_backup.plain.manifest import utc_text
from fac_backup.plain.text import plural, verb
from fac_backup.report.views import Fact, Outcome
from fac_backup.store.locks import Holder, Name

LOCKS: tuple[Name, ...] = ("store", "space")


def run(space: str, owner: str, confirm: str, around: Surroundings) -> Result:
    """1. show the holders;  2. with an owner: may this run;  3. break exactly that one's locks;  4. audit."""
    space = around.one_space(space)
    store = opening.open_store(around, space)
    if owner:
        gate.admit(gate.Wish("unlock", space=space, confirm=confirm), around)
    else:
        gate.admit(gate.Wish("list", space=space), around)
    store.bucket.check()  # one that is not there has no locks either, and is not what was meant
    held: list[tuple[Name, Holder, bool]] = []
    for name in LOCKS:
        dead = {holder.token for holder in store.locks.expired(name)}
        held += [(name, holder, holder.token in dead) for holder in store.locks.holders(name)]
    broken = 0
    if owner:
        matching = [(name, holder) for name, holder, _ in held if owner in (holder.token, holder.owner)]
        if not matching:
            raise UsageError(
                f"Nobody called so holds a lock of {space}",
                next_step="`fac-backup unlock` without --owner shows who does; give the name or the token.",
            )
        for name, holder in matching:
            broken += store.locks.break_lock(name, holder.token)
        store.audit.record("unlock", "done", actor=around.run.actor, run=around.run.url, facts={"locks": broken})
    facts = tuple(
        Fact(
            f"{name}, {holder.mode}",
            f"{holder.owner}, since {utc_text(holder.since)}, {'lease run out' if dead else 'lease alive'}, "
            f"token {holder.token}",
        )
        for name, holder, dead in held
    )
    title = (
        f"{plural(broken, 'lock')} of {space} {verb(broken, 'was', 'were')} broken"
        if owner
        else f"{plural(len(held), 'lock')} of {space} {verb(len(held), 'is', 'are')} held"
    )
    data = {
        "space": space, "broken": broken,
        "holders": [
            {"lock": name, "mode": holder.mode, "owner": holder.owner, "since": holder.since.isoformat(),
             "expired": dead, "token": holder.token}
            for name, holder, dead in held
        ],
    }  # fmt: skip
    steps = (
        ("One whose lease is alive still works: find its run before you break its lock.",) if held and not owner else ()
    )
    return Result(Outcome("unlock", title, facts=facts, next_steps=steps), data)
