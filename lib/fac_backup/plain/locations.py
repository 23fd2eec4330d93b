"""Where things are: bucket addresses and credentials, as plain values. ``hosting`` reads the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fac_backup.plain.errors import UsageError

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; SeaweedFS and MinIO keep the same rules.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class S3Credentials:
    """How to sign requests to one bucket. All empty: boto3's own chain (environment, OIDC, instance role).

    The secret parts never appear in ``repr``.
    """

    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    region: str = ""
    endpoint: str = ""

    def __bool__(self) -> bool:
        return bool(self.access_key_id)


@dataclass(frozen=True)
class BucketAddress:
    """One bucket, or a prefix in it: ``s3://name/prefix``. ``prefix`` is empty or ends with ``/``."""

    name: str
    prefix: str = ""
    credentials: S3Credentials = field(default_factory=S3Credentials)

    @classmethod
    def parse(cls, text: str, credentials: S3Credentials | None = None) -> BucketAddress:
        """Read ``s3://name[/prefix]``. Raises UsageError for anything else."""
        scheme, _, rest = text.strip().partition("://")
        name, _, prefix = rest.partition("/")
        if scheme != "s3" or not _BUCKET.fullmatch(name):
            raise UsageError("A bucket address must look like s3://name or s3://name/prefix", next_step="Correct it.")
        prefix = prefix.strip("/")
        if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
            raise UsageError("A bucket prefix must not contain empty, '.' or '..' parts", next_step="Correct it.")
        return cls(name, f"{prefix}/" if prefix else "", credentials or S3Credentials())

    def overlaps(self, other: BucketAddress) -> bool:
        """Whether one of the two lies inside the other (or they are the same)."""
        same_endpoint = self.credentials.endpoint == other.credentials.endpoint
        nested = self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix)
        return same_endpoint and self.name == other.name and nested
