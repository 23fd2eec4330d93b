"""The services that Cloud Foundry bound to this process: ``VCAP_SERVICES``, or the file of ``VCAP_SERVICES_FILE_PATH``.

Instances are looked up by their own name under every label (``aws-rds``, ``s3``, ``user-provided``, a test broker's):
the label says who made the instance, not what it is good for. The file is what apps with the feature
``file-based-vcap-services`` get instead of the variable (https://docs.cloudfoundry.org/devguide/deploy-apps/app-features.html).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fac_backup.plain.errors import UsageError
from fac_backup.plain.locations import BucketAddress, S3Credentials

_FILE_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Services:
    """All bindings of this process: instance name to credentials. ``repr`` shows names only."""

    names: tuple[str, ...]
    _credentials: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Services:
        """Read the bindings from ``env``. Raises UsageError, which never quotes what it read."""
        path = env.get("VCAP_SERVICES_FILE_PATH", "")
        text, source = env.get("VCAP_SERVICES", ""), "VCAP_SERVICES"
        if not text and path:
            source = "The file of VCAP_SERVICES_FILE_PATH"
            try:
                with Path(path).open(encoding="utf-8") as file:
                    text = file.read(_FILE_LIMIT)
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{source} cannot be read ({type(error).__name__})") from None
        return cls.from_json(text or "{}", source)

    @classmethod
    def from_json(cls, text: str, source: str = "VCAP_SERVICES") -> Services:
        """Read the bindings from JSON. Raises UsageError."""
        try:
            entries = [entry for group in json.loads(text).values() for entry in group]
            found = {str(entry.get("instance_name") or entry["name"]): entry["credentials"] for entry in entries}
        except (ValueError, AttributeError, KeyError, TypeError):
            raise UsageError(f"{source} is not JSON as Cloud Foundry writes it") from None
        if len(found) != len(entries):
            raise UsageError(
                f"{source} names an instance twice", next_step="Rename one: it would be a guess which one is meant."
            )
        return cls(tuple(sorted(found)), found)

    def has(self, name: str) -> bool:
        """Whether an instance of that name is bound."""
        return name in self._credentials

    def credentials(self, name: str) -> Mapping[str, Any]:
        """The credentials of one instance. Raises UsageError that names what is bound instead."""
        if name not in self._credentials:
            raise UsageError(
                f"No service instance {name} is bound to this app; bound are: {', '.join(self.names) or 'none'}",
                next_step="Correct `instances` in action-matrix.yml, or bind it.",
            )
        return self._credentials[name]

    def database_url(self, name: str) -> str:
        """The database of an instance as ``postgresql://…``. Raises UsageError if it is none."""
        given = self.credentials(name)
        uri = given.get("uri")
        if isinstance(uri, str) and uri.split(":", 1)[0] in ("postgres", "postgresql"):
            return uri
        try:
            user, password, host, database = (str(given[key]) for key in ("username", "password", "host", "db_name"))
        except KeyError:
            raise UsageError(f"The service instance {name} is not a PostgreSQL database") from None
        port = str(given.get("port") or 5432)
        host = f"[{host}]" if ":" in host else host
        return (
            f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{quote(database, safe='')}"
        )

    def bucket(self, name: str, prefix: str = "") -> BucketAddress:
        """The bucket of an instance, with the credentials to it. Raises UsageError if it is none."""
        given = self.credentials(name)
        try:
            bucket = str(given["bucket"])
            keys = str(given["access_key_id"]), str(given["secret_access_key"])
        except KeyError:
            raise UsageError(f"The service instance {name} is not an S3 bucket") from None
        endpoint = str(given.get("endpoint") or "")
        if endpoint and "://" not in endpoint:
            endpoint = f"https://{endpoint}"
        credentials = S3Credentials(
            *keys, str(given.get("session_token") or ""), str(given.get("region") or ""), endpoint
        )
        return BucketAddress.parse(f"s3://{bucket}/{prefix}", credentials)

    def reach(self, name: str, by: str) -> BucketAddress:
        """The bucket of the instance ``name``, with the credentials of the instance ``by`` if they reach it.

        One key for two buckets lets S3 copy from one to the other by itself (``additional_instances`` of cloud.gov).
        """
        own = self.bucket(name)
        if by and self.has(by) and own.name in (self.credentials(by).get("additional_buckets") or ()):
            return replace(own, credentials=self.bucket(by).credentials)
        return own

    def secrets(self) -> tuple[str, ...]:
        """All values that must be masked before anything is printed: keys, passwords, addresses that hold them."""
        telling = ("password", "secret", "uri", "url", "access_key", "token", "credential")
        return tuple(
            str(value)
            for given in self._credentials.values()
            for key, value in given.items()
            if isinstance(value, str) and len(value) > 3 and any(word in key.lower() for word in telling)
        )
