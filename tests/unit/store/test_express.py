"""The short road: right requests out, and every answer but a plain success left to the usual one."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import Bucket, Tuning

DONE = b"<CopyObjectResult xmlns='x'><LastModified/><ETag>&quot;abc&quot;</ETag></CopyObjectResult>"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(DONE), DONE)
Serve = Callable[[bytes], tuple[Bucket, list[bytes]]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A server that gives one answer to every request, then closes after an empty one; what it was asked."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def start(answer: bytes) -> tuple[Bucket, list[bytes]]:
        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while request := connection.recv(65536):
                        while len(request.partition(b"\r\n\r\n")[2]) < int(length_of(request)):
                            request += connection.recv(65536)
                        asked.append(request)
                        connection.sendall(answer)
                        if not answer.startswith(b"HTTP/1.1 200 OK") or b"cut" in answer:
                            break

        threading.Thread(target=run, daemon=True).start()
        credentials = S3Credentials("AKIAEXAMPLE", "secret", "token", "us-gov-west-1", f"http://127.0.0.1:{port}")
        return Bucket(BucketAddress("bucket", "dev/", credentials), tuning=Tuning(read_timeout=2)), asked

    port = listener.getsockname()[1]
    yield start
    listener.close()


def length_of(request: bytes) -> bytes:
    return request.partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0"


def copy(bucket: Bucket, key: str = "k") -> object:
    express = bucket.wire.express
    try:
        return express.copy("bucket", "dev/source key ü", f"dev/{key}", if_match='"e"', sha256=True)
    finally:
        express.close()


def test_a_request_is_signed_as_botocore_signs_it(serve: Serve) -> None:
    bucket, asked = serve(PLAIN)
    result = copy(bucket, "key with ü")
    assert result is not None
    head, *lines = asked[0].decode().split("\r\n")
    sent = dict(line.split(": ", 1) for line in lines if line)
    assert head == "PUT /bucket/dev/key%20with%20%C3%BC HTTP/1.1"
    assert sent["x-amz-copy-source"] == "/bucket/dev/source%20key%20%C3%BC"
    assert sent["x-amz-copy-source-if-match"] == '"e"'
    assert sent["x-amz-security-token"] == "token"
    request = AWSRequest("PUT", f"http://{sent['host']}/bucket/dev/key%20with%20%C3%BC")
    for name, value in sent.items():
        if name.startswith("x-amz-") or name == "host":
            request.headers[name] = value
    request.context["timestamp"] = sent["x-amz-date"]
    signer = S3SigV4Auth(Credentials("AKIAEXAMPLE", "secret", "token"), "s3", "us-gov-west-1")
    asked_for = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, asked_for), request)
    assert sent["authorization"].endswith(f"Signature={signature}")


def test_connections_are_kept(serve: Serve) -> None:
    bucket, asked = serve(PLAIN)
    express = bucket.wire.express
    for _ in range(3):
        assert express.copy("bucket", "s", "k", if_match='"e"', sha256=False) is not None
    assert len(express._idle) == 1
    express.close()
    assert len(asked) == 3


def test_a_piece_goes_out_whole_and_signed_and_comes_back_within_its_limit(serve: Serve) -> None:
    body = b"x" * 300_000
    bucket, asked = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes")
    express = bucket.wire.express
    assert express.put("dev/k", body)
    sent = b"".join(asked)
    assert sent.endswith(b"content-length: 300000\r\n\r\n" + body)
    assert f"x-amz-content-sha256: {hashlib.sha256(body).hexdigest()}".encode() in sent
    assert express.get("dev/k", limit=5) == b"bytes"
    assert express.get("dev/k", limit=4) is None
    express.close()


def test_an_answer_in_chunks_is_read(serve: Serve) -> None:
    half = len(DONE) // 2
    chunks = b"%x\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\n\r\n" % (half, DONE[:half], len(DONE) - half, DONE[half:])
    bucket, _ = serve(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert copy(bucket) is not None


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ncut",
        b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n<Error><Code>InternalError</Code></Error>    ",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 2x0\r\n\r\n cut",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"cut",
    ],
)
def test_any_other_answer_is_left_to_the_usual_road(serve: Serve, answer: bytes) -> None:
    bucket, _ = serve(answer)
    assert copy(bucket) is None


def test_a_proxy_on_the_way_means_the_usual_road(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, asked = serve(PLAIN)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert copy(bucket) is None
    assert asked == []
