"""Credentials as a context: there while the block lasts, refused by S3 afterwards, whatever went wrong."""

from __future__ import annotations

import html
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from fac_backup.hosting.cloudfoundry import s3 as runner_s3
from fac_backup.hosting.cloudfoundry.bindings import Bindings, Patience
from fac_backup.hosting.cloudfoundry.client import App, Client, Instance
from fac_backup.hosting.cloudfoundry.errors import ApiRefusedError, LeftBehindError
from fac_backup.hosting.cloudfoundry.mark import Mark
from fac_backup.plain.errors import ActNowError, FacBackupError, FailedError, LockedError
from fac_backup.plain.locations import BucketAddress
from fac_backup.report.summary import render
from fac_backup.report.views import Failure, Outcome
from tests.support.cloudfoundry import Binding, CloudFoundry, Fault
from tests.support.cloudfoundry.fac import APP, ORG, Fac
from tests.support.cloudfoundry.fixtures import QUICK, client_of, cloud, fac, s3_users  # noqa: F401

CALM = Patience(job=30, accepted=30, other_run=30, release=30)
SHORT = Patience(job=2, accepted=2, other_run=1, release=2)
"""Where the end of patience is what is tested; elsewhere a busy machine must not look like it."""


class Setting:
    """A client, the staging app and its backups instance."""

    def __init__(self, cloud: CloudFoundry, fac: Fac) -> None:  # noqa: F811
        self.cloud, self.fac = cloud, fac
        self.client: Client = client_of(cloud, fac)
        space = self.client.space(ORG, "staging")
        self.app: App = self.client.app(space, APP)
        self.instance: Instance = self.client.instance(space, "backups")

    def bindings(self, run: str = "a run", patience: Patience = CALM, **settings: object) -> Bindings:
        return Bindings(self.client, Mark.of(run), patience=patience, **settings)  # type: ignore[arg-type]


@pytest.fixture
def there(cloud: CloudFoundry, fac: Fac) -> Setting:  # noqa: F811
    return Setting(cloud, fac)


def leave_a_binding(there: Setting) -> None:
    """As a run does that loses its network before it can clean up."""
    with suppress(SystemExit), there.bindings("the dead run").bound(there.instance, there.app):
        there.cloud.faults = [Fault(500, match="DELETE|GET /v3/service_credential", times=999)]
        raise SystemExit
    there.cloud.faults = []


def works(address: BucketAddress) -> bool:
    with suppress(ClientError):
        runner_s3.client_of(address).put_object(Bucket=address.name, Key="probe", Body=b"x")
        return True
    return False


def test_a_binding_works_inside_the_block_and_is_refused_after_it(there: Setting) -> None:
    with there.bindings().bound(there.instance, there.app) as bound:
        address = bound.bucket()
        assert works(address)
        services = there.cloud.world.services_of(there.fac.apps["staging"])
        assert "backups" in [service["name"] for service in services["s3"]]
        assert address.credentials.secret_access_key not in repr(bound)
    assert not works(address)
    assert there.cloud.world.temporary() == []


def test_a_key_works_inside_the_block_and_enters_no_app(there: Setting) -> None:
    with there.bindings().key(there.instance, "read") as bound:
        address = bound.bucket("prefix")
        assert (works(address), address.prefix) == (True, "prefix/")
        assert len(there.cloud.world.services_of(there.fac.apps["staging"])["s3"]) == 2
    assert not works(address)
    assert there.cloud.world.temporary() == []


@pytest.mark.parametrize("error", [ActNowError("x"), RuntimeError("x"), KeyboardInterrupt()])
def test_the_binding_is_taken_away_when_the_block_fails(there: Setting, error: BaseException) -> None:
    with pytest.raises(type(error)), there.bindings().bound(there.instance, there.app):
        raise error
    assert there.cloud.world.temporary() == []


def test_it_waits_until_s3_accepts_new_credentials(there: Setting) -> None:
    there.cloud.broker.accept_after = 0.7
    began = time.monotonic()
    with there.bindings().bound(there.instance, there.app) as bound:
        assert works(bound.bucket())
    assert time.monotonic() - began > 0.6


