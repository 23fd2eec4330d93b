"""Where things are, read from the environment (docs/format.md): Cloud Foundry's bindings, or plain variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fac_backup.plain.backup_id import is_name
from fac_backup.plain.errors import UsageError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.policy.model import Instances


@dataclass(frozen=True)
class Places:
    """The database, the documents and the backups buckets that one operation works with."""

    database_url: str = field(default="", repr=False)
    bucket: BucketAddress | None = None
    """The backups bucket that holds the store of the operation's space (of a restore: the target's)."""
    source_bucket: BucketAddress | None = None
    """In a restore, the backups bucket of the source where it is not the target's."""
    documents: tuple[tuple[str, BucketAddress], ...] = ()
    """Label and address, in the order of the setting."""
    without_documents: bool = False
    """``FAC_BACKUP_DOCUMENTS=none``: the application keeps no documents, and says so."""

    def need_database(self) -> str:
        """The database's URL. Raises UsageError if there is none."""
        if not self.database_url:
            raise UsageError(
                "No database is given: DATABASE_URL is empty",
                next_step="Set it (in a workflow: the input `database-url`, from a secret of this job's environment; "
                "a secret that arrives empty usually belongs to another environment or repository).",
            )
        return self.database_url

    def need_bucket(self) -> BucketAddress:
        """The backups bucket. Raises UsageError if there is none."""
        if self.bucket is None:
            raise UsageError(
                "No backups bucket is given: FAC_BACKUP_BUCKET is empty",
                next_step="Set it to s3://name or s3://name/prefix (in a workflow: the input `bucket`).",
            )
        return self.bucket

    def need_documents(self) -> tuple[tuple[str, BucketAddress], ...]:
        """The documents buckets, at least one unless the application keeps none. Raises UsageError otherwise."""
        if not self.documents and not self.without_documents:
            raise UsageError(
                "No documents bucket is given: FAC_BACKUP_DOCUMENTS is empty",
                next_step="Set it to label=s3://name[/prefix], several separated by spaces (in a workflow: the input "
                "`documents`); `none` if the application keeps no documents.",
            )
        return self.documents


def credentials_from(text: str, variable: str) -> S3Credentials:
    """Credentials from JSON in the shape of a cloud.gov S3 binding; empty text gives boto3's own chain.

    Raises UsageError that names the variable, never its content.
    """
    if not text.strip():
        return S3Credentials()
    try:
        return _binding(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{variable} is not JSON in the shape of an S3 binding",
            next_step='It needs "access_key_id" and "secret_access_key"; "region" and "endpoint" are optional.',
        ) from None


def places_from(env: Mapping[str, str], instances: Instances | None = None, *, source: bool = False) -> Places:
    """The places that ``env`` names.

    Bindings of Cloud Foundry come first, where ``instances`` (names from the matrix) and a binding by that name are
    there; a plain variable fills what they leave open. Raises UsageError for a malformed setting.
    """
    bound = _bound(env, instances)
    credentials = credentials_from(env.get("FAC_BACKUP_BUCKET_CREDENTIALS", ""), "FAC_BACKUP_BUCKET_CREDENTIALS")
    source_credentials = credentials_from(
        env.get("FAC_BACKUP_SOURCE_BUCKET_CREDENTIALS", ""), "FAC_BACKUP_SOURCE_BUCKET_CREDENTIALS"
    )
    bucket = env.get("FAC_BACKUP_BUCKET", "")
    source_bucket = env.get("FAC_BACKUP_SOURCE_BUCKET", "") if source else ""
    return Places(
        database_url=bound.database_url or env.get("DATABASE_URL", ""),
        bucket=bound.bucket or (BucketAddress.parse(bucket, credentials) if bucket else None),
        source_bucket=BucketAddress.parse(source_bucket, source_credentials) if source_bucket else None,
        documents=bound.documents or _documents(env),
        without_documents=env.get("FAC_BACKUP_DOCUMENTS", "").strip() == "none",
    )


def _bound(env: Mapping[str, str], instances: Instances | None) -> Places:
    if instances is None or not (env.get("VCAP_SERVICES") or env.get("VCAP_SERVICES_FILE_PATH")):
        return Places()
    from fac_backup.hosting import vcap

    services = vcap.Services.from_env(env)
    return Places(
        database_url=services.database_url(instances.database) if instances.database else "",
        bucket=services.bucket(instances.backups) if instances.backups and services.has(instances.backups) else None,
        documents=tuple(
            (label, services.reach(name, by=instances.backups or "")) for label, name in instances.documents.items()
        ),
    )


def _documents(env: Mapping[str, str]) -> tuple[tuple[str, BucketAddress], ...]:
    text = env.get("FAC_BACKUP_DOCUMENTS", "").strip()
    if text in ("", "none"):
        return ()
    found: dict[str, BucketAddress] = {}
    for part in text.split():
        label, equals, address = part.partition("=")
        if not equals:  # a single bucket needs no label
            label, address = "documents", part
        if not is_name(label) or label in found:
            raise UsageError(
                "FAC_BACKUP_DOCUMENTS must be label=s3://name[/prefix], several separated by spaces, each label once",
                next_step="Labels are lower-case letters, digits and '-', at most 31, for example private=s3://uploads.",
            )
        found[label] = BucketAddress.parse(address, _documents_credentials(env, label))
    return tuple(found.items())


def _documents_credentials(env: Mapping[str, str], label: str) -> S3Credentials:
    """One binding for all labels, or an object that maps labels to bindings."""
    variable = "FAC_BACKUP_DOCUMENTS_CREDENTIALS"
    text = env.get(variable, "").strip()
    if not text:
        return S3Credentials()
    try:
        value = json.loads(text)
    except ValueError:
        return credentials_from(text, variable)  # the same sentence for anything malformed
    if isinstance(value, dict) and "access_key_id" not in value and label in value:
        value = value[label]
    return credentials_from(json.dumps(value), variable)


def _binding(value: dict[str, str]) -> S3Credentials:
    endpoint = value.get("endpoint") or ""
    if endpoint and "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    return S3Credentials(
        access_key_id=value["access_key_id"],
        secret_access_key=value["secret_access_key"],
        session_token=value.get("session_token") or "",
        region=value.get("region") or "",
        endpoint=endpoint,
    )


def private_words(env: Mapping[str, str]) -> tuple[str, ...]:
    """Names of buckets and hosts in the settings, which a public log or summary must not show; never raises."""
    found = []
    for name in ("FAC_BACKUP_BUCKET", "FAC_BACKUP_SOURCE_BUCKET", "FAC_BACKUP_DOCUMENTS"):
        for part in env.get(name, "").split():
            found.append(part.partition("://")[2].partition("/")[0])
    for name in ("DATABASE_URL", "FAC_BACKUP_SCRATCH_DATABASE_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        try:
            parts = urlsplit(env.get(name, ""))
            found += [parts.hostname or "", parts.username or "", parts.path.strip("/")]
        except ValueError:
            continue
    return tuple(word for word in dict.fromkeys(found) if len(word) > 5)
