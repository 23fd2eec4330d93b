"""A scripted S3 front on loopback: overload, half bodies, lost answers, wrong regions."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fac_backup.plain.errors import FacBackupError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import AlreadyThere, Bucket, BucketError, Changed, Tuning

Answer = tuple[int, dict[str, str], bytes]


class Front:
    """Answers with what the test has laid out, in order; the last answer repeats. Remembers what was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer | None] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.port = 0

    def take(self) -> Answer | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def front() -> Iterator[Front]:
    script = Front()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            script.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = script.take()
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            if "Content-Length" in headers:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "PUT", "HEAD", "DELETE", "POST"):
        setattr(Handler, f"do_{method}", Handler._any)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # a reader that gives up breaks the pipe
    script.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(front: Front) -> Bucket:
    given = S3Credentials("key-id", "the-secret", endpoint=f"http://127.0.0.1:{front.port}")
    quick = Tuning(attempts=4, first_pause=0.005, longest_pause=0.01, read_timeout=1)
    return Bucket(BucketAddress("secret-name", "p/", given), role="the backups bucket", tuning=quick)


def error(status: int, code: str, **headers: str) -> Answer:
    document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>secret-name</Message></Error>"
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, document.encode()


OK: Answer = (200, {"ETag": '"e"'}, b"body")


@pytest.mark.parametrize(
    "first", [error(503, "SlowDown"), error(500, "InternalError"), error(400, "RequestTimeout"), None]
)
def test_what_may_succeed_later_is_tried_again(front: Front, bucket: Bucket, first: Answer | None) -> None:
    front.answers = [first, first, OK]
    assert bucket.get("x") == b"body"
    assert len(front.asked) == 3


def test_tries_are_bounded_and_the_sentence_tells_how_many(front: Front, bucket: Bucket) -> None:
    front.answers = [error(503, "SlowDown")]
    with pytest.raises(BucketError, match="overloaded: still refusing to write an object after 4 attempts") as caught:
        bucket.put("x", b"")
    assert len(front.asked) == 4
    assert "secret-name" not in caught.value.line()