def test_credentials_that_are_refused_for_20_seconds_are_waited_for_by_default(there: Setting) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    client = client_of(there.cloud, there.fac, replace(QUICK, sleep=sleep, clock=lambda: now[0]))
    bindings = Bindings(client, Mark.of("a run"), probe=lambda address: now[0] >= 20 and works(address))
    with bindings.key(there.instance, "read") as bound:
        assert works(bound.bucket())
    assert now[0] >= 20


def test_credentials_that_stay_refused_end_in_a_sentence_and_leave_nothing(there: Setting) -> None:
    there.cloud.broker.accept_after = 60
    with (
        pytest.raises(FailedError, match="still refuses the new credentials of backups"),
        there.bindings(patience=SHORT).bound(there.instance, there.app),
    ):
        pass
    assert there.cloud.world.temporary() == []


def test_a_binding_job_that_fails_says_the_brokers_words_and_leaves_nothing(there: Setting) -> None:
    there.cloud.broker.fail_bind = ["the broker is on fire"]
    with pytest.raises(FailedError, match="the broker is on fire"), there.bindings().bound(there.instance, there.app):
        pass
    assert there.cloud.world.temporary() == []


def test_a_binding_job_that_succeeds_after_we_gave_up_is_taken_away_all_the_same(there: Setting) -> None:
    there.cloud.broker.hang_bind.clear()
    threading.Timer(3, there.cloud.broker.hang_bind.set).start()
    bindings = there.bindings(patience=Patience(job=2, release=30))
    with pytest.raises(FacBackupError, match="was not over after"), bindings.bound(there.instance, there.app):
        pass
    assert there.cloud.world.temporary() == []


def test_a_binding_job_that_hangs_is_reported_with_the_command_to_type(there: Setting) -> None:
    there.cloud.broker.hang_bind.clear()
    with (
        pytest.raises(FacBackupError, match="was not over after") as caught,
        there.bindings(patience=SHORT).bound(there.instance, there.app),
    ):
        pass
    assert f"cf unbind-service {APP} backups" in caught.value.line()
    there.cloud.broker.hang_bind.set()


def test_a_permanent_binding_is_refused_by_ephemeral_and_never_removed(there: Setting) -> None:
    world = there.cloud.world
    permanent = Binding(None, "app", there.fac.instances["staging"]["backups"], there.fac.apps["staging"])
    permanent.state, permanent.credentials = "succeeded", {"bucket": "x"}
    world.bindings.append(permanent)
    with pytest.raises(FailedError, match="already bound") as caught, there.bindings().bound(there.instance, there.app):
        pass
    assert 'Delete the line "- backups"' in caught.value.line()
    assert permanent in world.bindings


