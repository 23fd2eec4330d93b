"""Addresses that anybody may read one object by, for a while: AWS's signature version 4 in the query.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html. Signing is done here because an index
needs one signature an object: botocore takes half a millisecond for each, this some microseconds, and of all these
addresses only key and signature differ, so that is all an index has to hold.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from urllib.parse import quote, urlencode, urlsplit

from fac_backup.plain.locations import BucketAddress

LONGEST = 7 * 24 * 3600
"""Seconds that S3 accepts at most."""


@dataclass(frozen=True)
class Signer:
    """Signs GETs of the objects of one bucket, all at the same moment and for as long."""

    address: BucketAddress = field(repr=False)
    moment: datetime
    seconds: int

    @cached_property
    def base(self) -> str:
        """The address of the bucket with the prefix, path-style: what a key is appended to, percent-encoded."""
        endpoint = self.address.credentials.endpoint or f"https://s3.{self._region}.amazonaws.com"
        return f"{endpoint.rstrip('/')}/{self.address.name}/{quote(self.address.prefix, safe='/~')}"

    @cached_property
    def query(self) -> str:
        """The part of the query that is the same for all objects; a signature is appended to it."""
        return f"{self._signed_query}&X-Amz-Signature="

    @property
    def until(self) -> datetime:
        """When the signatures end."""
        return self.moment + timedelta(seconds=self.seconds)

    def signature(self, key: str) -> str:
        """The signature for the object ``key`` (relative to the address's prefix): 64 hexadecimal digits."""
        path = self._path + quote(key, safe="/~")
        request = "\n".join(("GET", path, self._signed_query, f"host:{self._host}", "", "host", "UNSIGNED-PAYLOAD"))
        text = "\n".join(("AWS4-HMAC-SHA256", self._stamp, self._scope, hashlib.sha256(request.encode()).hexdigest()))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def url(self, key: str) -> str:
        """The whole address."""
        return f"{self.base}{quote(key, safe='/~')}?{self.query}{self.signature(key)}"

    @cached_property
    def _host(self) -> str:
        return urlsplit(self.base).netloc

    @cached_property
    def _path(self) -> str:
        return urlsplit(self.base).path

    @cached_property
    def _region(self) -> str:
        return self.address.credentials.region or "us-gov-west-1"

    @cached_property
    def _stamp(self) -> str:
        return self.moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")

    @cached_property
    def _scope(self) -> str:
        return f"{self._stamp[:8]}/{self._region}/s3/aws4_request"

    @cached_property
    def _signed_query(self) -> str:
        given = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.address.credentials.access_key_id}/{self._scope}",
            "X-Amz-Date": self._stamp,
            "X-Amz-Expires": str(min(self.seconds, LONGEST)),
            "X-Amz-SignedHeaders": "host",
        }
        if self.address.credentials.session_token:
            given["X-Amz-Security-Token"] = self.address.credentials.session_token
        return urlencode(sorted(given.items()), quote_via=quote, safe="~")

    @cached_property
    def _key(self) -> bytes:
        key = b"AWS4" + self.address.credentials.secret_access_key.encode()
        for part in (self._stamp[:8], self._region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key