def test_pauses_grow_are_bounded_and_differ(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, slept = bucket.wire, [0.0]
    monkeypatch.setattr(time, "sleep", slept.append)
    for attempt, longest in ((1, 0.005), (2, 0.01), (3, 0.01), (9, 0.01)):
        slept.clear()
        for _ in range(50):
            wire._pause(attempt)
        assert min(slept) >= 0
        assert longest * 0.7 < max(slept) <= longest
        assert len(set(slept)) == 50, "many that are refused at once do not come back at once"


def test_what_will_not_change_is_not_tried_again(front: Front, bucket: Bucket) -> None:
    for answer in (error(403, "AccessDenied"), error(403, "RequestTimeTooSkewed"), error(404, "NoSuchKey")):
        front.answers, front.asked = [answer], []
        with pytest.raises(FacBackupError):
            bucket.get("x")
        assert len(front.asked) == 1


def test_half_a_body_is_continued_where_it_broke_and_only_of_the_same_object(front: Front, bucket: Bucket) -> None:
    half = (200, {"Content-Length": "8", "ETag": '"e"'}, b"half")
    front.answers = [half, (206, {"ETag": '"e"'}, b"rest")]
    assert bucket.get("x") == b"halfrest"
    assert front.asked[1][2]["range"] == "bytes=4-"
    assert front.asked[1][2]["if-match"] == '"e"'
    front.answers = [half, error(412, "PreconditionFailed")]
    with pytest.raises(Changed):
        bucket.get("x")
    front.answers = [half, (200, {"ETag": '"e"'}, b"whole")]
    with pytest.raises(BucketError, match="cannot continue"):
        bucket.get("x")


def test_half_a_listing_is_asked_for_again(front: Front, bucket: Bucket) -> None:
    page = (
        b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType><IsTruncated>'
        b"false</IsTruncated><Contents><Key>p/a%0Ab+c%2B</Key><LastModified>2026-11-22T20:16:53.000Z</LastModified>"
        b"<ETag>e</ETag><Size>3</Size></Contents></ListBucketResult>"
    )
    front.answers = [(200, {"Content-Length": str(len(page))}, page[:50]), (200, {}, page)]
    (info,) = bucket.list()
    assert (info.key, info.size, info.etag) == ("a\nb c+", 3, '"e"')
    assert info.modified.isoformat() == "2026-11-22T20:16:53+00:00"
    without_token = page.replace(b"<IsTruncated>false", b"<IsTruncated>true")
    for other in (b"<html>captive portal</html>", b"", b"<ListBucketResult>", without_token):
        front.answers = [(200, {}, other)]
        with pytest.raises(BucketError, match="cannot be read"):
            list(bucket.list())
    front.answers = [(200, {}, b"<html>captive portal</html>")]
    with pytest.raises(BucketError, match="cannot be read"):
        bucket.copy_from(bucket, "a", "b", size=1)


def test_a_listing_out_of_order_is_an_error_and_never_a_silent_one(front: Front, bucket: Bucket) -> None:
    rest = "<Size>1</Size><ETag>e</ETag><LastModified>2026-11-22T20:16:53Z</LastModified>"
    entry = f"<Contents><Key>p/{{}}</Key>{rest}</Contents>"
    front.answers = [(200, {}, f"<ListBucketResult>{entry.format('b')}{entry.format('a')}</ListBucketResult>".encode())]
    with pytest.raises(BucketError, match="out of order"):
        list(bucket.list())


def test_a_copy_that_fails_with_status_200_fails(front: Front, bucket: Bucket) -> None:
    front.answers = [error(200, "SlowDown"), error(200, "AccessDenied")]
    with pytest.raises(FacBackupError, match="does not allow"):
        bucket.copy_from(bucket, "a", "b", size=1)
    front.answers = [error(200, "InternalError"), (200, {}, b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>")]
    assert bucket.copy_from(bucket, "a b", "c", size=1).etag == '"e"'
    assert front.asked[-1][2]["x-amz-copy-source"] == "/secret-name/p/a%20b"


@pytest.mark.parametrize("lost", [error(500, "InternalError"), None])
def test_a_conditional_write_whose_answer_was_lost_recognizes_its_own_bytes(
    front: Front, bucket: Bucket, lost: Answer | None
) -> None:
    front.answers = [lost, error(412, "PreconditionFailed"), (200, {"ETag": '"mine"'}, b"mine")]
    assert bucket.put_new("x", b"mine") == '"mine"'
    front.answers = [lost, error(412, "PreconditionFailed"), (200, {"ETag": '"theirs"'}, b"theirs")]
    with pytest.raises(AlreadyThere):
        bucket.put_new("x", b"mine")
    front.answers = [lost, error(412, "PreconditionFailed"), error(404, "NoSuchKey")]
    with pytest.raises(Changed):
        bucket.replace("x", b"mine", '"old"')


def test_a_conditional_write_refused_at_once_does_not_look_at_the_bytes(front: Front, bucket: Bucket) -> None:
    front.answers = [error(412, "PreconditionFailed")]
    with pytest.raises(AlreadyThere):
        bucket.put_new("x", b"same")
    assert len(front.asked) == 1
    front.answers = [error(404, "NoSuchKey")]
    with pytest.raises(Changed):
        bucket.replace("x", b"y", '"e"')


def test_a_conflict_of_two_conditional_writes_is_tried_again(front: Front, bucket: Bucket) -> None:
    front.answers = [error(409, "ConditionalRequestConflict"), OK]
    assert bucket.put_new("x", b"1") == '"e"'


def test_a_bucket_of_another_region_is_asked_again_with_its_own(front: Front, bucket: Bucket) -> None:
    front.answers = [error(400, "AuthorizationHeaderMalformed", x_amz_bucket_region="us-gov-west-1"), OK]
    assert bucket.get("x") == b"body"
    assert "/us-gov-west-1/s3/" in front.asked[1][2]["authorization"]


def test_a_store_without_conditional_delete_is_compared_first(front: Front, bucket: Bucket) -> None:
    same, gone = (200, {"ETag": '"e"'}, b""), (204, {}, b"")
    front.answers = [error(501, "NotImplemented"), same, gone]
    assert bucket.delete_if("x", '"e"')
    front.answers = [error(501, "NotImplemented"), same]
    assert not bucket.delete_if("x", '"other"')


def test_a_store_that_ignores_conditions_is_found_out(front: Front, bucket: Bucket) -> None:
    front.answers = [OK]
    assert not bucket.conditional_writes()


def test_a_server_that_is_silent_is_given_up_in_time(
    bucket: Bucket, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = threading.Event()

    def slowly() -> Answer:
        wait.wait(3)
        return OK

    monkeypatch.setattr(front, "take", slowly)
    short = Bucket(bucket.address, role="the backups bucket", tuning=Tuning(attempts=1, read_timeout=0.2))
    with pytest.raises(BucketError, match="did not answer in time"):
        short.get("x")
    wait.set()


def test_no_error_carries_host_bucket_or_secret(front: Front, bucket: Bucket) -> None:
    works: list[Callable[[], object]] = [
        lambda: bucket.get("k"), lambda: bucket.put("k", b""), lambda: list(bucket.list()), bucket.check,
        lambda: bucket.delete_many(["k"]), lambda: bucket.head("k"), lambda: bucket.renew("k"),
        lambda: bucket.upload_stream("k", iter([b"x" * (17 << 20)])), lambda: bucket.tags("k"),
    ]  # fmt: skip
    missing = works[5:7]  # HEAD brings no document: a missing bucket looks like a missing object
    for answer in (error(500, "Odd"), error(404, "NoSuchBucket"), error(400, "Weird")):
        front.answers = [answer]
        for work in works:
            if answer[0] == 404 and work in missing:
                continue
            with pytest.raises(BucketError) as caught:
                work()
            shown = "".join(traceback.format_exception(caught.value))
            shown = "".join(line for line in shown.splitlines() if not line.startswith("  "))
            assert not any(text in shown for text in ("secret-name", "127.0.0.1", "the-secret", "key-id"))
    assert "the-secret" not in repr(bucket) + repr(bucket.address)
