"""Credentials for the backups bucket for as long as a block lasts: taken away after it, whatever happens."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fac_backup.hosting.cloudfoundry import s3
from fac_backup.hosting.cloudfoundry.client import App, Client, Instance
from fac_backup.hosting.cloudfoundry.errors import ApiRefusedError, LeftBehindError, UncertainError, UnreachableError
from fac_backup.hosting.cloudfoundry.mark import Alive, Mark, outlived, run_of
from fac_backup.plain.errors import FacBackupError, FailedError, LockedError, told
from fac_backup.plain.locations import BucketAddress

_log = logging.getLogger(__name__)
_BINDINGS = "/v3/service_credential_bindings"
_SECRET = re.compile(r"key|secret|password|token|uri")


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Patience:
    """How long to wait for what. Seconds."""

    job: float = 300.0
    accepted: float = 120.0
    other_run: float = 1200.0
    """For another run of ours that holds the binding; longer than a lease, so that a dead run's one is taken over."""
    release: float = 300.0


@dataclass(frozen=True)
class Bound:
    """Credentials that hold while the block lasts."""

    guid: str
    made: bool
    """False: they were there before and stay."""
    credentials: Mapping[str, Any] = field(repr=False)

    def bucket(self, prefix: str = "") -> BucketAddress:
        """The backups bucket, with the key to it."""
        return s3.address_of(self.credentials, prefix)


