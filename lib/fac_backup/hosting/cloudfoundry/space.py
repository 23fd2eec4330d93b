"""One operation inside a space: bound, handed over, run as a task, followed, taken away; see ``run_in_space``."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from fac_backup.hosting.cloudfoundry import s3, tasks
from fac_backup.hosting.cloudfoundry.bindings import Bindings, Patience, utc_now
from fac_backup.hosting.cloudfoundry.client import App, Client, Instance
from fac_backup.hosting.cloudfoundry.command import command
from fac_backup.hosting.cloudfoundry.errors import LeftBehindError
from fac_backup.hosting.cloudfoundry.handover import Handover, Listed
from fac_backup.hosting.cloudfoundry.http import Pace
from fac_backup.hosting.cloudfoundry.login import Account
from fac_backup.hosting.cloudfoundry.mark import Alive, Mark
from fac_backup.hosting.cloudfoundry.restart import Stopped, around
from fac_backup.hosting.cloudfoundry.sweep import Swept, sweep
from fac_backup.hosting.cloudfoundry.tasks import Ended, Limits, Runner
from fac_backup.plain.errors import ActNowError, FacBackupError, FailedError, UsageError
from fac_backup.plain.locations import BucketAddress

_log = logging.getLogger(__name__)
_OWN_CODES = range(8)
"""Exit codes of fac-backup; any other comes from the shell, the container or a signal."""


@dataclass(frozen=True)
class Place:
    """Where on Cloud Foundry a space of the matrix is. ``store`` is the folder of its store in the backups bucket."""

    org: str
    space: str
    app: str
    backups: str
    """Name of the backups instance."""
    store: str
    """``<prefix>/<space>`` of the layout: where order, index and result are left for the task."""
    prefix: str = ""
    binding: str = "ephemeral"


@dataclass(frozen=True)
class Settings:
    """What the runner is given."""

    api: str
    account: Account
    place: Place
    run: str
    """What tells this run from others: repository, run id, attempt."""
    bundles: tuple[Path, ...] = ()
    """Files named ``…-cp312.pyz``; one for the container's Python must be among them."""
    limits: Limits = field(default_factory=Limits)
    restart: str = "none"
    """``none``, ``rolling`` or ``stop``."""
    before: tuple[str, ...] = ()
    """Shell commands that run as tasks before the operation, unbound."""
    after: tuple[str, ...] = ()
    """… and after it succeeded, unbound, before the restart."""
    additional: tuple[str, ...] = ()
    """Instances of documents whose buckets the backups key should reach too, where the app's space owns ``backups``."""
    python: str = "python3"
    mask: Callable[[Iterable[str]], None] = lambda _: None
    """Told every secret before its first use."""
    alive: Alive | None = None
    patience: Patience = field(default_factory=Patience)
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True)
class Source:
    """The space whose backup is restored into another one."""

    account: Account
    place: Place
    objects: Callable[[BucketAddress], Iterable[Listed]]
    """All objects of exactly that backup, listed with the source's key; keys relative to its ``place.prefix``."""
    keeping: Callable[[BucketAddress], AbstractContextManager[object]] = nullcontext
    """A block in which the source's store keeps that backup from a purge."""


@dataclass(frozen=True)
class Order:
    """What the task does."""

    operation: str
    arguments: tuple[str, ...]
    """Of the command line, beginning with the operation; ``--json`` among them gives ``SpaceResult.document``."""
    env: Mapping[str, str] = field(default_factory=dict)
    """FAC_BACKUP_* variables of the task."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text files in the task's working folder, such as ``action-matrix.yml``."""
    when_unknown: Callable[[BucketAddress, str], int] | None = None
    """Asks the store what became of the operation when Cloud Foundry does not know: an exit code, or an error."""


@dataclass(frozen=True)
class SpaceResult:
    """What became of the operation."""

    exit_code: int
    document: Mapping[str, Any]
    swept: tuple[Swept, ...] = ()


INDEX_VARIABLE = "FAC_BACKUP_SOURCE_INDEX"
"""Set for the task: key of the index in the target's bucket (``handover.opened``)."""


