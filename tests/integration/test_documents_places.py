"""Documents: markers, shards, and keys that the test store's SeaweedFS cannot hold (a stand-in of AWS's can)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fac_backup.documents import marker, restore, shards
from fac_backup.documents.backup import Figures, backup, backup_range
from fac_backup.documents.listing import Listing, write
from fac_backup.documents.options import Options
from fac_backup.documents.restore import Restore
from fac_backup.documents.source import EVERYTHING, Source, documents
from fac_backup.plain.errors import IntegrityError, RefusedError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import Bucket
from tests.support.plain_s3 import PlainS3, plain_s3

SETTLED = Options(jobs=4, clock=lambda: datetime.now(UTC) + timedelta(hours=1))


@pytest.fixture(scope="module")
def server() -> Iterator[PlainS3]:
    with plain_s3() as running:
        yield running


class Place:
    """Three buckets on the stand-in."""

    def __init__(self, server: PlainS3) -> None:
        self.credentials = S3Credentials("key", "secret", "", "us-east-1", server.endpoint)
        server.buckets = {"source": {}, "target": {}, "store": {}}
        server.refuses_copies = False
        server.copies_asked = 0
        self.server = server
        self.source = Source("uploads", self.bucket("source", "live/"))
        self.target = self.bucket("target", "live/")
        self.store = self.bucket("store", "dev/")

    def bucket(self, name: str, prefix: str) -> Bucket:
        return Bucket(BucketAddress(name, prefix, self.credentials), jobs=4, role=f"the {name} bucket")

    def keys(self, bucket: Bucket) -> list[str]:
        return [found.key for found in documents(bucket)]


@pytest.fixture
def place(server: PlainS3) -> Place:
    return Place(server)


HOSTILE = [
    "/leading slash", "//", "a//b", "./x", "a/../b", "../up", " ", "tail/", "k" * 1019, "é" * 509, "\U0001f600" * 254,
    "new\nline", "::error::x", "%2F", "+", "a?b#c", "\ufeff", "\x7f", "﷐", ".fac-backup", ".fac-backupx/y",
]  # fmt: skip


def test_every_key_that_s3_allows_is_backed_up_and_restored(place: Place) -> None:
    for number, key in enumerate(HOSTILE):
        place.source.bucket.put(key, b"%d" % number, content_type="text/plain", metadata={"n": str(number)})
    place.source.bucket.put(".fac-backup/space.json", b"{}")
    result = backup(place.source, place.store, "dev_1", None, SETTLED)
    work = Restore(Listing.of(place.store, result.documents), place.store, place.target, options=SETTLED)
    place.target.put("//extra\n", b"x")
    restore.add(work)
    restore.finish(work)
    assert place.keys(place.target) == sorted(HOSTILE, key=str.encode)
    assert restore.compare(work, deep=True).equal
    again = backup(place.source, place.store, "dev_2", Listing.of(place.store, result.documents), SETTLED)
    assert again.figures == Figures(reused=len(HOSTILE))


def test_the_object_that_a_console_makes_for_the_folder_itself_is_no_document_and_a_restore_leaves_it_alone(
    place: Place,
) -> None:
    place.source.bucket.put("", b"", content_type="application/x-directory")
    place.source.bucket.put("a", b"1")
    result = backup(place.source, place.store, "dev_1", None, SETTLED)
    assert (result.documents.count, result.figures.copied) == (1, 1)
    assert shards.plan_of(place.source.bucket, 2) == shards.plan_of(Listing.of(place.store, result.documents), 2)
    place.target.put("", b"the target's")
    place.target.put("extra", b"x")
    work = Restore(Listing.of(place.store, result.documents), place.store, place.target, options=SETTLED)
    assert (restore.plan(work).add, restore.plan(work).delete) == (1, 1)
    restore.add(work)
    restore.finish(work)
    assert place.server.buckets["target"].keys() == {"live/", "live/a"}
    assert place.target.get("") == b"the target's"
    assert restore.compare(work, deep=True).equal


def test_a_copy_that_the_server_refuses_passes_through_us_with_everything_beside_the_bytes(place: Place) -> None:
    for number in range(30):
        key = f"d{number:02}"
        place.source.bucket.put(key, b"%d" % number, content_type="text/csv", metadata={"a": "b"})
        place.source.bucket.put_tags(key, {"kind": "report"})
    place.server.refuses_copies = True
    result = backup(place.source, place.store, "dev_1", None, SETTLED)
    assert (result.figures.streamed, result.documents.count) == (30, 30)
    assert place.server.copies_asked <= 2 * 4  # once it is clear that the server may not, it is not asked again
    work = Restore(Listing.of(place.store, result.documents), place.store, place.target, options=SETTLED)
    restore.add(work)
    assert place.target.tags("d07") == {"kind": "report"}
    assert restore.compare(work, deep=True).equal


class Addresses:
    """What a restore elsewhere gets instead of the store's key: reading by key, nothing else."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def stream(self, key: str, *, if_match: str | None = None) -> Iterator[bytes]:
        return self._bucket.stream(key)

    def head(self, key: str) -> Any:
        return self._bucket.head(key)


def test_a_restore_may_read_from_anything_that_streams_and_describes(place: Place) -> None:
    place.source.bucket.put("a", b"1", content_type="text/csv", metadata={"x": "y"})
    result = backup(place.source, place.store, "dev_1", None, SETTLED)
    reading = Addresses(place.store)
    work = Restore(Listing.of(reading, result.documents), reading, place.target, options=SETTLED)
    _, added = restore.add(work)
    assert restore.finish(work, added).same == 1
    assert restore.compare(work, deep=True).equal
    (entry,) = work.listing.entries()
    place.store.put(f"documents/uploads/{entry.object[:2]}/{entry.object}", b"X")
    place.target.delete("a")
    with pytest.raises(IntegrityError):
        restore.finish(work)
    assert place.keys(place.target) == []


