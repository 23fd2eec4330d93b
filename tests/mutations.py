"""Would the tests notice? For each guarantee, small deliberate breaks of the code, and the quick tests that must fail.

python -m tests.mutations                all of them, in a copy of this tree; a table at the end
python -m tests.mutations 5 7            those of guarantees 5 and 7
python -m tests.mutations --table        nothing is run: the table of docs/guarantees.md

A break is a textual patch: it names a file, what stands there exactly once, and what to put in its place. Each is made
alone in a temporary copy with an interpreter of its own, in which the named tests pass before. Every one of them must
fail by an assertion or an error of the test, not for want of being collected. ``tests/unit/test_mutations.py`` checks,
as part of `make test`, that the patches still apply and that the tests exist.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIB = "lib/fac_backup/"


def named(test: str) -> str:
    """The name of the test alone: without file and parameters."""
    return test.partition("::")[2].partition("[")[0]


@dataclass(frozen=True)
class Mutation:
    """One break."""

    guarantee: int
    """Its number in docs/guarantees.md."""
    what: str
    """What is broken, so that the sentence can stand in a table."""
    file: str
    """Below lib/fac_backup."""
    old: str
    new: str
    tests: tuple[str, ...]
    """``file::test``, below tests/, with or without parameters. Without, one that fails of them is enough."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tests' names alone."""
        return tuple(named(test) for test in self.tests)

    def broken(self, text: str) -> str:
        """The file's text with the break. Raises ValueError if the patch does not apply to it."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: what is to be broken stands there {text.count(self.old)} times, not once")
        return text.replace(self.old, self.new)


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        1, "a reader does not join the exported snapshot", "database/snapshot.py",
        '            cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot_id,))\n', "",
        ("integration/test_dump.py::test_every_table_shows_the_same_moment_while_others_write[18-ranges]",),
    ),
    Mutation(
        1, "documents are listed before the snapshot is taken", "operations/backup.py",
        "            moment.append(around.clock())\n            documents.start()\n\n",
        "            moment.append(around.clock())\n\n        documents.start()\n",
        ("integration/test_moment.py::test_documents_are_listed_after_the_snapshot_so_that_what_it_refers_to_is_there",),
    ),
    Mutation(
        2, "grants are not restored", "database/privileges.py",
        "                cursor.execute(statement.sql)\n", "",
        ("integration/test_load.py::test_grants_to_roles_that_the_target_lacks_are_listed_and_the_others_kept",),
    ),
    Mutation(
        2, "rows are not counted after a restore", "database/loading.py",
        "    if wanted != have:\n", "    if wanted < 0:\n",
        ("integration/test_load.py::test_counts_and_sequences_that_are_not_the_manifests_are_noticed",),
    ),
    Mutation(
        2, "a document that the backup lacks stays", "documents/restore.py",
        "                extra.delete(change.found.key)\n", "                pass\n",
        ("integration/test_documents.py::"
         "test_what_comes_back_has_the_same_bytes_keys_types_and_metadata_and_nothing_else_is_left",),
    ),
    Mutation(
        3, "a backup is committed without a last look at its lease", "store/catalog.py",
        "        if lease is not None:\n            lease.check()\n        try:\n"
        "            self._bucket.put_new(key, data)",
        "        try:\n            self._bucket.put_new(key, data)",
        ("integration/test_store.py::test_nothing_is_committed_without_a_living_lease",),
    ),
    Mutation(
        3, "a backup that slept through a purge stays committed", "store/catalog.py",
        "                self.remove(manifest.backup_id)\n                raise\n", "                raise\n",
        ("integration/test_paused.py::test_a_backup_that_slept_through_a_purge_is_none",),
    ),
    Mutation(
        3, "what a killed backup left is never swept", "store/sweep.py",
        "            return _owner(key) in self._ids\n", "            return True\n",
        ("integration/test_store.py::test_a_sweep_removes_exactly_what_no_backup_needs_and_nothing_young",),
    ),
    Mutation(
        4, "another space's marker in the database is taken for this one's", "database/marker.py",
        "    if marker.space != space:\n", "    if marker.space != marker.space:\n",
        ("integration/test_marker.py::test_what_another_space_has_marked_is_refused",),
    ),
    Mutation(
        4, "another space's marker of documents is taken for this one's", "documents/marker.py",
        "    if found != Marker(space=space, label=label):\n", "    if found is None:\n",
        ("integration/test_documents_places.py::test_documents_are_marked_once_and_nobody_else_can_adopt_them",),
    ),
    Mutation(
        4, "a restore asks for no marker", "operations/restore.py",
        "    markers.require(target)\n", "",
        ("integration/test_cycle.py::test_a_restore_into_what_is_not_marked_or_marked_as_another_space_is_refused",),
    ),
    Mutation(
        5, "a piece's hash is not compared", "store/pieces.py",
        "        if hashlib.sha256(data).hexdigest() != piece.sha256:\n", "        if not data:\n",
        ("integration/test_store.py::test_a_damaged_missing_oversized_or_bombing_piece_is_an_integrity_error",),
    ),
    Mutation(
        5, "a manifest is restored from whoever signed it", "store/catalog.py",
        '            if signature == "invalid" or (self.require_signed and signature != "valid"):\n',
        '            if signature == "unchecked":\n',
        ("integration/test_store.py::test_where_signatures_are_required_only_validly_signed_backups_exist",
         "integration/test_forged.py::test_a_forged_archive_executes_nothing_where_signatures_are_required"),
    ),
    Mutation(
        5, "the swap is two transactions", "database/swap.py",
        '        cursor.execute(f"ALTER DATABASE {quoted(new)} RENAME TO {quoted(name)}")\n',
        '        session.commit()\n        cursor.execute(f"ALTER DATABASE {quoted(new)} RENAME TO {quoted(name)}")\n',
        ("integration/test_swap.py::test_a_session_that_we_may_not_end_fails_the_swap_and_leaves_everything_as_it_was",),
    ),
    Mutation(
        5, "a restore takes the database of a running rehearsal for a leftover", "operations/restore_database.py",
        'if left.role == "new" and not left.in_use:', 'if left.role == "new":',
        ("integration/test_restore_checks.py::"
         "test_a_database_beside_that_a_rehearsal_uses_is_no_leftover_and_is_one_when_its_process_is_gone",),
    ),
    Mutation(
        5, "nobody looks whether the new database's constraints are valid", "database/load.py",
        "sorted(set(not_valid).difference(part.not_valid))", "[]",
        ("integration/test_restore_checks.py::"
         "test_a_constraint_that_is_broken_or_was_not_checked_stops_the_swap",),
    ),
    Mutation(
        5, "putting back deletes what others uploaded meanwhile", "documents/put_back.py",
        "before is not None or restored is None:\n            continue\n        ours = ",
        "before is not None:\n            continue\n        ours = restored is None or ",
        ("integration/test_put_back.py::"
         "test_a_document_uploaded_meanwhile_survives_a_restore_that_fails_before_the_swap",),
    ),
    Mutation(
        5, "an application may write into a restore in place", "operations/restore_database.py",
        "    closed.close(database)\n", "",
        ("integration/test_inplace.py::"
         "test_an_application_that_comes_writes_and_goes_all_the_time_writes_nothing_into_a_restore",),
    ),
    Mutation(
        5, "a journal is believed that a swap was done", "operations/restore_database.py",
        "        if not self._serves():\n            return False\n        self._new", "        self._new",
        ("integration/test_recovery.py::"
         "test_a_forged_journal_that_names_a_kept_database_makes_no_restore_succeed_either",),
    ),
    Mutation(
        5, "a failure without an undo is told as put back", "operations/restore.py",
        "        if self.undo is None and self._documents.replaced:\n", "        if False:\n",
        ("integration/test_recovery.py::"
         "test_without_an_undo_a_failure_after_the_swap_is_not_told_as_put_back",),
    ),
    Mutation(
        6, "a restore takes no pre-restore backup", "policy/authorization.py",
        '        pre_restore=path is None or path.undo == "pre-restore",\n', "        pre_restore=False,\n",
        ("integration/test_cycle.py::"
         "test_a_restore_brings_everything_back_and_its_undo_brings_back_what_it_replaced",),
    ),
    Mutation(
        6, "what people did since a restore was killed is in no backup", "operations/restore.py",
        "        if with_undo and not wiped:\n", "        if with_undo and not wiped and not goes_on:\n",
        ("integration/test_recovery.py::test_going_on_after_the_swap_keeps_what_people_did_since",),
    ),
    Mutation(
        6, "a pre-restore backup may not be put back", "policy/model.py",
        '        return kind == "pre-restore" and bool(self.paths_to(space))\n', "        return False\n",
        ("unit/policy/test_authorization.py::"
         "test_a_pre_restore_backup_is_put_back_by_hand_wherever_a_restore_can_go",),
    ),
    Mutation(
        7, "the newest backup goes by the rule like any other", "policy/retention.py",
        "    if rank == 1:\n", "    if rank == 0:\n",
        ("unit/policy/test_retention.py::test_the_newest_stays_however_old",),
    ),
    Mutation(
        7, "a hold holds nothing", "policy/retention.py",
        "        if backup.held:\n", "        if backup.held and doubt:\n",
        ("unit/policy/test_retention.py::test_a_held_backup_stays_and_still_counts",),
    ),
    Mutation(
        7, "a backup from the future counts", "policy/retention.py",
        "    if backup.future or backup.id.time > now + CLOCK_TOLERANCE:\n", "    if backup.future and False:\n",
        ("unit/policy/test_retention.py::test_a_backup_dated_in_the_future_counts_for_nothing",),
    ),
    Mutation(
        7, "an unsigned backup counts where signatures are required", "store/catalog.py",
        '        return not self.require_signed or entry.signature == "valid"\n', "        return True\n",
        ("integration/test_store.py::test_where_signatures_are_required_only_validly_signed_backups_exist",
         "integration/test_trail.py::test_a_backup_that_went_without_a_signed_tombstone_is_a_gap_and_a_purged_one_is_none"),
    ),
    Mutation(
        7, "any tombstone excuses a missing backup", "store/trail.py",
        "store.keys if store.catalog.require_signed else None", "None",
        ("integration/test_trail.py::test_a_backup_that_went_without_a_signed_tombstone_is_a_gap_and_a_purged_one_is_none",),
    ),
    Mutation(
        7, "a purge signs its tombstones only if it happens to have a key", "operations/opening.py",
        "    if around.matrix.space(space).require_signatures:\n", "    if False:\n",
        ("integration/test_signed_purge.py::"
         "test_where_signatures_are_required_a_purge_signs_its_tombstones_or_removes_nothing",),
    ),
    Mutation(
        8, "only who started a run is checked, not who ran it again", "policy/people.py",
        '    return (("actor", run.actor), ("triggering actor", run.triggering_actor))\n',
        '    return (("actor", run.actor),)\n',
        ("unit/policy/test_authorization.py::test_a_members_run_that_somebody_else_ran_again_is_refused",
         "unit/hosting/test_attacks.py::test_a_members_run_re_run_by_somebody_else_is_theirs"),
    ),
    Mutation(
        8, "the step that works does not decide again", "operations/gate.py",
        "    if not decision.allowed:\n        raise refusal(", "    if not decision.checks:\n        raise refusal(",
        ("unit/hosting/test_attacks.py::test_who_is_no_member_may_not",
         "unit/hosting/test_attacks.py::test_a_wrong_confirmation_is_refused"),
    ),
    Mutation(
        8, "a path that the matrix does not list is taken", "policy/rules.py",
        '        yield Check("path", False, f"The matrix lists no restore {shown}")\n',
        '        yield Check("path", True, f"The matrix lists no restore {shown}")\n',
        ("unit/hosting/test_attacks.py::test_by_hand_only_the_listed_pairs",),
    ),
    Mutation(
        9, "a dead run's lease never ends", "store/locks.py",
        "            return (now - holder.renewed).total_seconds() > limit\n", "            return False\n",
        ("integration/test_store_locks.py::test_a_killed_holder_is_taken_over_after_its_lease_by_one_of_two",),
    ),
    Mutation(
        9, "a rehearsal leaves its database", "operations/verify.py",
        "    finally:\n        scratch.drop(database, name)\n", "    finally:\n        pass\n",
        ("integration/test_cycle.py::test_verify_notices_a_damaged_piece_and_a_missing_document",),
    ),
    Mutation(
        9, "a binding stays when what was done with it fails", "hosting/cloudfoundry/bindings.py",
        "            failure = error\n            if self.later is None:\n"
        "                self._release_all(instance, app, commands, failure)\n",
        "            failure = error\n            if self.later is None:\n                pass\n",
        ("integration/test_cloudfoundry_bindings.py::test_the_binding_is_taken_away_when_the_block_fails",),
    ),
    Mutation(
        10, "pieces are fetched ahead without a bound", "database/feed.py",
        "(len(waiting) < 2 or held + upcoming.size <= room)", "(len(waiting) < 2 or room)",
        ("unit/database/test_load_parts.py::"
         "test_pieces_come_in_order_and_no_more_is_fetched_ahead_than_there_is_room_for",),
    ),
    Mutation(
        10, "what a piece decompresses to has no bound", "store/pieces.py",
        "        if zstandard.get_frame_parameters(packed).content_size == size:\n"
        "            data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size,"
        " allow_extra_data=False)\n"
        "            if len(data) == size:\n",
        "        if packed:\n"
        "            data = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)\n"
        "            if len(data) >= 0:\n",
        ("unit/store/test_pieces.py::test_a_bomb_takes_no_more_memory_than_its_piece_states",),
    ),
    Mutation(
        11, "text from outside may be a workflow command", "plain/text.py",
        '    return _COMMAND.sub(lambda match: match[0][0] + "\\\\", one_line(text, limit))\n',
        "    return one_line(text, limit)\n",
        ("unit/test_text.py::test_a_log_line_is_never_a_command_and_never_two_lines",),
    ),
    Mutation(
        11, "an unexpected error shows its text", "cli/common.py",
        '                f"Unexpected {type(error).__name__} in fac-backup {console.operation}",\n',
        '                f"Unexpected {type(error).__name__} in fac-backup {console.operation}: {error}",\n',
        ("unit/test_command_line.py::test_an_unexpected_error_is_told_by_its_class_for_its_text_may_hold_a_row",),
    ),
    Mutation(
        11, "the password inside an address is not masked", "hosting/github/commands.py",
        '        elif "://" in value:\n            found += url_secrets(value)\n', "",
        ("unit/hosting/test_commands.py::test_secrets_inside_urls_and_json_are_found",),
    ),
)  # fmt: skip


def table() -> str:
    """What docs/guarantees.md shows."""
    rows = [f"| {one.guarantee} | {one.what} | {', '.join(f'`{name}`' for name in one.names)} |" for one in MUTATIONS]
    return "\n".join(["| | break | noticed by |", "|---|---|---|", *rows])


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """A copy of what git knows, with an interpreter whose ``fac_backup`` is the copy's."""
    with tempfile.TemporaryDirectory(prefix="fac-mutations-") as folder:
        copy = Path(folder)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        _interpreter(copy)
        yield copy


