"""What S3 answers and what goes wrong on the way, as one clear sentence that names neither host nor bucket.

A bucket is spoken of by its role ("the backups bucket", "the documents bucket 'uploads'"), because logs of a public
repository are read by everyone. Error codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fac_backup.plain.errors import FacBackupError, FailedError, UsageError
from fac_backup.plain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or credentials of this bucket's own (docs/setup-github.md); in a "
    "workflow a secret that arrives empty does this."
)


class BucketError(FailedError):
    """The bucket did not do what it was asked. The caller knows what state that leaves, so none is claimed here."""

    def __init__(self, what: str, *, state: str = "", next_step: str = "") -> None:
        super().__init__(what, state=state, next_step=next_step)


class NotFoundError(BucketError):
    """There is no object with that key."""


class AlreadyThere(BucketError):  # noqa: N818 - reads as the outcome of put_new, which is no fault
    """``put_new`` found an object with that key."""


class Changed(BucketError):  # noqa: N818 - reads as the outcome of replace, which is no fault
    """The object is no longer the one whose ETag was given (or is gone)."""


class DeniedError(BucketError):
    """The key may not do this: the caller may know another way (say, a streamed instead of a server-side copy)."""


class TooLargeError(BucketError):
    """The object is larger than what the reader is prepared to take."""


RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})
RETRIED_CODES = frozenset(
    {"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException",
     "OperationAborted", "ConditionalRequestConflict", "TooManyRequests", "RequestLimitExceeded"}
)  # fmt: skip
"""Answers after which the same request may succeed. 409 ConditionalRequestConflict: AWS asks to repeat the request."""

_KEY_REFUSED = {
    "InvalidAccessKeyId": "does not know the access key",
    "SignatureDoesNotMatch": "refuses the secret key: it does not belong to the access key",
    "ExpiredToken": "refuses the credentials: they have expired",
    "ExpiredTokenException": "refuses the credentials: they have expired",
    "TokenRefreshRequired": "refuses the credentials: they have expired",
    "InvalidToken": "refuses the session token",
    "AccountProblem": "refuses the account of this access key",
    "InvalidSecurity": "refuses the credentials",
    "NotSignedUp": "refuses the account of this access key",
}
_NEXT = {
    "refused": "Check the credentials of this bucket; new ones of cloud.gov may need some seconds before they work.",
    "clock": "Set this machine's clock (NTP), then run again.",
    "missing": "Check the bucket's name, region and endpoint.",
    "busy": "Run again later, or with a smaller --jobs.",
    "network": "Check the endpoint and the network, then run again.",
}


def for_answer(status: int, code: str, role: str, doing: str, attempts: int = 1) -> FacBackupError:
    """The error for an HTTP answer: S3's error ``code`` ("" if none), and what we were ``doing``: "write an object"."""
    the = role[:1].upper() + role[1:]
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return BucketError(f"{the} does not exist", next_step=_NEXT["missing"])
    if code == "RequestTimeTooSkewed":
        return BucketError(f"{the} refuses the request because this machine's clock is wrong", next_step=_NEXT["clock"])
    if code in _KEY_REFUSED:
        return DeniedError(f"{the} {_KEY_REFUSED[code]}", next_step=_NEXT["refused"])
    if code in ("NoSuchKey", "NoSuchVersion", "NoSuchUpload") or (status == 404 and not code):
        return NotFoundError(f"{the} has no such object ({doing})")
    if status == 412 or code == "PreconditionFailed":
        return Changed(f"An object in {role} is not the expected one any more ({doing})")
    if status in (401, 403) or code in ("AccessDenied", "AllAccessDisabled"):
        return DeniedError(f"{the} does not allow these credentials to {doing}", next_step=_NEXT["refused"])
    if code in ("KeyTooLongError", "InvalidObjectName", "InvalidURI") or (code == "InvalidRequest" and status == 400):
        return BucketError(f"{the} refuses the name of an object or the request itself ({doing})")
    if code in ("EntityTooLarge", "MaxMessageLengthExceeded"):
        return BucketError(f"{the} refuses an object as too large ({doing})")
    if status == 507 or code in ("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"):
        return BucketError(f"{the} is full", next_step="Make room or raise the quota, then run again.")
    tries = f" after {attempts} attempts" if attempts > 1 else ""
    if status == 503 or code in ("SlowDown", "ServiceUnavailable"):
        return BucketError(f"{the} is overloaded: still refusing to {doing}{tries}", next_step=_NEXT["busy"])
    if status in (301, 302, 307, 308) or code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
        return BucketError(f"{the} lives in another region than the one configured", next_step=_NEXT["missing"])
    named = f", {one_line(code, 60)}" if code else ""
    return BucketError(f"{the} failed to {doing}{tries} (HTTP {status}{named})", next_step="Run again later.")


def for_exception(error: BaseException, role: str, doing: str, attempts: int = 1) -> FacBackupError:
    """The error for an exception of boto3, botocore or urllib3; FacBackupErrors pass as they are."""
    from botocore import exceptions as boto

    if isinstance(error, FacBackupError):
        return error
    if isinstance(error, boto.ClientError):
        answer: Mapping[str, Mapping[str, object]] = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = str(answer.get("Error", {}).get("Code", ""))
        return for_answer(int(str(status)), "" if code.isdigit() else code, role, doing, attempts)
    the = role[:1].upper() + role[1:]
    tries = f" after {attempts} attempts" if attempts > 1 else ""
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)):
        return DeniedError(f"There are no usable credentials for {role}", next_step=CREDENTIALS)
    if isinstance(error, (boto.ProfileNotFound, boto.ConfigParseError)):
        return BucketError(f"The AWS configuration that {role} would use cannot be read", next_step="Correct AWS_*.")
    if isinstance(error, ValueError) and "Invalid endpoint" in str(error):
        return UsageError(
            f"The endpoint of {role} is not an address",
            next_step="Write AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL) as https://host, or unset it.",
        )
    # botocore keeps the cause, which alone tells a refused connection from an unknown host, in kwargs
    text = str(error.kwargs.get("error", error) if isinstance(error, boto.BotoCoreError) else error)
    if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError) or "timed out" in text:
        return BucketError(f"{the} did not answer in time{tries} ({doing})", next_step=_NEXT["network"])
    if isinstance(error, boto.SSLError):
        return BucketError(f"The TLS certificate of {role} is not accepted ({doing})", next_step=_NEXT["network"])
    if isinstance(error, boto.ProxyConnectionError):
        return BucketError(f"{the} cannot be reached through the proxy{tries}", next_step=_NEXT["network"])
    if "refused" in text:
        return BucketError(f"{the} cannot be reached: connection refused{tries}", next_step=_NEXT["network"])
    if "resolve" in text or "Name or service" in text:
        return BucketError(f"{the} cannot be reached: its host name is unknown{tries}", next_step=_NEXT["network"])
    if isinstance(error, (boto.ParamValidationError, ValueError)):
        return BucketError(f"{the} cannot be asked to {doing}: a value is not one that S3 takes")
    return BucketError(
        f"The connection to {role} broke{tries} ({doing}; {type(error).__name__})", next_step=_NEXT["network"]
    )