def test_existing_uses_a_permanent_binding_warns_and_leaves_it(
    there: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    permanent = Binding(None, "app", there.fac.instances["staging"]["backups"], there.fac.apps["staging"])
    permanent.state, permanent.credentials = "succeeded", there.cloud.broker.bind(permanent)
    there.cloud.world.bindings.append(permanent)
    with there.bindings().bound(there.instance, there.app, mode="existing") as bound:
        assert works(bound.bucket())
    assert works(bound.bucket())
    assert '"- backups"' in caplog.text


def test_existing_without_a_binding_says_what_to_set(there: Setting) -> None:
    with (
        pytest.raises(FailedError, match="binding: existing"),
        there.bindings().bound(there.instance, there.app, mode="existing"),
    ):
        pass


def test_what_a_dead_run_left_is_taken_over_at_once_when_its_run_is_known_to_be_over(there: Setting) -> None:
    leave_a_binding(there)
    assert len(there.cloud.world.temporary()) == 1
    with there.bindings("next", alive=lambda run: False).bound(there.instance, there.app) as bound:
        assert works(bound.bucket())
    assert there.cloud.world.temporary() == []


def test_a_living_runs_binding_is_waited_for_and_then_reported(there: Setting) -> None:
    with there.bindings("first").bound(there.instance, there.app) as bound:
        second = there.bindings("second", SHORT).bound(there.instance, there.app)
        with pytest.raises(LockedError, match="run first-"), second:
            pass
        assert works(bound.bucket())


def test_two_runs_at_once_both_get_their_turn(there: Setting) -> None:
    done: list[str] = []

    def run(name: str) -> None:
        client = client_of(there.cloud, there.fac)
        bindings = Bindings(client, Mark.of(name), patience=CALM)
        with bindings.bound(there.instance, there.app) as bound:
            assert works(bound.bucket())
            time.sleep(0.2)
            done.append(name)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(done) == ["one", "three", "two"]
    assert there.cloud.world.temporary() == []


def test_a_lease_that_has_passed_counts_as_a_dead_run(there: Setting) -> None:
    leave_a_binding(there)
    later = there.bindings("next", now=lambda: datetime.now(UTC) + timedelta(minutes=16))
    with later.bound(there.instance, there.app) as bound:
        assert works(bound.bucket())


@pytest.mark.parametrize("what", [500, "drop", "drop after"])
def test_a_post_whose_answer_is_lost_ends_with_one_binding(there: Setting, what: int | str) -> None:
    there.cloud.faults = [Fault(what, match="POST /v3/service_credential")]
    with there.bindings().bound(there.instance, there.app) as bound:
        assert works(bound.bucket())
        assert len(there.cloud.world.temporary()) == 1
    assert there.cloud.world.temporary() == []


def test_an_instance_that_is_busy_for_a_moment_is_waited_for(there: Setting) -> None:
    there.fac.instances["staging"]["backups"].busy_until = time.monotonic() + 0.5
    with there.bindings().bound(there.instance, there.app) as bound:
        assert works(bound.bucket())
        there.fac.instances["staging"]["backups"].busy_until = time.monotonic() + 0.5
    assert there.cloud.world.temporary() == []


def test_an_instance_that_is_free_again_when_we_look_why_we_were_refused_is_bound(there: Setting) -> None:
    backups = there.fac.instances["staging"]["backups"]

    def free(_: int) -> None:
        backups.busy_until = 0

    backups.busy_until = time.monotonic() + 999
    there.cloud.faults = [Fault(free, match=f"GET /v3/service_instances/{backups.guid}")]
    with there.bindings().bound(there.instance, there.app) as bound:
        assert works(bound.bucket())


def test_a_refusal_that_nothing_explains_is_asked_for_three_times_and_then_reported(there: Setting) -> None:
    with there.bindings("another").key(there.instance, "read"):  # another run's key explains nothing
        there.cloud.faults = [Fault(422, match="POST /v3/service_credential_bindings", times=999)]
        there.cloud.calls.clear()
        with (
            pytest.raises(ApiRefusedError, match=r"refused \(422"),
            there.bindings().key(there.instance, "read"),
        ):
            pass
        assert there.cloud.calls.count("POST /v3/service_credential_bindings") == 3
        there.cloud.faults = []


def other_bindings(there: Setting) -> Binding:
    """A binding between the same two that somebody else made."""
    theirs = Binding(None, "app", there.fac.instances["staging"]["backups"], there.fac.apps["staging"])
    there.cloud.world.bindings.append(theirs)
    return theirs


@pytest.mark.parametrize("operation", ["create", "delete"])
@pytest.mark.parametrize("state", ["in progress", "succeeded", "failed"])
def test_what_somebody_else_has_bound_or_unbinds_is_told_apart_by_its_state(
    there: Setting, operation: str, state: str
) -> None:
    theirs = other_bindings(there)
    theirs.operation, theirs.state = operation, state
    if (operation, state) == ("create", "failed"):  # an attempt that came to nothing: ours replaces it
        with there.bindings().bound(there.instance, there.app) as bound:
            assert works(bound.bucket())
    else:
        with (
            pytest.raises(FailedError, match="is already bound to gsa-fac in staging, and not by us"),
            there.bindings().bound(there.instance, there.app),
        ):
            pass
        assert theirs in there.cloud.world.bindings
    assert there.cloud.world.temporary() == []


@pytest.mark.parametrize("reason", ["spaces", "app", "instance", "user-provided", "name"])
def test_every_other_reason_of_a_422_ends_in_cloud_foundrys_words(there: Setting, reason: str) -> None:
    instance, app, words = there.instance, there.app, ""
    if reason == "spaces":
        instance = there.client.instance(there.client.space(ORG, "production"), "backups")
        words = "in different spaces"
    elif reason == "app":
        app, words = replace(app, guid="0" * 8 + app.guid[8:]), "The app could not be found"
    elif reason == "instance":
        instance = replace(instance, guid="0" * 8 + instance.guid[8:])
        words = "Service instance not found"
    elif reason == "user-provided":
        there.cloud.world.instance(there.fac.spaces["staging"], "theirs", "user-provided")
        instance, words = there.client.instance(app.space, "theirs"), "not supported for user-provided"
    else:
        key = Binding("fac-backup-read-me", "key", there.fac.instances["staging"]["backups"], None, state="succeeded")
        there.cloud.world.bindings.append(key)
        words = "Key binding names must be unique"
    bindings = Bindings(there.client, Mark("me"))
    block = bindings.key(instance, "read") if reason in ("name", "user-provided") else bindings.bound(instance, app)
    with pytest.raises(ApiRefusedError, match=words), block:
        pass
    assert there.cloud.world.temporary() == []


def test_an_unbind_that_fails_twice_is_tried_again(there: Setting) -> None:
    there.cloud.broker.fail_unbind = ["no", "no"]
    with there.bindings().bound(there.instance, there.app):
        pass
    assert there.cloud.world.temporary() == []


def test_an_unbind_that_keeps_failing_is_red_and_says_what_to_type(there: Setting) -> None:
    there.cloud.broker.fail_unbind = ["no"] * 50
    with pytest.raises(LeftBehindError) as caught, there.bindings().bound(there.instance, there.app):
        pass
    summary = html.unescape(render(Outcome("backup", "x", failure=Failure.of(caught.value))))
    assert f"cf unbind-service {APP} backups" in summary
    assert caught.value.commands == (f"cf target -o {ORG} -s staging", f"cf unbind-service {APP} backups")
    there.cloud.broker.fail_unbind = []
    with there.bindings("next", alive=lambda run: False).bound(there.instance, there.app):
        pass  # the delete that failed blocks binding until it is deleted again
    assert there.cloud.world.temporary() == []


def test_additional_buckets_are_reached_where_the_space_owns_the_instance(there: Setting) -> None:
    with there.bindings().bound(there.instance, there.app, additional=["fac-public-s3"]) as bound:
        other = there.fac.instances["staging"]["fac-public-s3"].bucket
        assert works(runner_s3.address_of(bound.credentials, bucket=other))


def test_a_broker_that_ignores_additional_instances_or_fails_over_them_costs_speed_only(
    there: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    there.cloud.broker.knows_additional = False
    with there.bindings().bound(there.instance, there.app, additional=["fac-public-s3"]) as bound:
        assert works(bound.bucket())
    assert "reaches 0 of 1 documents buckets" in caplog.text
    there.cloud.broker.knows_additional = True
    with there.bindings().bound(there.instance, there.app, additional=["of-no-such-name"]) as bound:
        assert works(bound.bucket())
    assert "it is asked for without additional instances" in caplog.text
    assert there.cloud.world.temporary() == []


def test_additional_buckets_of_a_shared_instance_are_refused(there: Setting) -> None:
    production = there.fac.instances["production"]["backups"]
    production.name = "production-backups"
    production.shared_into.append(there.fac.spaces["staging"])
    shared = there.client.instance(there.app.space, "production-backups")
    with (
        pytest.raises(FailedError, match="shared into staging"),
        there.bindings().bound(shared, there.app, additional=["fac-public-s3"]),
    ):
        pass


def test_every_secret_is_masked_before_its_first_use(there: Setting) -> None:
    masked: list[str] = []
    with there.bindings(mask=masked.extend).bound(there.instance, there.app) as bound:
        told = {bound.credentials[key] for key in ("access_key_id", "secret_access_key", "uri")}
    assert told <= set(masked)


def test_renewing_moves_the_lease(there: Setting) -> None:
    moments = iter(datetime(2026, 11, 22, 20, minute, tzinfo=UTC) for minute in range(0, 60, 10))
    bindings = there.bindings(now=lambda: next(moments))
    with bindings.bound(there.instance, there.app) as bound:
        before = dict(there.cloud.world.bindings[-1].labels)
        bindings.renew(bound)
        assert there.cloud.world.bindings[-1].labels["fac-backup-until"] > before["fac-backup-until"]
