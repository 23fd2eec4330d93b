"""What the runner itself does in a backups bucket: see whether a key is accepted, leave and fetch an order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fac_backup.plain.errors import FailedError
from fac_backup.plain.locations import BucketAddress, S3Credentials

_NOT_YET = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "Forbidden"})
ORDER_LIMIT = 256 * 1024 * 1024
"""Bytes of an index of URLs: some 300,000 objects."""


FRESH = timedelta(days=7)
"""How old a bundle in the store may be before it is uploaded again."""


def address_of(credentials: Mapping[str, Any], prefix: str = "", bucket: str = "") -> BucketAddress:
    """The bucket of a binding's credentials, as cloud.gov's S3 broker writes them. Raises FailedError."""
    try:
        key, secret = str(credentials["access_key_id"]), str(credentials["secret_access_key"])
        name = bucket or str(credentials["bucket"])
    except KeyError as missing:
        raise FailedError(
            f"The credentials of the backups instance have no {missing}",
            next_step="The instance must be of the service s3 (docs/cloud-gov.md).",
        ) from None
    endpoint = str(credentials.get("endpoint") or "")
    if endpoint and "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    found = S3Credentials(key, secret, "", str(credentials.get("region") or ""), endpoint)
    return BucketAddress(name, f"{prefix.strip('/')}/" if prefix.strip("/") else "", found)


def client_of(address: BucketAddress) -> Any:
    """A boto3 client that signs with the address's own key."""
    import boto3
    from botocore.config import Config

    keys = address.credentials
    return boto3.client(
        "s3", endpoint_url=keys.endpoint or None, aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key, aws_session_token=keys.session_token or None,
        region_name=keys.region or "us-gov-west-1",
        config=Config(signature_version="s3v4", connect_timeout=10, read_timeout=60, retries={"max_attempts": 4},
                      s3={"addressing_style": "path" if _is_plain(keys.endpoint) else "auto"}),
    )  # fmt: skip


def _is_plain(endpoint: str) -> bool:
    return endpoint.startswith("http://")


def accepted(address: BucketAddress) -> bool:
    """Whether S3 accepts the key now. False while it is unknown yet; other trouble raises FailedError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client_of(address).list_objects_v2(Bucket=address.name, Prefix=address.prefix, MaxKeys=1)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _NOT_YET:
            return False
        raise FailedError(f"The backups bucket answers {code}") from None
    except BotoCoreError as error:
        raise FailedError(
            f"The backups bucket cannot be reached ({type(error).__name__})",
            next_step="S3 must be reachable from this runner (docs/cloud-gov.md, What each mode needs).",
        ) from None
    return True


def wait_until_accepted(
    address: BucketAddress, seconds: float, *, what: str, sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic, probe: Callable[[BucketAddress], bool] = accepted,
) -> None:  # fmt: skip
    """Wait until S3 accepts a new key: IAM takes some seconds. Raises FailedError after ``seconds``."""
    deadline = clock() + seconds
    pause = 0.2
    while not probe(address):
        if clock() > deadline:
            raise FailedError(
                f"S3 still refuses the new credentials of {what} after {seconds:.0f} s",
                next_step="Run it again; if it stays so, ask support@cloud.gov.",
            )
        sleep(pause)
        pause = min(2.0, pause * 1.5)


def leave(address: BucketAddress, key: str, data: bytes) -> None:
    """Store a small object (``key`` relative to the address's prefix). Raises FailedError."""
    _told(lambda: client_of(address).put_object(Bucket=address.name, Key=address.prefix + key, Body=data))


def leave_file(address: BucketAddress, key: str, path: Path) -> None:
    """Store a file unless an object of that size is there, written lately: buckets may expire what is old.

    Raises FailedError.
    """
    found = _about(address, key)
    if found is None or found[0] != path.stat().st_size or found[1] < datetime.now(UTC) - FRESH:
        _told(lambda: client_of(address).upload_file(str(path), address.name, address.prefix + key))


def head(address: BucketAddress, key: str) -> int | None:
    """Bytes of an object, None if it is not there. Raises FailedError."""
    found = _about(address, key)
    return found and found[0]


def _about(address: BucketAddress, key: str) -> tuple[int, datetime] | None:
    from botocore.exceptions import ClientError

    try:
        found = client_of(address).head_object(Bucket=address.name, Key=address.prefix + key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise FailedError(f"The backups bucket answers {error.response['Error'].get('Code')}") from None
    return int(found["ContentLength"]), found["LastModified"]


def fetch(address: BucketAddress, key: str, limit: int = ORDER_LIMIT) -> bytes | None:
    """The object, None if it is not there; at most ``limit`` bytes. Raises FailedError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        body = client_of(address).get_object(Bucket=address.name, Key=address.prefix + key)["Body"]
        data: bytes = body.read(limit + 1)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
            return None
        raise FailedError(f"The backups bucket answers {error.response['Error'].get('Code')}") from None
    except BotoCoreError as error:
        raise FailedError(f"The backups bucket cannot be read ({type(error).__name__})") from None
    if len(data) > limit:
        raise FailedError("An object in the backups bucket is larger than it can be")
    return data


def remove(address: BucketAddress, *keys: str) -> None:
    """Delete objects; those that are not there do not matter. Raises FailedError."""
    client = client_of(address)
    for key in keys:
        _told(lambda key=key: client.delete_object(Bucket=address.name, Key=address.prefix + key))  # type: ignore[misc]


def older_than(address: BucketAddress, prefix: str, moment: datetime) -> list[str]:
    """Keys below ``prefix`` that were written before ``moment``, at most 1,000. Raises FailedError."""
    found: list[str] = []

    def look() -> None:
        where = {"Bucket": address.name, "Prefix": address.prefix + prefix}
        for one in client_of(address).list_objects_v2(**where).get("Contents") or []:
            if one["LastModified"] < moment:
                found.append(str(one["Key"]).removeprefix(address.prefix))

    _told(look)
    return found


def presign(address: BucketAddress, key: str, seconds: int) -> str:
    """An address from which anybody can read the object for so long, and as long as the key that signed it lives."""
    where = {"Bucket": address.name, "Key": address.prefix + key}
    url: str = client_of(address).generate_presigned_url("get_object", Params=where, ExpiresIn=seconds)
    return url


def _told(act: Callable[[], Any]) -> None:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        act()
    except ClientError as error:
        raise FailedError(f"The backups bucket answers {error.response['Error'].get('Code')}") from None
    except (BotoCoreError, Boto3Error) as error:
        raise FailedError(f"The backups bucket cannot be written ({type(error).__name__})") from None