@dataclass(frozen=True)
class Bindings:
    """Makes bindings and keys that carry the mark of one run."""

    client: Client
    mark: Mark
    alive: Alive | None = None
    patience: Patience = Patience()
    now: Callable[[], datetime] = utc_now
    probe: Callable[[BucketAddress], bool] = s3.accepted
    mask: Callable[[Iterable[str]], None] = lambda _: None
    """Told every secret before its first use, so that a job's log cannot show it."""
    later: list[Callable[[], None]] | None = None
    """Where a block fails, the waiting for its release is left here for the end: a cancelled job has ten seconds, in
    which all that it made must be told to go, and may then be killed while it waits."""

    @contextmanager
    def bound(
        self, instance: Instance, app: App, *, mode: str = "ephemeral", additional: Sequence[str] = ()
    ) -> Iterator[Bound]:
        """The instance bound to the app while the block lasts (``ephemeral``), or as it is bound anyway (``existing``).

        ``additional`` names instances of the same space whose buckets the same key should reach, so that S3 copies by
        itself. Where that is refused or ignored, the credentials come without: it is a matter of speed only.
        Raises LockedError if another run holds the binding, LeftBehindError if it could not be taken away again.
        """
        if mode == "existing":
            yield self._existing(instance, app)
            return
        if additional and not instance.own:
            raise FailedError(
                f"{instance.name} is shared into {instance.space.name}: the names of additional instances would be "
                "looked up in the space that owns it, and mean that space's documents",
                next_step="Leave additional instances out for this space.",
            )
        commands = (
            f"cf target -o {app.space.org} -s {app.space.name}",
            f"cf unbind-service {app.name} {instance.name}",
        )
        with self._held(instance, app, None, {"additional_instances": list(additional)} if additional else {},
                        commands) as bound:  # fmt: skip
            got = len(bound.credentials.get("additional_buckets") or [])
            if got != len(additional):  # the broker ignores parameters that it does not know
                _log.warning(
                    "The key of %s reaches %d of %d documents buckets: documents are copied through the task instead",
                    instance.name, got, len(additional),
                )  # fmt: skip
            yield bound

    @contextmanager
    def key(self, instance: Instance, purpose: str) -> Iterator[Bound]:
        """A service key of its own while the block lasts: credentials that enter no app."""
        name = f"fac-backup-{purpose}-{self.mark.run}"
        commands = (f"cf target -o {instance.space.org} -s {instance.space.name}",
                    f"cf delete-service-key {instance.name} {name} -f")  # fmt: skip
        with self._held(instance, None, name, {}, commands) as bound:
            yield bound

    # making

    def _existing(self, instance: Instance, app: App) -> Bound:
        found = [b for b in self._list(instance, app) if not run_of(b) and _created(b)]
        if not found:
            raise FailedError(
                f"{instance.name} is not bound to {app.name}, and the matrix says binding: existing",
                next_step="Bind it, or set `binding: ephemeral` for this space.",
            )
        _log.warning(
            "%s is bound to %s all the time: whoever takes over the app can destroy its backups. Delete the line "
            '"- %s" from the services of its manifest, unbind it, and set `binding: ephemeral`.',
            instance.name, app.name, instance.name,
        )  # fmt: skip
        guid = str(found[0]["guid"])
        return Bound(guid, False, self._credentials(guid, instance))

    @contextmanager
    def _held(
        self,
        instance: Instance,
        app: App | None,
        name: str | None,
        parameters: dict[str, Any],
        commands: tuple[str, ...],
    ) -> Iterator[Bound]:
        what = f"The binding of {instance.name}" if app else f"The key of {instance.name}"
        try:
            guid = self._make(instance, app, name, parameters, what)
            credentials = self._credentials(guid, instance)
            address = s3.address_of(credentials)
            pace = self.client.pace
            s3.wait_until_accepted(address, self.patience.accepted, what=instance.name, sleep=pace.sleep,
                                   clock=pace.clock, probe=self.probe)  # fmt: skip
            yield Bound(guid, True, credentials)
        except BaseException as error:
            failure = error
            if self.later is None:
                self._release_all(instance, app, commands, failure)
            else:
                self._let_go(instance, app)
                self.later.append(lambda: self._release_all(instance, app, commands, failure))
            raise
        self._release_all(instance, app, commands, None)

    def _make(
        self, instance: Instance, app: App | None, name: str | None, parameters: dict[str, Any], what: str
    ) -> str:
        pace = self.client.pace
        deadline, other_deadline = pace.clock() + self.patience.job, pace.clock() + self.patience.other_run
        turn = uncertain = unexplained = 0
        while True:
            wait_for = self._clear_the_way(instance, app, what)
            if not wait_for:
                try:
                    reply = self.client.request(
                        "POST", _BINDINGS, self._body(instance, app, name, parameters), what=what
                    )
                    self.client.wait(reply, what=what, seconds=self.patience.job)
                    return self._mine(instance, app)
                except UncertainError:
                    uncertain += 1
                    if self._find_mine(instance, app):
                        return self._settle(instance, app, what)
                    if uncertain > 2:
                        raise
                except ApiRefusedError as error:
                    # Every refusal is a 422 and only its words differ: look what is there, and decide by that. What was
                    # in the way may be gone when we look, so one that nothing explains is asked for again, twice.
                    explained = self._busy(instance) or (app is not None and bool(self._list(instance, app)))
                    unexplained = 0 if explained else unexplained + 1
                    if error.status != 422 or unexplained > 2 or pace.clock() > deadline:
                        raise
                except UnreachableError:
                    raise
                except FailedError as error:
                    if not parameters:
                        raise
                    _log.warning("%s; it is asked for without additional instances", error.what)
                    parameters = {}
            elif pace.clock() > other_deadline:
                raise LockedError(
                    f"{what}: run {wait_for} holds it",
                    next_step="Run it again when that one is over; `fac-backup sweep` removes what a dead run left.",
                )
            else:
                if turn == 0:
                    _log.info("%s: waiting for run %s, which holds it", what, wait_for)
                deadline = pace.clock() + self.patience.job  # our own time begins when that run is over
            pace.poll(turn)
            turn += 1

    def _clear_the_way(self, instance: Instance, app: App | None, what: str) -> str:
        """Remove what a dead run left between instance and app; the run to wait for, or empty. Raises FailedError."""
        if app is None:
            return ""
        for binding in self._list(instance, app):
            run = run_of(binding)
            if not run:
                if _operation(binding) == ("create", "failed"):
                    continue  # a failed attempt of somebody: a new one replaces it
                raise FailedError(
                    f"{instance.name} is already bound to {app.name} in {app.space.name}, and not by us",
                    next_step=f'Delete the line "- {instance.name}" from the services of its manifest and unbind it, '
                    "or set `binding: existing` for this space.",
                )
            if run == self.mark.run or outlived(binding, self.now(), self.alive):
                self.release(str(binding["guid"]), what=what)
            else:
                return run
        return ""

    def _body(
        self, instance: Instance, app: App | None, name: str | None, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        related = {"service_instance": {"data": {"guid": instance.guid}}}
        if app:
            related["app"] = {"data": {"guid": app.guid}}
        body: dict[str, Any] = {
            "type": "app" if app else "key",
            "relationships": related,
            "metadata": {"labels": self.mark.labels(self.now())},
        }
        if name:  # app bindings stay unnamed: a name would replace the instance's in VCAP_SERVICES
            body["name"] = name
        if parameters:
            body["parameters"] = parameters
        return body

    def _settle(self, instance: Instance, app: App | None, what: str) -> str:
        """Wait for a binding of ours whose POST was not answered."""
        deadline = self.client.pace.clock() + self.patience.job
        turn = 0
        while True:
            mine = self._find_mine(instance, app)
            state = _operation(mine[0]) if mine else ("", "gone")
            if state == ("create", "succeeded"):
                return str(mine[0]["guid"])
            if state[1] in ("failed", "gone") or self.client.pace.clock() > deadline:
                raise FailedError(f"{what} failed ({state[1]})")
            self.client.pace.poll(turn)
            turn += 1

    def _mine(self, instance: Instance, app: App | None) -> str:
        mine = self._find_mine(instance, app)
        if not mine:
            raise FailedError(f"The binding of {instance.name} is gone again", next_step="Run it again.")
        return str(mine[0]["guid"])

    def _find_mine(self, instance: Instance, app: App | None) -> list[dict[str, Any]]:
        return [b for b in self._list(instance, app) if run_of(b) == self.mark.run]

    def _list(self, instance: Instance, app: App | None) -> list[dict[str, Any]]:
        query = {"service_instance_guids": instance.guid, "type": "app" if app else "key"}
        if app:
            query["app_guids"] = app.guid
        return list(self.client.resources(_BINDINGS, what=f"Listing the bindings of {instance.name}", **query))

    def _busy(self, instance: Instance) -> bool:
        shown = self.client.get(f"/v3/service_instances/{instance.guid}", what=f"Looking at {instance.name}")
        return (shown.get("last_operation") or {}).get("state") in ("initial", "in progress")

    def _credentials(self, guid: str, instance: Instance) -> Mapping[str, Any]:
        details = self.client.get(f"{_BINDINGS}/{guid}/details", what=f"Reading the credentials of {instance.name}")
        credentials = details.get("credentials")
        if not isinstance(credentials, dict):
            raise FailedError(f"The binding of {instance.name} has no credentials")
        self.mask(str(value) for key, value in credentials.items() if isinstance(value, str) and _SECRET.search(key))
        return credentials

    # keeping

    def renew(self, bound: Bound) -> None:
        """Say that this run still looks after a binding that it made. Failures do not matter yet: they are logged."""
        if not bound.made:
            return
        body = {"metadata": {"labels": self.mark.labels(self.now())}}
        try:
            self.client.request("PATCH", f"{_BINDINGS}/{bound.guid}", body,
                                what="Renewing the lease of the binding")  # fmt: skip
        except FacBackupError as error:
            _log.warning("%s", error.what)

    # taking away

    def _let_go(self, instance: Instance, app: App | None) -> None:
        """Ask for the end of what this run made, and do not wait. Whoever waits later reports what went wrong."""
        with suppress(FacBackupError):
            for binding in self._find_mine(instance, app):
                self.client.request("DELETE", f"{_BINDINGS}/{binding['guid']}", what="Taking away the binding")

    def _release_all(
        self, instance: Instance, app: App | None, commands: tuple[str, ...], error: BaseException | None
    ) -> None:
        """Take away all that this run made between instance and app, also where the answer to the POST was lost."""
        what = f"The unbinding of {instance.name}"
        try:
            for binding in self._find_mine(instance, app):
                self.release(str(binding["guid"]), what=what)
        except FacBackupError as trouble:
            left = LeftBehindError(
                f"What was bound to {instance.name} could not be taken away: {trouble.what}", commands=commands
            )
            if error is None:
                raise left from None
            _log.error("%s", left.line())
            if failure := told(error):
                failure.next_step = f"{failure.next_step} {left.line()}".strip()

    def release(self, guid: str, *, what: str) -> None:
        """Delete a binding or key and see that it is gone. Raises FacBackupError if it is not, after some attempts."""
        deadline = self.client.pace.clock() + self.patience.release
        failures = turn = 0
        while True:
            try:
                reply = self.client.request("DELETE", f"{_BINDINGS}/{guid}", what=what)
                left = deadline - self.client.pace.clock()
                self.client.wait(reply, what=what, seconds=max(1.0, left))
                if self._gone(guid, what):
                    return
                failures += 1
            except ApiRefusedError as error:
                if error.status == 404:
                    return
                if error.status != 422:
                    raise
                if self.client.pace.clock() > deadline:
                    raise
            except FailedError:
                # A delete that failed leaves the binding as it was, blocking a new one: it wants to be deleted again.
                failures += 1
                if failures > 3 or self.client.pace.clock() > deadline:
                    raise
            if failures > 3:
                raise FailedError(f"{what}: it is still there")
            self.client.pace.poll(turn)
            turn += 1

    def _gone(self, guid: str, what: str) -> bool:
        try:
            self.client.get(f"{_BINDINGS}/{guid}", what=what)
        except ApiRefusedError as error:
            if error.status == 404:
                return True
            raise
        return False


def _operation(binding: Mapping[str, Any]) -> tuple[str, str]:
    last = binding.get("last_operation") or {}
    return str(last.get("type")), str(last.get("state"))


def _created(binding: Mapping[str, Any]) -> bool:
    return _operation(binding) == ("create", "succeeded") or binding.get("last_operation") is None
