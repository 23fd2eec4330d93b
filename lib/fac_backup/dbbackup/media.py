"""Media archives: tar, read and written as a stream, never unpacked to disk.

What is read is input: only regular files, only names that stay below where they are put, headers of bounded size, and
an archive that ends as a tar archive must (POSIX pax, two zero blocks). Anything else stops the import.
"""

from __future__ import annotations

import mimetypes
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Self, cast

from fac_backup.dbbackup.stream import CHUNK, GZIP, Readable, Reader, chunks, gunzipped, gzipped
from fac_backup.plain.errors import FailedError, IntegrityError

MAX_HEADER = 1 << 20
"""Bytes of an extended header (long names, pax records). A real one has some hundred."""

# Python's own table, not the machine's files: the same name gives the same type everywhere.
_TYPES = mimetypes.MimeTypes()
for _ending, _kind in {  # which older Pythons lack
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".webp": "image/webp",
}.items():
    _TYPES.add_type(_kind, _ending)

MAX_KEY_BYTES = 1024
"""The limit of S3 (docs.aws.amazon.com, "Creating object key names")."""


@dataclass(frozen=True)
class MediaFile:
    """One document of an archive. Its content must be read before the next one is asked for."""

    key: str
    size: int
    stream: Readable

    def chunks(self) -> Iterator[bytes]:
        """The content, in chunks of at most 1 MiB. Raises IntegrityError if the archive ends too early."""
        left = self.size
        while left:
            try:
                data = self.stream.read(min(CHUNK, left))
            except tarfile.TarError:
                data = b""
            if not data:
                raise _cut()
            left -= len(data)
            yield data


class _Header(tarfile.TarInfo):
    """A member's header, with the checks that ``tarfile`` leaves out."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        # tarfile takes these, behind the first member, for the end of the archive: a cut one would look whole.
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]  # not in typeshed
            raise _cut() from None
        except tarfile.InvalidHeaderError:  # type: ignore[attr-defined]
            raise _refused("is damaged") from None

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        extended = (
            tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
        )  # fmt: skip
        # tarfile reads an extended header in one piece, however big it says it is.
        if self.type in extended and not 0 <= self.size <= MAX_HEADER:
            raise _refused("has an extended header that is too big")
        return super()._proc_member(tarfile_)  # type: ignore[misc, no-any-return]  # not in typeshed


def iter_media(source: Readable) -> Iterator[MediaFile]:
    """The documents of a ``.tar`` or ``.tar.gz``, in the archive's order; folders are passed over.

    A key may come twice (tar appends); the last one counts. Raises IntegrityError for a damaged archive and for
    anything that is neither a folder nor a regular file with a name that is safe, before its content is read.
    """
    reader = Reader(chunks(source))
    if reader.peek(2) == GZIP:
        reader = Reader(gunzipped(reader.rest()))
    if not reader.peek(1):
        raise _cut()
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|", tarinfo=_Header, bufsize=CHUNK) as tar:
            for number, member in enumerate(tar, 1):
                tar.members = []  # type: ignore[attr-defined]  # or every header would be kept
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise _refused(f"holds something that is no regular file, as entry {number}")
                key = safe_key(member.name)
                if key is None:
                    raise _refused(f"holds a name that is not safe, as entry {number}")
                stream = tar.extractfile(member)
                assert stream is not None  # noqa: S101  a regular file has content
                yield MediaFile(key, member.size, stream)
    except tarfile.TarError:
        raise _refused("is damaged") from None


def safe_key(name: str) -> str | None:
    """``name`` as a document's key, or None if it would leave its place, is empty, too long, or not Unicode.

    >>> safe_key("./reports/2026.pdf"), safe_key("../secret"), safe_key("/etc/passwd")
    ('reports/2026.pdf', None, None)
    """
    key = name.removeprefix("./")
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return None
    parts = key.split("/")
    if (
        not 0 < length <= MAX_KEY_BYTES
        or "\0" in key
        or key.endswith("/")
        or any(part in ("", ".", "..") for part in parts)
    ):
        return None
    return key


def content_headers(key: str) -> tuple[str, dict[str, str]]:
    """Content type and further headers for a document whose archive tells none: from its name, as django-storages does.

    >>> content_headers("reports/2026.pdf"), content_headers("log.txt.gz")
    (('application/pdf', {}), ('text/plain', {'content-encoding': 'gzip'}))
    """
    kind, encoding = _TYPES.guess_type(key.rsplit("/", 1)[-1])
    return kind or "application/octet-stream", {"content-encoding": encoding} if encoding else {}


def write_media_tar(
    entries: Iterable[tuple[str, int, Iterable[bytes]]],
    *,
    compress: bool = False,
    on_unsafe: Callable[[str], None] | None = None,
) -> Iterator[bytes]:
    """A tar archive of (key, size, content) that ``mediarestore`` reads (with ``--uncompress`` if compressed).

    Keys that Django's storages refuse (absolute, with ``..``) stop the export, or are left out and given to
    ``on_unsafe``. Raises FailedError if a document has not the size that was announced.
    """
    data = _tar(entries, on_unsafe)
    return gzipped(data) if compress else data


def _tar(
    entries: Iterable[tuple[str, int, Iterable[bytes]]], on_unsafe: Callable[[str], None] | None
) -> Iterator[bytes]:
    written = 0
    for key, size, content in entries:
        if safe_key(key) != key:
            if on_unsafe is None:
                raise FailedError(
                    "A document's key is one that Django's storages refuse", next_step="Rename it, or leave it out."
                )
            on_unsafe(key)
            continue
        header = tarfile.TarInfo(key)
        header.size = size
        block = header.tobuf(tarfile.PAX_FORMAT)
        yield block
        got = 0
        for chunk in content:
            got += len(chunk)
            yield chunk
        if got != size:
            raise FailedError("A document changed while it was exported", next_step="Export again.")
        padding = -size % tarfile.BLOCKSIZE
        if padding:
            yield bytes(padding)
        written += len(block) + size + padding
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)


def _cut() -> IntegrityError:
    return IntegrityError("The media archive ends too early", next_step="Fetch it again, or choose another one.")


def _refused(how: str) -> IntegrityError:
    return IntegrityError(f"The media archive {how}", next_step="Look at it with `tar --list`, and import a sound one.")
