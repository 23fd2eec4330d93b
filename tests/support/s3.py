"""A real S3 server for tests, demo and benchmarks: SeaweedFS in one process on free loopback ports."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .postgres import free_port


def weed() -> Path:
    """The SeaweedFS program inside the wheel."""
    import sysconfig

    return Path(sysconfig.get_path("scripts")) / "weed"


@dataclass
class S3Server:
    """One running SeaweedFS with one administrator; signatures are checked."""

    access_key: str = field(default_factory=lambda: "AK" + secrets.token_hex(8).upper())
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    port: int = 0
    directory: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def endpoint(self) -> str:
        """Where it listens, as an ``AWS_ENDPOINT_URL_S3``."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> S3Server:
        """Start and wait until it answers a signed request and can store an object (at most 60 seconds).

        Somebody else may take a free port in the moment before the server does: then again, with other ports.
        """
        given = self.port
        for _ in range(2):
            try:
                return self._start()
            except RuntimeError:
                self.port = given
        return self._start()

    def _start(self) -> S3Server:
        self.directory = Path(tempfile.mkdtemp(prefix="fac-s3-", dir="/tmp"))
        self.port = self.port or free_port()
        ports = {name: free_port() for name in ("master", "volume", "filer")}
        # gRPC ports are the HTTP ports + 10000 unless given: give free ones
        config = self.directory / "s3.json"
        admin = {
            "name": "admin",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        config.write_text(json.dumps({"identities": [admin]}))
        # One volume a bucket instead of seven: tests make many small buckets.
        (self.directory / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
        env = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        log = (self.directory / "log").open("wb")
        self._process = subprocess.Popen(
            [weed(), "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.directory}",
             f"-master.port={ports['master']}", f"-master.port.grpc={free_port()}",
             f"-volume.port={ports['volume']}", f"-volume.port.grpc={free_port()}",
             f"-filer.port={ports['filer']}", f"-filer.port.grpc={free_port()}",
             f"-s3.port={self.port}", f"-s3.port.grpc={free_port()}", f"-s3.config={config}",
             "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam.readOnly=false",
             "-volume.max=4000", "-master.volumeSizeLimitMB=128", "-master.telemetry=false"],
            cwd=self.directory, stdout=log, stderr=log, env=env, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        client = self.client()
        while True:
            try:
                client.create_bucket(Bucket="ready-probe")
                client.put_object(Bucket="ready-probe", Key="probe", Body=b"x")
                client.delete_object(Bucket="ready-probe", Key="probe")
                client.delete_bucket(Bucket="ready-probe")
                return self
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    tail = (self.directory / "log").read_text(errors="replace")[-2000:]
                    self.stop()
                    raise RuntimeError(f"SeaweedFS did not start: {tail}") from error
                time.sleep(0.2)

    def stop(self) -> None:
        """Stop and remove everything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def client(self, access_key: str | None = None, secret_key: str | None = None) -> Any:
        """A boto3 client of this server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=20, max_pool_connections=20),
        )

    def bucket(self, prefix: str = "bucket") -> str:
        """Make a bucket with a name of its own and return the name."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.client().create_bucket(Bucket=name)
        return name

    def remove(self, *buckets: str) -> None:
        """Delete buckets with all that is in them; missing ones are no error."""
        client = self.client()
        for bucket in buckets:
            with suppress(ClientError):
                for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                    for one in page.get("Contents", []):
                        client.delete_object(Bucket=bucket, Key=one["Key"])
                client.delete_bucket(Bucket=bucket)

    def env(self) -> dict[str, str]:
        """The variables with which boto3 and ``fac-backup`` reach this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> S3Server:
        try:
            return self.start()
        except BaseException:  # Ctrl-C while it starts: nobody else knows of it yet
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