def test_shards_make_the_same_listing_as_one_machine_and_restore_the_same(place: Place) -> None:
    for number in range(40):
        place.source.bucket.put(f"d{number:02}", b"%d" % number)
    whole = backup(place.source, place.store, "dev_1", None, SETTLED)
    planned = shards.plan_of(Listing.of(place.store, whole.documents), 4)
    assert planned == shards.plan_of(place.source.bucket, 4)
    ranges = shards.Shards.from_json(planned.to_json()).ranges()
    assert len(ranges) == 4

    def run(shard: int) -> Any:
        key = shards.part_key("dev_2", "uploads", shard)
        previous = Listing.of(place.store, whole.documents)
        return backup_range(
            place.source, place.store, "dev_2", previous, between=ranges[shard], key=key, options=SETTLED
        )

    place.source.bucket.put("d05", b"changed")
    parts = [run(shard) for shard in range(4)]
    parts[2] = run(2)  # a job that is run again
    assert [part.documents.count for part in parts] == [10, 10, 10, 10]
    assert [part.figures.copied for part in parts] == [1, 0, 0, 0]
    with pytest.raises(IntegrityError, match="overlap"):
        shards.join(place.store, "dev_2", [part.documents for part in reversed(parts)])
    joined = shards.join(place.store, "dev_2", [part.documents for part in parts])
    assert (joined.count, joined.size) == (40, whole.documents.size + 6)
    again = shards.join(place.store, "dev_2", [part.documents for part in parts])
    assert again == joined, "whoever is killed before the commit joins them once more"

    work = Restore(Listing.of(place.store, joined), place.store, place.target, options=SETTLED)
    place.target.put("a", b"extra, in the first range")
    for one in reversed(ranges):
        restore.add(replace(work, between=one))
        restore.finish(replace(work, between=one))
    assert restore.compare(work, deep=True).equal


def test_what_a_shard_has_restored_is_listed_from_its_record_and_not_stored_again(place: Place) -> None:
    for number in range(6):
        place.source.bucket.put(f"d{number}", b"%d" % number)
    first = backup(place.source, place.store, "dev_1", None, SETTLED).documents
    for key in ("d0", "d1", "d5"):
        place.source.bucket.delete(key)
    place.source.bucket.put("d2", b"somebody's")
    work = Restore(Listing.of(place.store, first), place.store, place.source.bucket, options=SETTLED)
    _, added = restore.add(work)
    record, _ = write(place.store, "record", "uploads", restore.recorded(work, added))
    assert [entry.key for entry in record.entries()] == ["d0", "d1", "d3", "d4", "d5"]
    place.source.bucket.put("d5", b"uploaded since")
    stored = set(place.keys(place.store))

    # All in one range: then no line may be taken for the previous listing's next one.
    found = backup_range(place.source, place.store, "dev_2", Listing.of(place.store, first), between=EVERYTHING,
                         key="part", options=SETTLED, restored=record)  # fmt: skip
    assert (found.figures.reused, found.figures.copied) == (4, 2)
    listed = list(Listing.of(place.store, found.documents).entries())
    now = {one.key: (one.size, one.etag.strip('"')) for one in documents(place.source.bucket)}
    assert {entry.key: (entry.size, entry.etag) for entry in listed} == now
    assert len({key for key in place.keys(place.store) if key.startswith("documents/")} - stored) == 2
    objects = {entry.key: entry.object for entry in Listing.of(place.store, first).entries()}
    assert [entry.object == objects[entry.key] for entry in listed] == [True, True, False, True, True, False]

    # And if the store has lost what the record names, the document is stored again.
    lost = objects["d0"]
    place.store.delete(f"documents/uploads/{lost[:2]}/{lost}")
    found = backup_range(place.source, place.store, "dev_3", None, between=EVERYTHING, key="part3", options=SETTLED,
                         restored=record)  # fmt: skip
    name = next(Listing.of(place.store, found.documents).entries()).object
    assert place.store.get(f"documents/uploads/{name[:2]}/{name}") == b"0"


def test_documents_are_marked_once_and_nobody_else_can_adopt_them(place: Place) -> None:
    bucket = place.target
    assert marker.read(bucket) is None
    with pytest.raises(RefusedError, match="not marked as staging's"):
        marker.require(bucket, "staging", "uploads")
    marker.adopt(bucket, "staging", "uploads")
    marker.adopt(bucket, "staging", "uploads")
    marker.require(bucket, "staging", "uploads")
    marker.renew(bucket, "staging", "uploads")
    for space, label in (("production", "uploads"), ("staging", "public")):
        for asked in (marker.require, marker.adopt, marker.renew):
            with pytest.raises(RefusedError, match=r"is marked as staging's \(uploads\)"):
                asked(bucket, space, label)
    assert marker.read(bucket) == marker.Marker(space="staging", label="uploads")


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b'{"space":"::error::","label":"a"}', b"x" * 10_000])
def test_a_damaged_marker_refuses(place: Place, text: bytes) -> None:
    place.target.put(marker.KEY, text)
    for asked in (marker.require, marker.adopt):
        with pytest.raises(RefusedError, match="damaged"):
            asked(place.target, "staging", "uploads")
