"""Archives as input: what is damaged, forged or not one is refused, in bounded memory, and nothing reaches the disk."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fac_backup.dbbackup.archive import open_database_archive
from fac_backup.dbbackup.media import content_headers, iter_media, safe_key, write_media_tar
from fac_backup.dbbackup.names import database_name, media_name, parse
from fac_backup.dbbackup.stream import Reader, gunzipped, gzipped
from fac_backup.plain.errors import FacBackupError, FailedError, IntegrityError, UsageError

Documents = list[tuple[str, bytes]]

keys = st.lists(st.text(min_size=1, max_size=60).filter(lambda key: safe_key(key) == key), unique=True, max_size=8)


def read(data: bytes) -> Documents:
    return [(entry.key, b"".join(entry.chunks())) for entry in iter_media(io.BytesIO(data))]


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = type_
    made.linkname = link
    return made


# --- media ------------------------------------------------------------------------------------------------------------


@given(keys, st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=60)
def test_what_is_written_is_read_again_and_by_tarfile_too(names: list[str], random: object, compress: bool) -> None:
    documents = [(key, random.randbytes(random.choice([0, 1, 511, 512, 513, 40_000]))) for key in names]  # type: ignore[attr-defined]
    data = b"".join(write_media_tar(((key, len(body), [body]) for key, body in documents), compress=compress))
    assert read(data) == documents
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
        assert [(one.name, archive.extractfile(one).read()) for one in archive] == documents  # type: ignore[union-attr]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_other_tools_are_read_and_folders_are_passed_over(form: int) -> None:
    data = tar((member("media", tarfile.DIRTYPE), b""), (member("./media/" + "x" * 90 + ".pdf"), b"one"),
               (member("media/b"), b""), form=form)  # fmt: skip
    assert read(data) == [("media/" + "x" * 90 + ".pdf", b"one"), ("media/b", b"")]
    assert read(gzip.compress(data, mtime=0)) == read(data)


@pytest.mark.parametrize(
    "bad",
    [
        member("link", tarfile.SYMTYPE, "/etc/passwd"), member("link", tarfile.LNKTYPE, "other"),
        member("device", tarfile.CHRTYPE), member("block", tarfile.BLKTYPE), member("pipe", tarfile.FIFOTYPE),
        member("../up"), member("a/../../up"), member("/etc/passwd"), member("a//b"), member("a/./b"),
        member("k" * 1025),
    ],
    ids=lambda bad: f"{bad.type!r} {bad.name[:12]}",
)  # fmt: skip
def test_whatever_is_no_regular_file_with_a_safe_name_stops_the_import(bad: tarfile.TarInfo) -> None:
    data = tar((member("good"), b"content"), (bad, b""), (member("later"), b"content"))
    seen: list[str] = []
    with pytest.raises(IntegrityError, match="as entry 2"):
        seen.extend(entry.key for entry in iter_media(io.BytesIO(data)))
    assert seen == ["good"]


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("sparse").tobuf(tarfile.GNU_FORMAT)
    forged = bytearray(header)
    forged[156:157] = tarfile.GNUTYPE_SPARSE
    forged[148:156] = b"        "
    forged[148:156] = b"%06o\0 " % sum(forged)
    with pytest.raises(IntegrityError):
        read(bytes(forged) + bytes(1024))


@pytest.mark.parametrize("compress", [False, True])
def test_an_archive_that_is_cut_anywhere_is_noticed(compress: bool) -> None:
    documents = [(f"d{n}", os.urandom(700)) for n in range(4)]
    data = b"".join(write_media_tar(((key, len(body), [body]) for key, body in documents), compress=compress))
    # Of the zero blocks at the end one says that it is the end, the others are padding.
    whole = len(data) if compress else 4 * (512 + 1024) + 512
    assert read(data[:whole]) == documents
    for cut in {*range(0, whole, 97), *range(0, whole, 512), whole - 1}:
        with pytest.raises(IntegrityError):
            read(data[:cut])


def test_a_garbled_header_is_not_taken_for_the_end() -> None:
    data = bytearray(b"".join(write_media_tar((f"d{n}", 3, [b"abc"]) for n in range(4))))
    data[2 * 1024 + 5] ^= 1
    with pytest.raises(IntegrityError, match="damaged"):
        read(bytes(data))


def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read() -> None:
    claim = member("x", tarfile.XHDTYPE)
    claim.size = 4 << 30

    def endless() -> Iterator[bytes]:
        yield claim.tobuf(tarfile.GNU_FORMAT)
        for _ in range(4096):
            yield bytes(1 << 20)

    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="too big"):
            list(iter_media(Reader(endless())))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_documents() -> None:
    def entries() -> Iterator[tuple[str, int, Iterator[bytes]]]:
        yield from ((f"small/{n}", 10, iter([b"0123456789"])) for n in range(3000))
        yield "big", 200 << 20, iter([bytes(1 << 20)] * 200)

    tracemalloc.start()
    try:
        count = size = 0
        for entry in iter_media(Reader(write_media_tar(entries(), compress=True))):
            count += 1
            size += sum(len(chunk) for chunk in entry.chunks())
        assert (count, size) == (3001, 30_000 + (200 << 20))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_document_that_changes_while_it_is_exported_fails_the_export() -> None:
    for body in (b"short", b"much too long"):
        with pytest.raises(FailedError, match="changed"):
            list(write_media_tar([("a", 7, [body])]))


def test_keys_that_django_refuses_stop_the_export_or_are_given_back() -> None:
    entries = [("fine", 1, [b"x"]), ("../up", 1, [b"y"]), ("/abs", 1, [b"z"])]
    with pytest.raises(FailedError, match="refuse"):
        list(write_media_tar(entries))
    left_out: list[str] = []
    assert read(b"".join(write_media_tar(entries, on_unsafe=left_out.append))) == [("fine", b"x")]
    assert left_out == ["../up", "/abs"]


def test_a_document_gets_the_content_type_that_its_name_says() -> None:
    names = ("reports/2026.pdf", "a.b/no-ending", "x.tar.gz", "ü.xlsx", "page.HTML", "ends with .")
    assert [content_headers(name) for name in names] == [
        ("application/pdf", {}),
        ("application/octet-stream", {}),
        ("application/x-tar", {"content-encoding": "gzip"}),
        ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", {}),
        ("text/html", {}),
        ("application/octet-stream", {}),
    ]


@given(st.binary(max_size=3000))
def test_bytes_at_random_are_refused_with_a_sentence(data: bytes) -> None:
    for start in (b"", b"\x1f\x8b\x08", b"PGDMP\x01"):
        for attempt in (read, lambda given: list(open_database_archive(io.BytesIO(given)).chunks)):
            with suppress(FacBackupError):
                attempt(start + data)


# --- gzip -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=5000), max_size=5), st.integers(1, 700))
def test_gzip_streams_are_read_however_they_are_cut_into_chunks(parts: list[bytes], step: int) -> None:
    data = b"".join(gzip.compress(part, mtime=0) for part in parts)
    cut = [data[i : i + step] for i in range(0, len(data), step)]
    assert b"".join(gunzipped(cut)) == b"".join(parts)
    assert gzip.decompress(b"".join(gzipped(parts))) == b"".join(parts)


def test_a_gzip_bomb_is_read_in_pieces() -> None:
    bomb = gzip.compress(bytes(100 << 20), mtime=0)
    assert max(len(chunk) for chunk in gunzipped([bomb])) <= 1 << 20


def test_a_damaged_or_cut_gzip_stream_is_noticed() -> None:
    data = gzip.compress(os.urandom(5000), mtime=0)
    for broken in (data[:-1], data[:100], data[:2000] + b"x" + data[2001:], data + b"rubbish"):
        with pytest.raises(IntegrityError):
            list(gunzipped([broken]))
    assert list(gunzipped([data + bytes(512)]))


# --- databases --------------------------------------------------------------------------------------------------------


def custom(major: int = 1, minor: int = 14, form: int = 1) -> bytes:
    return b"PGDMP" + bytes([major, minor, 0, 4, 8, form]) + bytes(5000)


@pytest.mark.parametrize(("minor", "needs"), [(14, 12), (15, 16), (16, 17), (13, 9), (99, None)])
def test_the_archive_says_which_pg_restore_it_needs(minor: int, needs: int | None) -> None:
    with open_database_archive(io.BytesIO(custom(minor=minor))) as archive:
        assert (archive.format, archive.needs_major) == ("custom", needs)
        assert b"".join(archive.chunks) == custom(minor=minor)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    plain = b"--\n-- PostgreSQL database dump\n--\nSELECT 1;\n"
    for name, data in (
        ("x.dump", plain),
        ("x.psql", gzip.compress(plain, mtime=0)),
        ("x.psql.bin", b"\xef\xbb\xbf" + plain),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with open_database_archive(path) as archive:
            assert archive.format == "plain"
            assert b"".join(archive.chunks).endswith(plain)


@pytest.mark.parametrize(
    ("name", "data", "kind", "sentence"),
    [
        ("x.psql.bin.gpg", b"x", UsageError, "encrypted"),
        ("x.tar", tar((member("a"), b"")), UsageError, "tar archive"),
        ("x.json", b'[{"model": "a.b"}]', UsageError, "no archive"),
        ("x.sqlite3", b"SQLite format 3\0", UsageError, "no archive"),
        ("x.psql.bin", b"", IntegrityError, "empty"),
        ("x.psql.bin", gzip.compress(b"", mtime=0), IntegrityError, "empty"),
        ("x.psql.bin", b"PGDMP", IntegrityError, "damaged"),
        ("x.psql.bin", custom(form=3), IntegrityError, "damaged"),
        ("x.psql.bin", gzip.compress(custom(), mtime=0)[:30], IntegrityError, "too early"),
        ("x.psql", b"\\! touch /tmp/x\n", UsageError, "no archive"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name_or_content(
    name: str, data: bytes, kind: type[FacBackupError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        open_database_archive(io.BytesIO(data), name)


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_are_those_of_the_library() -> None:
    made = datetime(2026, 11, 22, 20, 16, 53)
    assert database_name("default", "web1", made) == "default-web1-2026-11-22-201653.psql.bin"
    assert database_name("default", "", made, gzipped=True) == "default-2026-11-22-201653.psql.bin.gz"
    assert media_name("", made) == "2026-11-22-201653.tar"
    for name in (database_name("default", "web1", made), media_name("web1", made, gzipped=True)):
        assert parse(f"backups/{name}").made == made


def test_names_of_other_files_say_what_they_can() -> None:
    assert parse("fac-2026-99-99-999999.tar.gz").made is None
    assert (parse("a.tgz").kind, parse("a.tgz").gzipped) == ("media", True)
    assert (parse("a.dump.gz.gpg").kind, parse("a.dump.gz.gpg").encrypted) == ("database", True)
    assert parse("guitar.psql").kind == "database"
