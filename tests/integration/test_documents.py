"""Documents on a real S3 server: backed up incrementally, restored equal, never half."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fac_backup.documents import backup as backups
from fac_backup.documents import records, restore
from fac_backup.documents.backup import Result, backup
from fac_backup.documents.check import check, examine, references
from fac_backup.documents.entry import object_key
from fac_backup.documents.listing import Listing
from fac_backup.documents.options import Options
from fac_backup.documents.restore import Restore
from fac_backup.documents.source import Source, documents
from fac_backup.plain.errors import FacBackupError, IntegrityError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import Bucket, DeniedError
from tests.support.s3 import S3Server


def later() -> datetime:
    """A clock an hour ahead: nothing that a test writes is young to it."""
    return datetime.now(UTC) + timedelta(hours=1)


SETTLED = Options(jobs=8, clock=later)


class Place:
    """A source prefix, a target prefix and a store, under prefixes of their own."""

    def __init__(self, s3: S3Server, names: dict[str, str], unique: str) -> None:
        self.client: Any = s3.client()
        self.credentials = S3Credentials(s3.access_key, s3.secret_key, "", "us-east-1", s3.endpoint)
        self.names = names
        self.unique = unique
        self.source = Source("uploads", self.bucket("source", "live/"))
        self.target = self.bucket("target", "live/")
        self.store = self.bucket("store", "backups/dev/")

    def bucket(self, name: str, prefix: str = "", credentials: S3Credentials | None = None) -> Bucket:
        where = BucketAddress(self.names[name], f"{self.unique}/{prefix}", credentials or self.credentials)
        return Bucket(where, jobs=8, role=f"the {name}")

    def fill(self, **documents: bytes) -> None:
        for key, data in documents.items():
            self.source.bucket.put(key, data, content_type="text/plain")

    def backup(self, name: str, previous: Result | None = None, options: Options = SETTLED) -> Result:
        before = Listing.of(self.store, previous.documents) if previous else None
        return backup(self.source, self.store, f"dev_{name}", before, options)

    def listing(self, result: Result) -> Listing:
        return Listing.of(self.store, result.documents)

    def restoring(self, result: Result, **how: Any) -> Restore:
        return Restore(self.listing(result), self.store, self.target, options=SETTLED, **how)

    def restore(self, result: Result) -> Restore:
        work = self.restoring(result)
        _, added = restore.add(work)
        restore.finish(work, added)
        return work


@pytest.fixture(scope="module")
def buckets(s3: S3Server) -> Iterator[dict[str, str]]:
    names = {name: s3.bucket(f"docs-{name}") for name in ("source", "target", "store")}
    yield names
    remove(s3, *names.values())


def remove(s3: S3Server, *names: str) -> None:
    credentials = S3Credentials(s3.access_key, s3.secret_key, "", "us-east-1", s3.endpoint)
    for name in names:
        bucket = Bucket(BucketAddress(name, "", credentials))
        bucket.delete_many(found.key for found in bucket.list())
        s3.client().delete_bucket(Bucket=name)


@pytest.fixture
def place(aws: S3Server, buckets: dict[str, str], unique: str) -> Place:
    return Place(aws, buckets, unique)


def content(bucket: Bucket) -> dict[str, tuple[bytes, str, dict[str, str], dict[str, str]]]:
    """Everything that a restore must make equal."""
    found = {}
    for info in documents(bucket):
        head = bucket.head(info.key)
        assert head is not None
        found[info.key] = (bucket.get(info.key), head.content_type, dict(head.metadata), dict(head.headers))
    return found


HOSTILE = [
    "with spaces  and\ttab",
    "über/日本/\U0001f600.pdf",
    "line\nbreak\r.pdf",
    "::error::pwned",
    "##[error]x",
    "a'b\"c`$(x)<img>&amp;",
    "a-b", "a/b", "a.b", "a0", "percent%2Fplus+plus",
    "/".join("k" * 200 for _ in range(5))[:1019],
]  # fmt: skip


def test_what_comes_back_has_the_same_bytes_keys_types_and_metadata_and_nothing_else_is_left(place: Place) -> None:
    for number, key in enumerate(HOSTILE):
        place.source.bucket.put(
            key, b"%d" % number * number, content_type=f"application/x-{number}", metadata={"owner": f"o{number}"},
            headers={"cache-control": f"max-age={number}", "content-disposition": f'attachment; filename="{number}"'},
        )  # fmt: skip
    place.source.bucket.put(".fac-backup/space.json", b"marker of the source")
    first = place.backup("1")
    assert (first.documents.count, first.figures.copied) == (len(HOSTILE), len(HOSTILE))
    target = place.target
    target.put("extra", b"too much")
    target.put("a-b", b"other bytes")
    target.put("a/b", place.source.bucket.get("a/b"), content_type="application/another")
    target.put(".fac-backup/space.json", b"marker of the target")
    outside = place.bucket("target")
    outside.put("beside", b"not ours")

    planned = restore.plan(place.restoring(first))
    assert (planned.delete, planned.overwrite, planned.add) == (1, 2, len(HOSTILE) - 2)
    work = place.restore(first)

    assert content(target) == content(place.source.bucket)
    assert target.get(".fac-backup/space.json") == b"marker of the target"
    assert outside.get("beside") == b"not ours"
    assert restore.compare(work, deep=True).equal


def test_a_folder_that_a_console_has_made_is_a_document_even_where_the_server_cannot_copy_it(place: Place) -> None:
    place.fill(**{"folder/": b"", "folder/a": b"1", "empty": b""})
    first = place.backup("1")
    assert (first.documents.count, first.figures.vanished) == (3, 0)
    work = place.restore(first)
    assert content(place.target) == content(place.source.bucket)
    assert restore.compare(work, deep=True).equal
    assert place.backup("2", first).figures.copied == 0


def test_an_unchanged_day_copies_and_uploads_nothing(place: Place) -> None:
    place.fill(a=b"1", b=b"2", c=b"3")
    first = place.backup("1")
    second = place.backup("2", first)
    assert second.figures == backups.Figures(reused=3)
    assert second.documents.listing != first.documents.listing
    assert list(place.listing(second).lines()) == list(place.listing(first).lines())


def test_only_what_changed_is_copied_and_each_backup_keeps_its_own_versions(place: Place) -> None:
    place.fill(a=b"1", b=b"2", c=b"3")
    first = place.backup("1")
    place.fill(b=b"22", d=b"4")
    place.source.bucket.delete("a")
    second = place.backup("2", first)
    assert (second.figures.copied, second.figures.reused, second.documents.count) == (2, 1, 3)
    before = {"a": b"1", "b": b"2", "c": b"3"}
    after = {"b": b"22", "c": b"3", "d": b"4"}
    for result, expected in ((first, before), (second, after), (first, before)):
        place.restore(result)
        assert {key: value[0] for key, value in content(place.target).items()} == expected


def test_the_listing_after_a_deletion_lacks_that_document_and_no_other_wherever_it_stood(place: Place) -> None:
    keys = [f"{number}.txt" for number in range(6)]
    place.fill(**{key: key.encode() for key in keys})
    first = place.backup("1")
    for number, gone in enumerate([{0}, {2}, {5}, {1, 2}, {0, 5}, set(range(6))]):
        place.fill(**{key: key.encode() for key in keys})
        first = place.backup(f"{number}-before", first)
        for one in gone:
            place.source.bucket.delete(keys[one])
        listed = [entry.key for entry in place.listing(place.backup(f"{number}-after", first)).entries()]
        assert listed == [key for at, key in enumerate(keys) if at not in gone]


def test_a_backup_after_a_killed_one_copies_nothing_twice(place: Place) -> None:
    place.fill(a=b"1", b=b"2")
    place.backup("killed")
    again = place.backup("2")
    assert (again.figures.copied, again.figures.reused, again.documents.count) == (0, 2, 2)


def test_an_empty_bucket_is_backed_up_and_restored_empty(place: Place) -> None:
    empty = place.backup("1")
    assert (empty.documents.count, empty.documents.size) == (0, 0)
    assert place.backup("2", empty).figures == backups.Figures()
    place.target.put("extra", b"x")
    place.restore(empty)
    assert content(place.target) == {}


def test_a_missing_bucket_is_one_clear_error(place: Place) -> None:
    gone = Source("uploads", Bucket(BucketAddress("no-such-bucket-here", "", place.credentials), role="the uploads"))
    with pytest.raises(FacBackupError, match="does not exist"):
        backup(gone, place.store, "dev_1", None, SETTLED)
    assert list(place.store.list()) == []


def test_a_refused_key_is_one_clear_error_that_shows_no_secret(place: Place) -> None:
    wrong = replace(place.credentials, secret_access_key="wrong-secret")
    refused = Source("uploads", place.bucket("source", credentials=wrong))
    with pytest.raises(DeniedError) as caught:
        backup(refused, place.store, "dev_1", None, SETTLED)
    assert "wrong-secret" not in caught.value.line()
    assert place.names["source"] not in caught.value.line()


class Interfering(Bucket):
    """A source in which something happens just before the first copies."""

    def __init__(self, bucket: Bucket, **happens: Any) -> None:
        super().__init__(bucket.address, jobs=8, role="the source")
        self.happens = dict(happens)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Any]:
        found = list(super().list(prefix, start_after=start_after))
        for action in self.happens.values():
            action()
        yield from found


def test_a_document_that_changes_while_it_is_copied_is_taken_in_its_new_version(place: Place) -> None:
    place.fill(a=b"old", b=b"other")
    source = Interfering(place.source.bucket, change=lambda: place.fill(a=b"newer"))
    result = backup(Source("uploads", source), place.store, "dev_1", None, SETTLED)
    assert (result.figures.changed, result.documents.count, result.documents.size) == (1, 2, 10)
    place.restore(result)
    assert place.target.get("a") == b"newer"
    assert place.backup("2", result).figures == backups.Figures(reused=2)


def test_a_document_that_vanishes_while_it_is_copied_is_counted_and_left_out(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.fill(**{"secret name": b"gone soon", "b": b"stays"})
    source = Interfering(place.source.bucket, delete=lambda: place.source.bucket.delete("secret name"))
    result = backup(Source("uploads", source), place.store, "dev_1", None, SETTLED)
    assert (result.documents.vanished, result.documents.count, result.documents.size) == (1, 1, 5)
    assert "secret name" not in caplog.text
    assert "vanished" in caplog.text


def test_a_document_that_vanishes_from_a_versioned_bucket_is_taken_from_its_version(
    place: Place, aws: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = aws.bucket("docs-versioned")
    monkeypatch.setitem(place.names, "source", name)
    place.source = Source("uploads", place.bucket("source"))
    place.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    place.fill(a=b"deleted in the middle")
    source = Interfering(place.source.bucket, delete=lambda: place.source.bucket.delete("a"))
    result = backup(Source("uploads", source), place.store, "dev_1", None, SETTLED)
    assert (result.documents.vanished, result.documents.count) == (0, 1)
    place.restore(result)
    assert place.target.get("a") == b"deleted in the middle"
    for kind in ("Versions", "DeleteMarkers"):
        for version in place.client.list_object_versions(Bucket=name).get(kind, ()):
            place.client.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
    place.client.delete_bucket(Bucket=name)


def test_a_missing_or_rewritten_stored_document_is_copied_again_by_the_next_backup(place: Place) -> None:
    place.fill(a=b"1", b=b"2", c=b"3")
    first = place.backup("1")
    entries = {entry.key: entry for entry in place.listing(first).entries()}
    place.store.delete(object_key("uploads", entries["a"].object))
    place.store.put(object_key("uploads", entries["b"].object), b"X")
    second = place.backup("2", first)
    assert (second.figures.repaired, second.figures.reused) == (2, 1)
    check(place.listing(second), place.store, deep=True)


def test_missing_and_rewritten_stored_documents_are_noticed_before_the_target_changed(place: Place) -> None:
    place.fill(a=b"1", b=b"2", c=b"3")
    first = place.backup("1")
    entries = {entry.key: entry for entry in place.listing(first).entries()}
    place.store.delete(object_key("uploads", entries["a"].object))
    place.store.put(object_key("uploads", entries["b"].object), b"X")
    found = examine(place.listing(first), place.store)
    assert (found.count, found.missing, found.rewritten, found.whole) == (3, 1, 1, False)
    with pytest.raises(IntegrityError, match="Of 3 documents of uploads, missing from the store: 1,"):
        check(place.listing(first), place.store)
    place.fill(c=b"4")
    with pytest.raises(IntegrityError):
        restore.finish(place.restoring(first))


def test_a_rewritten_stored_document_never_reaches_the_target_even_if_nobody_checked(place: Place) -> None:
    place.fill(a=b"1")
    first = place.backup("1")
    (entry,) = place.listing(first).entries()
    place.store.put(object_key("uploads", entry.object), b"X")
    with pytest.raises(IntegrityError, match="not what was stored"):
        restore.add(place.restoring(first))
    assert content(place.target) == {}


def test_a_cut_or_changed_listing_is_noticed_before_the_target_changed(place: Place) -> None:
    place.fill(**{f"document-{number}": b"%d" % number for number in range(50)})
    first = place.backup("1")
    key = first.documents.listing
    whole = place.store.get(key)
    for broken in (whole[:-3], whole[: len(whole) // 2], whole[:20] + bytes([whole[20] ^ 1]) + whole[21:], b"", b"x"):
        place.store.put(key, broken)
        with pytest.raises(IntegrityError):
            check(place.listing(first), place.store)
        with pytest.raises(IntegrityError):
            restore.add(place.restoring(first))
    assert content(place.target) == {}


def test_a_damaged_previous_listing_costs_a_look_at_everything_but_not_the_backup(place: Place) -> None:
    place.fill(a=b"1", b=b"2")
    first = place.backup("1")
    place.store.put(first.documents.listing, b"damaged")
    second = place.backup("2", first)
    assert (second.documents.count, second.figures.copied, second.figures.reused) == (2, 0, 2)
    place.restore(second)
    assert content(place.target) == content(place.source.bucket)


class KilledError(Exception):
    """Stands for a kill."""


def test_a_restore_killed_between_any_two_documents_can_be_finished(place: Place) -> None:
    place.fill(**{f"d{number}": b"%d" % number for number in range(20)})
    place.target.put("d3", b"different")
    place.target.put("extra", b"x")
    first = place.backup("1")

    for stop_after in (1, 5, 12):

        def stop(done: int, _total: int | None, _size: int, limit: int = stop_after) -> None:
            if done >= limit:
                raise KilledError

        work = replace(place.restoring(first), options=replace(SETTLED, progress=stop, jobs=2))
        place.target.delete_many(found.key for found in documents(place.target) if found.key not in ("d3", "extra"))
        with pytest.raises(KilledError):
            restore.add(work)
        assert place.target.get("d3") == b"different"
        with pytest.raises(KilledError):
            restore.finish(work)
        place.target.put("d3", b"different")
        place.target.put("extra", b"x")
    work = place.restore(first)
    assert content(place.target) == content(place.source.bucket)
    assert restore.compare(work).equal
    assert restore.finish(work).equal


def test_streamed_copies_keep_type_metadata_and_headers_and_know_the_content(place: Place, aws: S3Server) -> None:
    big = bytes(range(256)) * 80_000
    place.source.bucket.put("big", big, content_type="application/pdf", metadata={"a": "b"})
    place.source.bucket.put("small", b"s", content_type="text/csv", headers={"content-encoding": "identity"})
    elsewhere = replace(place.credentials, endpoint=f"http://localhost:{aws.port}")  # another host name: no server copy
    store = place.bucket("store", "backups/dev/", elsewhere)
    result = backup(place.source, store, "dev_1", None, SETTLED)
    assert result.figures.streamed == 2
    entries = {entry.key: entry for entry in Listing.of(store, result.documents).entries()}
    assert entries["big"].sha256 == hashlib.sha256(big).hexdigest()
    assert entries["big"].stored_etag is not None
    check(Listing.of(store, result.documents), store, deep=True)
    work = Restore(Listing.of(store, result.documents), store, place.target, options=SETTLED)
    restore.add(work)
    restore.finish(work)
    assert content(place.target) == content(place.source.bucket)
    again = backup(place.source, store, "dev_2", Listing.of(store, result.documents), SETTLED)
    assert again.figures == backups.Figures(reused=2)

    store.renew(object_key("uploads", entries["big"].object))
    check(Listing.of(store, result.documents), store)
    place.target.delete("big")
    restore.finish(work)
    assert place.target.get("big") == big


def test_a_document_written_twice_within_a_second_is_not_taken_for_unchanged(place: Place) -> None:
    place.source.bucket.put("a", b"same bytes", content_type="text/plain")
    moment = place.source.bucket.head("a").modified  # type: ignore[union-attr]
    young = replace(SETTLED, clock=lambda: moment + timedelta(seconds=1))
    first = place.backup("1", options=young)
    assert [entry.young for entry in place.listing(first).entries()] == [True]
    unchanged = place.backup("2", first)
    assert (unchanged.figures.reused, unchanged.figures.copied) == (1, 0)
    assert [entry.young for entry in place.listing(unchanged).entries()] == [None]

    place.source.bucket.put("a", b"same bytes", content_type="text/html")
    listed = next(iter(documents(place.source.bucket)))._replace(modified=moment)
    source = Interfering(place.source.bucket)
    source.list = lambda prefix="", *, start_after="": iter([listed])  # type: ignore[method-assign]
    third = backup(Source("uploads", source), place.store, "dev_3", place.listing(first), SETTLED)
    assert third.figures.copied == 1
    for result, kind in ((first, "text/plain"), (third, "text/html")):
        place.restore(result)
        assert place.target.head("a").content_type == kind  # type: ignore[union-attr]


def test_the_next_refresh_of_a_target_asks_after_nothing_that_the_last_one_recorded(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.fill(a=b"1", b=b"2", c=b"3")
    first = place.backup("1")
    work = place.restoring(first)
    own_store = place.bucket("target", "store/staging/")
    _, added = restore.add(work)
    restore.finish(work, added, record=own_store)
    place.fill(d=b"4")
    second = place.backup("2", first)
    last = records.load(own_store, "uploads")
    assert last is not None
    asked: list[str] = []
    original = Bucket.head
    monkeypatch.setattr(Bucket, "head", lambda self, key: asked.append(key) or original(self, key))
    planned = restore.plan(place.restoring(second, last=last))
    assert (planned.same, planned.add, planned.overwrite, planned.delete) == (3, 1, 0, 0)
    assert asked == []
    own_store.put("restored/uploads.jsonl.zst", b"damaged")
    assert records.load(own_store, "uploads") is None


def test_undo_of_a_target_by_its_own_backup_asks_after_nothing_unchanged(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.fill(a=b"1", b=b"2")
    first = place.backup("1")
    place.fill(b=b"changed")
    work = Restore(place.listing(first), place.store, place.source.bucket, own=True, options=SETTLED)
    planned = restore.plan(work)
    assert (planned.same, planned.overwrite) == (1, 1)


def test_references_name_every_stored_document_of_a_manifest(place: Place) -> None:
    place.fill(a=b"1", b=b"2")
    first = place.backup("1")
    stored = {found.key for found in place.store.list("documents/")}
    assert set(references([first.documents], place.store)) == stored
    assert len(stored) == 2
