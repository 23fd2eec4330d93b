from __future__ import annotations

import pytest

from fac_backup.store.s3_errors import BucketError, Changed, DeniedError, NotFoundError, for_answer, for_exception
from fac_backup.store.wire import error_code

ROLE = "the documents bucket 'uploads'"


@pytest.mark.parametrize(
    ("status", "code", "kind", "sentence"),
    [
        (404, "NoSuchBucket", BucketError, "The documents bucket 'uploads' does not exist"),
        (404, "NoSuchKey", NotFoundError, "no such object"),
        (404, "", NotFoundError, "no such object"),
        (412, "PreconditionFailed", Changed, "not the expected one"),
        (403, "RequestTimeTooSkewed", BucketError, "this machine's clock is wrong"),
        (403, "InvalidAccessKeyId", DeniedError, "does not know the access key"),
        (400, "ExpiredToken", DeniedError, "have expired"),
        (403, "AccessDenied", DeniedError, "does not allow these credentials to write an object"),
        (503, "SlowDown", BucketError, "overloaded: still refusing to write an object after 6 attempts"),
        (507, "", BucketError, "is full"),
        (301, "PermanentRedirect", BucketError, "another region"),
        (400, "KeyTooLongError", BucketError, "refuses the name"),
        (500, "InternalError", BucketError, "HTTP 500, InternalError"),
    ],
)
def test_every_answer_of_s3_has_its_sentence(status: int, code: str, kind: type, sentence: str) -> None:
    error = for_answer(status, code, ROLE, "write an object", 6)
    assert type(error) is kind
    assert sentence in error.line()
    assert error.state == ""


def test_an_unknown_exception_tells_its_type_and_nothing_of_its_text() -> None:
    error = for_exception(RuntimeError("https://secret-host/bucket"), ROLE, "write an object")
    assert "secret-host" not in error.line()
    assert "RuntimeError" in error.line()


def test_an_error_code_is_read_from_a_document_and_never_invented() -> None:
    assert error_code(b"<?xml?><Error><Code>SlowDown</Code></Error>") == "SlowDown"
    assert error_code(b"<html>") == ""
    assert error_code(b"") == ""
