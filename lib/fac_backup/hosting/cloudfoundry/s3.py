"""What the runner itself does in a backups bucket: see whether a key is accepted, leave and fetch an order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from fac_backup.plain.errors import FailedError
from fac_backup.plain.locations import BucketAddress, S3Credentials

_NOT_YET = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "Forbidden"})
ORDER_LIMIT = 256 * 1024 * 1024
"""Bytes of an index of URLs: some 300,000 objects."""


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
