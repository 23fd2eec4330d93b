"""The service brokers: S3's makes a new user for every binding or key (in SeaweedFS, by its IAM API), RDS's has one.

After cloud-gov/s3-broker: ``additional_instances`` are names, resolved in the space that owns the instance; unknown
parameters are ignored; a credential may be refused for some seconds after it was made.
"""

from __future__ import annotations

import json
import secrets
import threading
from contextlib import suppress
from typing import Any

import boto3

from tests.support.s3 import S3Server

from .world import Binding, World


class BrokerError(Exception):
    """The broker says no; its words end up in the job's errors."""


class Broker:
    """Binds and unbinds. The attributes are hooks for tests."""

    def __init__(self, world: World, s3: S3Server | None) -> None:
        self.world = world
        self.s3 = s3
        self.accept_after = 0.0
        """Seconds until S3 accepts a new user's key."""
        self.fail_bind: list[str] = []
        """Messages; each fails one bind."""
        self.fail_unbind: list[str] = []
        self.knows_additional = True
        """False: a broker that ignores ``additional_instances``, as it does every parameter that it does not know."""
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        """The space of each S3 instance that was bound, and its ``additional_instances``."""
        self.hang_bind = threading.Event()
        self.hang_bind.set()
        """Cleared: binds hang until it is set again."""
        self.endpoint = ""
        """Where the credentials say that S3 is; empty: where it is."""
        self.seconds = 0.0
        """How long each operation takes."""
        self._made: dict[str, str] = {}
        self._client: Any = None

    def bind(self, binding: Binding) -> dict[str, Any]:
        self.hang_bind.wait()
        if self.fail_bind:
            raise BrokerError(self.fail_bind.pop(0))
        instance = binding.instance
        if instance.kind != "s3":
            return dict(instance.credentials)
        buckets = [instance.bucket]
        additional = binding.parameters.get("additional_instances", []) if self.knows_additional else []
        self.asked.append((instance.space.name or "", tuple(additional)))
        for name in additional:
            other = [i for i in self.world.instances if i.name == name and i.space is instance.space and i.kind == "s3"]
            if not other:
                raise BrokerError(f"Could not find service instance {name} in the space of the instance")
            buckets.append(other[0].bucket)
        key, secret = self._user(f"cf-{binding.guid}", buckets)
        return self._credentials(instance.bucket, buckets[1:], key, secret)

    def _credentials(self, bucket: str, additional: list[str], key: str, secret: str) -> dict[str, Any]:
        endpoint = self.endpoint or (self.s3.endpoint if self.s3 else "https://s3.invalid")
        return {
            "access_key_id": key,
            "secret_access_key": secret,
            "region": "us-east-1",
            "bucket": bucket,
            "endpoint": endpoint,
            "fips_endpoint": endpoint,
            "insecure_skip_verify": False,
            "additional_buckets": additional,
            "uri": f"s3://{key}:{secret}@{endpoint.removeprefix('http://')}/{bucket}",
        }

    def unbind(self, binding: Binding) -> None:
        if self.fail_unbind:
            raise BrokerError(self.fail_unbind.pop(0))
        if f"cf-{binding.guid}" in self._made:
            self._remove(f"cf-{binding.guid}")

    def permanent(self, binding: Binding) -> dict[str, Any]:
        """Credentials of a binding that stays all the time: the administrator's, which saves a user."""
        if binding.instance.kind != "s3" or self.s3 is None:
            return self.bind(binding)
        return self._credentials(binding.instance.bucket, [], self.s3.access_key, self.s3.secret_key)

    def stop(self) -> None:
        """Remove the users that are left: SeaweedFS gets slower with each."""
        for name in list(self._made):
            with suppress(Exception):
                self._remove(name)

    def _remove(self, name: str) -> None:
        iam, key = self._iam(), self._made[name]
        with suppress(iam.exceptions.NoSuchEntityException):
            iam.delete_access_key(UserName=name, AccessKeyId=key)
        with suppress(iam.exceptions.NoSuchEntityException):
            iam.delete_user(UserName=name)
        self._made.pop(name, None)

    def _user(self, name: str, buckets: list[str]) -> tuple[str, str]:
        if self.s3 is None:
            return "AK" + secrets.token_hex(8).upper(), secrets.token_hex(20)
        iam = self._iam()
        iam.create_user(UserName=name)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        self._made[name] = made["AccessKeyId"]
        resources = [f"arn:aws:s3:::{bucket}{rest}" for bucket in buckets for rest in ("", "/*")]
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": resources}],
        }

        def allow() -> None:
            with suppress(iam.exceptions.ClientError):  # unbound meanwhile
                iam.put_user_policy(UserName=name, PolicyName="buckets", PolicyDocument=json.dumps(policy))

        if self.accept_after:
            timer = threading.Timer(self.accept_after, allow)
            timer.daemon = True
            timer.start()
        else:
            allow()
        return made["AccessKeyId"], made["SecretAccessKey"]

    def _iam(self) -> Any:
        assert self.s3 is not None
        if self._client is None:
            self._client = boto3.client(
                "iam", endpoint_url=self.s3.endpoint, aws_access_key_id=self.s3.access_key,
                aws_secret_access_key=self.s3.secret_key, region_name="us-east-1",
            )  # fmt: skip
        return self._client


def can_make_users(s3: S3Server) -> bool:
    """Whether this SeaweedFS lets users be made at run time (``-s3.iam.readOnly=false``)."""
    try:
        iam = Broker(World(), s3)._iam()
        name = f"probe-{secrets.token_hex(4)}"
        iam.create_user(UserName=name)
        iam.delete_user(UserName=name)
    except Exception:
        return False
    return True
