"""The client against the strict stand-in: logins, lookups, retries."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fac_backup.hosting.cloudfoundry.client import Client
from fac_backup.hosting.cloudfoundry.errors import ApiRefusedError, UncertainError, UnreachableError
from fac_backup.hosting.cloudfoundry.http import Pace, same_platform
from fac_backup.hosting.cloudfoundry.login import Account
from fac_backup.plain.errors import FacBackupError, UsageError
from tests.support.cloudfoundry import App, CloudFoundry, Fault
from tests.support.cloudfoundry.fac import APP, ORG, Fac, build

QUICK = Pace(first_wait=0.001, longest_wait=0.01, poll_first=0.01, poll_longest=0.05, read=2, connect=2)


@pytest.fixture
def cloud() -> Iterator[CloudFoundry]:
    with CloudFoundry() as running:
        yield running


@pytest.fixture
def fac(cloud: CloudFoundry) -> Fac:
    return build(cloud, None, None, ("production", "staging"))


def client_of(cloud: CloudFoundry, fac: Fac, *, password: str = "", pace: Pace = QUICK) -> Client:
    return Client(cloud.address, Account(fac.user.name or "", password or fac.user.password), pace)


def test_finds_space_app_and_instance_by_name(cloud: CloudFoundry, fac: Fac) -> None:
    client = client_of(cloud, fac)
    space = client.space(ORG, "staging")
    assert client.app(space, APP).guid == fac.apps["staging"].guid
    instance = client.instance(space, "backups")
    assert (instance.guid, instance.own, instance.managed) == (fac.instances["staging"]["backups"].guid, True, True)


def test_a_wrong_password_names_the_inputs_and_not_the_password(cloud: CloudFoundry, fac: Fac) -> None:
    with pytest.raises(UsageError) as caught:
        client_of(cloud, fac, password="hunter2-wrong").space(ORG, "staging")
    assert "cf-username and cf-password" in caught.value.line()
    assert "hunter2" not in caught.value.line() + repr(caught.value.__cause__)


def test_an_expired_password_says_that_it_lasts_90_days(cloud: CloudFoundry, fac: Fac) -> None:
    fac.user.password_expired = True
    with pytest.raises(UsageError, match="expired") as caught:
        client_of(cloud, fac).space(ORG, "staging")
    assert "90 days" in caught.value.line()


def test_a_missing_secret_says_which_input_arrived_empty(cloud: CloudFoundry) -> None:
    with pytest.raises(UsageError, match="cf-username and cf-password must be given"):
        Client(cloud.address, Account("", ""), QUICK).space(ORG, "staging")


def test_a_token_that_expires_in_the_middle_is_renewed_without_a_new_login(cloud: CloudFoundry, fac: Fac) -> None:
    client = client_of(cloud, fac)
    client.space(ORG, "staging")
    cloud.expire_tokens()
    client.space(ORG, "staging")
    assert cloud.logins == 1


def test_when_the_refresh_token_has_expired_too_it_logs_in_again(cloud: CloudFoundry, fac: Fac) -> None:
    client = client_of(cloud, fac)
    client.space(ORG, "staging")
    cloud.expire_tokens(refresh=True)
    client.space(ORG, "staging")
    assert cloud.logins == 2


@pytest.mark.parametrize(
    ("look", "sentence"),
    [
        (lambda c: c.space("gsa-tts", "staging"), rf"no organization gsa-tts in .*sees: {ORG}"),
        (lambda c: c.space(ORG, "stagin"), rf"no space stagin in organization {ORG}; .*sees: production, staging"),
        (lambda c: c.app(c.space(ORG, "staging"), "fac"), rf"no app fac in space staging; .*sees: {APP}"),
        (lambda c: c.instance(c.space(ORG, "staging"), "backup"), "no service instance backup .*sees: backups, fac-db"),
    ],
)
def test_a_lookup_that_finds_none_says_what_where_and_what_there_is(
    cloud: CloudFoundry, fac: Fac, look: object, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        look(client_of(cloud, fac))  # type: ignore[operator]


def test_two_of_one_name_are_refused(cloud: CloudFoundry, fac: Fac) -> None:
    cloud.world.apps.append(App(APP, fac.spaces["staging"]))
    client = client_of(cloud, fac)
    with pytest.raises(UsageError, match="2 apps named gsa-fac in space staging"):
        client.app(client.space(ORG, "staging"), APP)


def test_lists_are_read_to_the_last_page(cloud: CloudFoundry, fac: Fac) -> None:
    for number in range(450):
        cloud.world.app(fac.spaces["staging"], f"app-{number}")
    client = client_of(cloud, fac)
    found = list(client.resources("/v3/apps", what="x", space_guids=fac.spaces["staging"].guid))
    assert len(found) == 451


def test_an_instance_that_is_shared_into_the_space_is_not_its_own(cloud: CloudFoundry, fac: Fac) -> None:
    shared = cloud.world.instance(fac.spaces["production"], "shared-bucket", shared_into=[fac.spaces["staging"]])
    client = client_of(cloud, fac)
    assert not client.instance(client.space(ORG, "staging"), "shared-bucket").own
    assert shared.space is fac.spaces["production"]


@pytest.mark.parametrize("what", [429, 500, 502, 503, "drop", "drop after"])
def test_reading_survives_a_disturbance_at_every_call(cloud: CloudFoundry, fac: Fac, what: int | str) -> None:
    client_of(cloud, fac).space(ORG, "staging")
    for number in range(1, len(cloud.calls) + 1):
        cloud.faults = [Fault(what, nth=number)]
        assert client_of(cloud, fac).space(ORG, "staging").name == "staging"


def test_an_api_that_stays_down_is_reported_after_bounded_attempts(cloud: CloudFoundry, fac: Fac) -> None:
    client = client_of(cloud, fac)
    client.space(ORG, "staging")
    cloud.calls.clear()
    cloud.faults = [Fault(503, times=1000)]
    with pytest.raises(UnreachableError, match="keeps failing"):
        client.space(ORG, "staging")
    assert len(cloud.calls) == QUICK.attempts


@pytest.mark.parametrize("what", [500, "drop", "drop after"])
def test_a_post_whose_fate_is_unknown_is_not_repeated_blindly(cloud: CloudFoundry, fac: Fac, what: int | str) -> None:
    client = client_of(cloud, fac)
    client.space(ORG, "staging")
    cloud.faults = [Fault(what, match="POST /v3/")]
    with pytest.raises(UncertainError):
        client.request("POST", "/v3/deployments", {}, what="A deployment")
    assert cloud.calls.count("POST /v3/deployments") == 1


def test_a_post_that_was_turned_away_by_the_rate_limit_is_repeated(cloud: CloudFoundry, fac: Fac) -> None:
    client = client_of(cloud, fac)
    cloud.faults = [Fault(429, match="POST /v3/", headers={"Retry-After": "0"})]
    with pytest.raises(ApiRefusedError):
        client.request("POST", "/v3/deployments", {}, what="A deployment")
    assert cloud.calls.count("POST /v3/deployments") == 2


def test_an_api_that_never_answers_costs_a_bounded_time(cloud: CloudFoundry, fac: Fac) -> None:
    pace = Pace(first_wait=0.001, longest_wait=0.01, read=0.1, connect=1, attempts=2)
    cloud.faults = [Fault("hang", times=99, seconds=3)]
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="in time"):
        client_of(cloud, fac, pace=pace).space(ORG, "staging")
    assert time.monotonic() - began < 2


def test_a_role_that_may_only_read_is_told_which_role_it_needs(cloud: CloudFoundry, fac: Fac) -> None:
    fac.user.roles[fac.spaces["staging"].guid] = "auditor"
    client = client_of(cloud, fac)
    app = client.app(client.space(ORG, "staging"), APP)
    with pytest.raises(FacBackupError, match="refused") as caught:
        client.request("POST", f"/v3/apps/{app.guid}/tasks", {"command": "true"}, what="The task")
    assert "Space Developer" in caught.value.line()


def test_a_password_goes_to_no_other_platform() -> None:
    assert same_platform("https://api.fr.cloud.gov", "https://login.fr.cloud.gov")
    assert not same_platform("https://api.fr.cloud.gov", "https://login.evil.gov")
    assert not same_platform("https://api.gov", "https://evil.gov")


@pytest.mark.parametrize("address", ["http://api.fr.cloud.gov", "api.fr.cloud.gov", "https://u:p@api.fr.cloud.gov", ""])
def test_only_https_addresses_are_spoken_to(address: str) -> None:
    with pytest.raises(UsageError):
        Client(address, Account("u", "p"))