def run_in_space(
    order: Order, settings: Settings, source: Source | None = None, on_line: Callable[[str], None] | None = None
) -> SpaceResult:
    """Run the order as a task of the app, with the backups instance bound for just as long.

    Whatever happens (an exception of a signal's handler too), the task is cancelled, the binding and the source's key
    are taken away and seen to be gone, and a stopped app is started again, in this order. Raises FacBackupError; an
    operation that failed by itself in the task is a result with its exit code.
    """
    tell = on_line or (lambda line: _log.info("%s: %s", settings.place.space, line))
    client, app, _ = _find(settings.api, settings.account, settings.place, settings.pace)
    swept = sweep(client, [app.space], utc_now(), settings.alive)
    origin = None
    if source:
        origin = _Origin(source, *_find(settings.api, source.account, source.place, settings.pace))
        swept += sweep(origin.client, [origin.app.space], utc_now(), settings.alive)
    mark = Mark.of(settings.run)
    released: list[SpaceResult] = []

    def labels() -> dict[str, str]:
        return mark.labels(utc_now())

    def replaced() -> bool:
        return bool(released) and released[0].exit_code == 0

    with around(Stopped(client, app, labels), settings.restart, replaced) as keep_stopped:
        ticker = _Ticker(client.pace.clock, [keep_stopped])
        runner = Runner(client, app, mark, labels, settings.limits, ticker)
        _commands(runner, settings.before, "before", tell)
        released.append(_operate(order, settings, origin, runner, ticker, tell))
        if replaced():
            _commands(runner, settings.after, "after", tell)
    return replace(released[0], swept=swept)


@dataclass(frozen=True)
class _Origin:
    given: Source
    client: Client
    app: App
    instance: Instance


@contextmanager
def reached(settings: Settings, purpose: str = "direct") -> Iterator[BucketAddress]:
    """A key to the backups bucket for a runner that reaches database and S3 itself; gone after the block."""
    client, app, instance = _find(settings.api, settings.account, settings.place, settings.pace)
    sweep(client, [app.space], utc_now(), settings.alive)
    bindings = Bindings(client, Mark.of(settings.run), settings.alive, settings.patience, mask=settings.mask)
    with bindings.key(instance, purpose) as bound:
        yield bound.bucket(settings.place.prefix)


def sweep_spaces(settings: Iterable[Settings]) -> tuple[Swept, ...]:
    """Sweep the spaces of all settings, each with its account. Raises FacBackupError if one cannot be looked at."""
    found: list[Swept] = []
    for one in settings:
        client = Client(one.api, one.account, one.pace)
        space = client.space(one.place.org, one.place.space)
        found += sweep(client, [space], utc_now(), one.alive)
    return tuple(found)


def _find(api: str, account: Account, place: Place, pace: Pace) -> tuple[Client, App, Instance]:
    client = Client(api, account, pace)
    space = client.space(place.org, place.space)
    return client, client.app(space, place.app), client.instance(space, place.backups)


def _operate(
    order: Order, settings: Settings, source: _Origin | None, runner: Runner, ticker: _Ticker,
    tell: Callable[[str], None],
) -> SpaceResult:  # fmt: skip
    client, app, mark = runner.client, runner.app, runner.mark
    instance = client.instance(app.space, settings.place.backups)
    folder = f"{settings.place.store}/handover/{mark.run}"
    done: list[SpaceResult] = []
    with _waiting() as later, _told_what_was_done(done), ExitStack() as stack:

        def bindings_of(client: Client) -> Bindings:
            return Bindings(client, mark, settings.alive, settings.patience, mask=settings.mask, later=later)

        bindings = bindings_of(client)
        additional = settings.additional if instance.own else ()
        bound = stack.enter_context(bindings.bound(instance, app, mode=settings.place.binding, additional=additional))
        stack.enter_context(ticker.also(lambda: bindings.renew(bound)))
        bucket = bound.bucket()
        env = dict(order.env)
        _tidy_old(bucket, f"{settings.place.store}/handover/")
        stack.callback(_tidy, bucket, [f"{folder}/{name}" for name in ("order.json", "result.json", "index.zst")])
        if source:
            theirs = bindings_of(source.client)
            key = stack.enter_context(theirs.key(source.instance, "source"))
            stack.enter_context(ticker.also(lambda: theirs.renew(key)))
            address, objects = key.bucket(source.given.place.prefix), source.given.objects
            stack.enter_context(source.given.keeping(address))
            handover = Handover(address, bucket, f"{folder}/index.zst", lambda: objects(address))
            handover.leave()
            stack.enter_context(ticker.also(handover.renew_if_due))
            env[INDEX_VARIABLE] = f"{folder}/index.zst"
        line = _command(order, env, settings, bucket, folder)
        ended = runner.run(line, order.operation, tell)
        done.append(_result(order, ended, bucket, f"{folder}/result.json"))
    return done[0]


@contextmanager
def _waiting() -> Iterator[list[Callable[[], None]]]:
    """Where blocks leave the waiting for what they have told to go; it is done last, after a failure too."""
    later: list[Callable[[], None]] = []
    try:
        yield later
    finally:
        for wait in later:
            wait()