def _interpreter(copy: Path) -> None:
    """A virtual environment beside the copy: its own ``lib`` first, then the packages of the one that runs this."""
    ours = Path(sys.prefix)
    made = copy / ".venv"
    (made / "bin").mkdir(parents=True)
    for one in (ours / "bin").iterdir():
        if one.name not in ("python", "fac-backup") and not one.name.startswith("activate"):
            (made / "bin" / one.name).symlink_to(one)
    (made / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    shutil.copy(ours / "pyvenv.cfg", made / "pyvenv.cfg")
    packages = made / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    packages.mkdir(parents=True)
    theirs = sysconfig.get_path("purelib")
    (packages / "0.pth").write_text(f"{copy / 'lib'}\nimport site; site.addsitedir({theirs!r})\n")
    program = made / "bin" / "fac-backup"
    program.write_text(f"#!{made}/bin/python\nfrom fac_backup.cli.main import main\nmain()\n")
    program.chmod(0o755)


def run_tests(copy: Path, tests: Sequence[str], env: dict[str, str]) -> tuple[int, set[str], str]:
    """pytest's exit code in the copy, which of ``tests`` fail, and the end of what it says.

    What cannot be collected has not failed.
    """
    command = [copy / ".venv/bin/python", "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "--no-header"]
    done = subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=copy, env=env, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    failed = re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    names = {*failed, *(re.sub(r"\[.*", "", name) for name in failed)}
    if done.returncode not in (0, 1):
        return done.returncode, set(), (done.stdout + done.stderr)[-2000:]
    return done.returncode, {test for test in tests if f"tests/{test}" in names}, done.stdout[-2000:]


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """The environment of the tests: servers that run already, or some that are started for all of them."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if env.get("FAC_TEST_SERVERS"):
        yield env
        return
    from tests.support.postgres import PostgresServer
    from tests.support.s3 import S3Server
    from tests.support.servers import where

    with ExitStack() as stack, tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        pg18, pg15 = (stack.enter_context(PostgresServer(major)) for major in (18, 15))
        s3 = stack.enter_context(S3Server())
        file.write(where(pg18, pg15, s3))
        file.flush()
        yield {**env, "FAC_TEST_SERVERS": file.name}


def main(arguments: Sequence[str]) -> int:
    """Make every break in turn; 0 if each was noticed by each of its tests."""
    if "--table" in arguments:
        print(table())
        return 0
    chosen = [one for one in MUTATIONS if not arguments or str(one.guarantee) in arguments]
    began = time.monotonic()
    missed = 0
    with servers() as env, copy_of_the_tree() as copy:
        wanted = list(dict.fromkeys(test for one in chosen for test in one.tests))
        code, failed, said = run_tests(copy, wanted, env)
        if code:
            print(f"The tests do not pass as things are:\n{said}")
            return 2
        print(f"{len(wanted)} tests pass unbroken ({time.monotonic() - began:.0f} s)\n", flush=True)
        print("| guarantee | break | noticed by |\n|---|---|---|", flush=True)
        for one in chosen:
            path = copy / LIB / one.file
            whole = path.read_text()
            path.write_text(one.broken(whole))
            try:
                _, failed, said = run_tests(copy, one.tests, env)
            finally:
                path.write_text(whole)
            blind = [test for test in one.tests if test not in failed]
            missed += bool(blind)
            shown = ", ".join(f"`{named(test)}`" for test in one.tests if test in failed)
            if blind:
                shown += f" **NOT noticed by {', '.join(blind)}**"
            print(f"| {one.guarantee} | {one.what} | {shown} |", flush=True)
            if blind:
                print(said, file=sys.stderr, flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} breaks were noticed ({time.monotonic() - began:.0f} s)")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
