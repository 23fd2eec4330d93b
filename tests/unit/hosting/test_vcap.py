"""What Cloud Foundry binds to a process, read by instance name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fac_backup.hosting.vcap import Services
from fac_backup.plain.errors import UsageError

S3 = {"access_key_id": "AK", "secret_access_key": "hush-hush", "region": "us-gov-west-1", "bucket": "cg-1",
      "endpoint": "s3-fips.us-gov-west-1.amazonaws.com"}  # fmt: skip
RDS = {"db_name": "d", "host": "h", "port": "5432", "username": "u", "password": "p/@:"}
VCAP = json.dumps({
    "s3": [{"name": "backups", "credentials": S3}],
    "aws-rds": [{"name": "a-binding-name", "instance_name": "fac-db", "credentials": RDS}],
    "user-provided": [{"name": "other", "credentials": {}}],
})  # fmt: skip


def test_instances_are_found_under_every_label_by_their_own_name() -> None:
    services = Services.from_env({"VCAP_SERVICES": VCAP})
    assert services.names == ("backups", "fac-db", "other")
    assert services.database_url("fac-db") == "postgresql://u:p%2F%40%3A@h:5432/d"
    bucket = services.bucket("backups", "x")
    assert (bucket.name, bucket.prefix) == ("cg-1", "x/")
    assert bucket.credentials.endpoint == "https://s3-fips.us-gov-west-1.amazonaws.com"
    assert "hush-hush" not in repr(services) + repr(bucket)
    assert {"hush-hush", "p/@:"} <= set(services.secrets())


def test_one_key_for_two_buckets_is_used_for_exactly_the_buckets_that_it_reaches() -> None:
    backups = S3 | {"access_key_id": "AK-of-both", "additional_buckets": ["cg-2"]}
    entries = [{"name": "backups", "credentials": backups}]
    entries += [{"name": f"documents-{n}", "credentials": S3 | {"bucket": f"cg-{n}"}} for n in (2, 3)]
    services = Services.from_env({"VCAP_SERVICES": json.dumps({"s3": entries})})
    reached = [services.reach(f"documents-{n}", by="backups") for n in (2, 3)]
    assert [(one.name, one.credentials.access_key_id) for one in reached] == [("cg-2", "AK-of-both"), ("cg-3", "AK")]
    assert services.reach("documents-2", by="not-bound").credentials.access_key_id == "AK"


def test_the_services_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "services").write_text(VCAP)
    assert Services.from_env({"VCAP_SERVICES_FILE_PATH": str(tmp_path / "services")}).has("backups")
    with pytest.raises(UsageError, match="cannot be read"):
        Services.from_env({"VCAP_SERVICES_FILE_PATH": str(tmp_path / "gone")})


@pytest.mark.parametrize("text", ["[]", "{", '{"s3": [{}]}', '{"s3": 1}'])
def test_malformed_services_are_told_without_quoting_them(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Services.from_json(text)
    assert text not in caught.value.line()


def test_a_missing_or_wrong_instance_names_what_there_is() -> None:
    services = Services.from_json(VCAP)
    with pytest.raises(UsageError, match="bound are: backups, fac-db, other"):
        services.bucket("backup")
    with pytest.raises(UsageError, match="not an S3 bucket"):
        services.bucket("fac-db")
    with pytest.raises(UsageError, match="not a PostgreSQL database"):
        services.database_url("backups")