@contextmanager
def _told_what_was_done(done: list[SpaceResult]) -> Iterator[None]:
    """Whoever hears that something was left behind must also hear what became of the operation itself."""
    try:
        yield
    except LeftBehindError as left:
        if done:
            left.data.update({**done[0].document, "exit_code": done[0].exit_code})
        raise


class _Ticker:
    """Renews leases and signatures while tasks run."""

    def __init__(self, clock: Callable[[], float], acts: list[Callable[[], None]]) -> None:
        self._clock, self._acts = clock, acts
        self._last = clock()

    @contextmanager
    def also(self, act: Callable[[], None]) -> Iterator[None]:
        """Do that too, while the block lasts."""
        self._acts.append(act)
        try:
            yield
        finally:
            self._acts.remove(act)

    def __call__(self) -> None:
        if self._clock() - self._last < tasks.RENEW_SECONDS:
            return
        self._last = self._clock()
        for act in self._acts:
            act()


def _command(order: Order, env: Mapping[str, str], settings: Settings, bucket: BucketAddress, folder: str) -> str:
    """Leave bundle and order in the store, and write the command that names them by address and hash."""
    found: dict[str, tuple[str, str]] = {}
    seconds = int(settings.limits.start_seconds + 3600)
    for path in settings.bundles:
        version = re.search(r"-cp3(\d+)\.pyz$", path.name)
        if not version or not path.is_file():
            raise UsageError(f"{path.name} is no bundle", next_step="Build it with `make bundle` (tools/bundle.py).")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        key = f"{settings.place.store}/handover/bundles/{digest}.pyz"
        s3.leave_file(bucket, key, path)
        found[f"3.{version[1]}"] = s3.presign(bucket, key, seconds), digest
    if not found:
        raise UsageError("Task mode needs a bundle of the program", next_step="Build it with `make bundle`.")
    text = json.dumps({
        "arguments": list(order.arguments), "env": dict(env), "files": dict(order.files),
        "result": f"{folder}/result.json",
    }).encode()  # fmt: skip
    s3.leave(bucket, f"{folder}/order.json", text)
    digest = hashlib.sha256(text).hexdigest()
    task = {"instance": settings.place.backups, "key": f"{folder}/order.json", "sha256": digest}
    return command(found, task, settings.python)


def _result(order: Order, ended: Ended, bucket: BucketAddress, key: str) -> SpaceResult:
    raw = s3.fetch(bucket, key)
    if raw is not None:
        left = json.loads(raw)
        return SpaceResult(int(left["exit_code"]), left.get("document") or {})
    if ended.status in _OWN_CODES and ended.status != 0:
        return SpaceResult(int(ended.status or 1), {})
    reason = ended.reason or "it left no result in the store"
    if order.when_unknown:
        return SpaceResult(order.when_unknown(bucket, reason), {})
    kind = ActNowError if order.operation == "restore" else FailedError
    raise kind(
        f"It is unknown how the task ended: {reason}",
        state="The operation may have been done, wholly or partly.",
        next_step="Look at the store: `fac-backup list`, and `fac-backup doctor` for the target of a restore.",
    )


def _commands(runner: Runner, lines: tuple[str, ...], when: str, tell: Callable[[str], None]) -> None:
    for number, line in enumerate(lines, 1):
        ended = runner.run(f"sh -c {shlex.quote(line)}", f"{when}-{number}", tell)
        if ended.status != 0:
            done = "The operation itself was done." if when == "after" else "Nothing was changed."
            raise FailedError(
                f"Command {number} {when} the operation failed ({ended.reason})", state=done,
                next_step="Its lines are in the log above.",
            )  # fmt: skip


def _tidy(bucket: BucketAddress, keys: list[str]) -> None:
    try:
        s3.remove(bucket, *keys)
    except FacBackupError as error:
        _log.warning("What was handed to the task stays in the store until it is swept: %s", error.what)


def _tidy_old(bucket: BucketAddress, prefix: str) -> None:
    """Remove what runs that were killed left in the store; no task lives as long. Bundles in use are younger."""
    try:
        now = utc_now()
        old = [key for key in s3.older_than(bucket, prefix, now - timedelta(days=2)) if "/bundles/" not in key]
        unused = s3.older_than(bucket, f"{prefix}bundles/", now - 4 * s3.FRESH)
        s3.remove(bucket, *old, *unused)
    except FacBackupError as error:
        _log.warning("Old orders in the store could not be removed: %s", error.what)
