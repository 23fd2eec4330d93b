"""Fixtures of the Cloud Foundry tests; import the ones that a test module needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fac_backup.hosting.cloudfoundry.client import Client
from fac_backup.hosting.cloudfoundry.http import Pace
from fac_backup.hosting.cloudfoundry.login import Account
from tests.support.s3 import S3Server

from .broker import can_make_users
from .fac import Fac, build
from .server import CloudFoundry

QUICK = Pace(first_wait=0.001, longest_wait=0.01, poll_first=0.02, poll_longest=0.1, read=5, connect=2)


@pytest.fixture(scope="session")
def s3_users(s3: S3Server) -> Iterator[S3Server]:
    """SeaweedFS that makes users at run time: the session's if it can, else one of its own."""
    if can_make_users(s3):
        yield s3
    else:
        with S3Server() as server:
            yield server


@pytest.fixture
def cloud(s3_users: S3Server) -> Iterator[CloudFoundry]:
    """The stand-in, with real buckets behind its S3 broker."""
    with CloudFoundry(s3_users) as running:
        yield running


@pytest.fixture
def fac(cloud: CloudFoundry, s3_users: S3Server) -> Fac:
    """Production and staging of the FAC, without databases."""
    return build(cloud, s3_users, None, ("production", "staging"))


def client_of(cloud: CloudFoundry, fac: Fac, pace: Pace = QUICK) -> Client:
    """A client that is logged in as the deployer."""
    return Client(cloud.address, Account(fac.user.name or "", fac.user.password), pace)
