"""A store on a real SeaweedFS: pieces, catalog, records, renewal, sweep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import zstandard

from fac_backup.operations import listing
from fac_backup.operations.surroundings import surroundings
from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import FacBackupError, FailedError, IntegrityError, LockedError, NoSuchBackupError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.plain.manifest import Archive, Database, Documents, Figures, Manifest, Piece, Run
from fac_backup.store import layout, renewal, sweep
from fac_backup.store.bucket import Bucket
from fac_backup.store.catalog import Damaged
from fac_backup.store.pieces import Pieces, pack, unpack
from fac_backup.store.renewal import Ageing
from fac_backup.store.signing import Signer, new_private_pem
from fac_backup.store.store import Store
from fac_backup.store.wire import Wire
from tests.support.s3 import S3Server

NOW = datetime.now(UTC).replace(microsecond=0)
Make = Callable[..., Store]


@pytest.fixture(scope="module")
def bucket_name(s3: S3Server) -> Iterator[str]:
    """One bucket for all tests here, each with a prefix of its own: every bucket costs the server some volumes."""
    name = s3.bucket("store")
    yield name
    s3.client().delete_bucket(Bucket=name)


@pytest.fixture
def backups(s3: S3Server, bucket_name: str) -> Bucket:
    given = S3Credentials(s3.access_key, s3.secret_key, endpoint=s3.endpoint)
    return Bucket(BucketAddress(bucket_name, f"{token_hex(4)}/", given), role="the backups bucket", jobs=8)


@pytest.fixture
def store(backups: Bucket) -> Store:
    made = Store(backups, "dev", clock=lambda: NOW)
    made.open_for_writing()
    return made


def manifest(backup_id: BackupId, pieces: tuple[Piece, ...] = (), **other: Any) -> Manifest:
    whole = Archive(pieces=pieces, size=sum(piece.size for piece in pieces), sha256="0" * 64)
    database = Database(
        server_version=180006, dumped_with=18, encoding="UTF8", collate="C", ctype="C", owner="o", size=1, archive=whole
    )
    return Manifest(
        id=str(backup_id), space=backup_id.space, kind=backup_id.kind, created=backup_id.time, finished=backup_id.time,
        run=Run(tool="1"), figures=Figures(uploaded=0, seconds=0), database=database, **other,
    )  # fmt: skip


def an_id(minutes: int = 0, kind: str = "daily", space: str = "dev") -> BackupId:
    return BackupId.now(space, kind, NOW + timedelta(minutes=minutes))


def test_a_piece_is_stored_once_and_read_back_verified(store: Store) -> None:
    data = b"some text\n" * 50_000
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(store.pieces.add, [data] * 20 + [b"x"]))
    assert len(found) == 2
    assert (store.pieces.figures.uploaded_pieces, store.pieces.figures.reused_pieces) == (2, 19)
    piece = next(piece for piece in found if piece.size > 1)
    assert piece.sha256 == sha256(data).hexdigest()
    assert store.pieces.read(piece) == data
    again = Pieces(store.bucket)
    assert again.load_known() == 2
    assert again.add(data) == piece
    assert (again.figures.uploaded, again.figures.reused) == (0, piece.stored)
    assert again.add(b"new").size == 3
    assert again.figures.uploaded_pieces == 1


def test_a_piece_that_ages_is_uploaded_again(store: Store) -> None:
    piece = store.pieces.add(b"data")
    late = Pieces(store.bucket, due=lambda _, modified: modified < NOW + timedelta(days=1))
    late.load_known()
    assert late.add(b"data") == piece
    assert late.figures.renewed_pieces == 1


def test_a_damaged_missing_oversized_or_bombing_piece_is_an_integrity_error(store: Store) -> None:
    piece = store.pieces.add(b"data" * 1000)
    key = layout.piece_key(piece.sha256)
    good = store.bucket.get(key)
    wrong = [good[:-1], b"", b"junk", pack(b"data" * 999), pack(b"atad" * 1000), good + b"\0", pack(b"\0" * 10_000_000)]
    wrong += [bytes([byte ^ 1 if i == at else byte for i, byte in enumerate(good)]) for at in (0, 5, len(good) - 1)]
    wrong += [zstandard.ZstdCompressor(write_content_size=False).compress(b"data" * 1000), b"x" * 200_000]
    for data in wrong:
        store.bucket.put(key, data)
        with pytest.raises(IntegrityError):
            store.pieces.read(piece)
    store.bucket.delete(key)
    with pytest.raises(IntegrityError, match="missing"):
        store.pieces.read(piece)
    assert unpack(pack(b""), 0) == b""


def test_a_backup_is_there_when_its_manifest_is(store: Store) -> None:
    one, two = an_id(-2), an_id(-1, "pre-deploy")
    for backup_id in (two, one):
        store.catalog.commit(manifest(backup_id), None)
    assert store.catalog.ids() == [one, two]
    assert store.catalog.read(one) == manifest(one)
    with pytest.raises(FailedError, match="already"):
        store.catalog.commit(manifest(one, note="other"), None)
    assert store.catalog.read(one).note == ""
    store.catalog.remove(one)
    with pytest.raises(NoSuchBackupError):
        store.catalog.read(one)
    with pytest.raises(NoSuchBackupError, match="not of dev"):
        store.catalog.read(an_id(space="production"))


def test_nothing_is_committed_without_a_living_lease(store: Store) -> None:
    lease = store.locks.acquire("store", "shared")
    store.locks.break_lock("store")
    lease.renew()
    with pytest.raises(LockedError):
        store.catalog.commit(manifest(an_id()), lease)
    lease.release()
    assert store.catalog.ids() == []
    assert store.tombstones.ids() == [], "it was not even there for a moment"


def test_damaged_foreign_and_future_manifests_are_told_apart_and_break_nothing(store: Store) -> None:
    good, bad, swapped, future = an_id(-5), an_id(-4), an_id(-3), an_id(60)
    store.catalog.commit(manifest(good), None)
    store.catalog.commit(manifest(future), None)
    store.bucket.put(layout.manifest_key(bad), b"{")
    store.bucket.put(layout.manifest_key(swapped), manifest(good).to_json())
    for stray in ("catalog/x.json", f"catalog/{an_id(space='production')}.json"):
        store.bucket.put(stray, b"")
    found = store.catalog.read_all()
    assert [type(entry) for entry in found] == [Manifest, Damaged, Damaged, Manifest]
    assert "damaged" in found[1].why  # type: ignore[union-attr]
    assert "calls itself" in found[2].why  # type: ignore[union-attr]
    assert [entry.future for entry in store.catalog.entries()] == [False, False, False, True]


def test_a_backup_dated_in_the_future_is_read_only_by_what_restores_nothing_of_it_however_well_it_is_signed(
    backups: Bucket,
) -> None:
    key = Signer.from_pem(new_private_pem())
    store = Store(backups, "dev", clock=lambda: NOW, trusted_keys=(key.public_pem(),), require_signed=True)
    soon, by_id, by_manifest = an_id(4), an_id(6), an_id(-1)
    store.catalog.commit(manifest(soon), None, signer=key)
    store.catalog.commit(manifest(by_id), None, signer=key)
    late = manifest(by_manifest).model_copy(update={"created": NOW + timedelta(days=300)})
    store.catalog.commit(late, None, signer=key)
    assert store.catalog.read(soon) == manifest(soon), "clocks differ by as much"
    for backup_id in (by_id, by_manifest):
        with pytest.raises(IntegrityError, match="dated in the future") as caught:
            store.catalog.read(backup_id)
        assert "clock" in caught.value.next_step
        assert store.catalog.read(backup_id, future_too=True).id == str(backup_id)
    store.bucket.delete(layout.signature_key(layout.manifest_key(by_id)))
    with pytest.raises(IntegrityError, match="no signature"):
        store.catalog.read(by_id, future_too=True)


def test_a_taken_id_moves_on_one_second_also_for_eight_at_once(store: Store) -> None:
    store.catalog.commit(manifest(an_id()), None)
    store.tombstones.put(an_id().next_second(), by="purge", rule="7 days")
    with ThreadPoolExecutor(8) as pool:
        found = sorted(pool.map(lambda _: store.catalog.reserve(an_id(), owner="me"), range(8)))
    assert found == [BackupId.now("dev", "daily", NOW + timedelta(seconds=second)) for second in range(2, 10)]


def test_where_signatures_are_required_only_validly_signed_backups_exist(backups: Bucket) -> None:
    mine, other = Signer.from_pem(new_private_pem()), Signer.from_pem(new_private_pem())
    store = Store(backups, "dev", clock=lambda: NOW, trusted_keys=(mine.public_pem(),), require_signed=True)
    signed, unsigned, foreign, changed = (an_id(minute) for minute in (-4, -3, -2, -1))
    store.catalog.commit(manifest(signed), None, signer=mine)
    store.catalog.commit(manifest(unsigned), None)
    store.catalog.commit(manifest(foreign), None, signer=other)
    store.catalog.commit(manifest(changed), None, signer=mine)
    store.bucket.put(layout.manifest_key(changed), manifest(changed, note="forged").to_json())
    assert store.catalog.ids() == [signed]
    assert store.catalog.read_all() == [manifest(signed)]
    assert [entry.signature for entry in store.catalog.entries()] == ["valid", "none", "invalid", "invalid"]
    assert store.catalog.read(signed) == manifest(signed)
    for backup_id in (unsigned, foreign, changed):
        with pytest.raises(IntegrityError, match="sign"):
            store.catalog.read(backup_id)
    store.tombstones.put(signed, by="purge", rule="7 days", signer=mine)
    assert store.keys is not None
    assert store.tombstones.read(signed, store.keys).rule == "7 days"
    store.tombstones.put(foreign, by="?", rule="?", signer=other)
    with pytest.raises(IntegrityError):
        store.tombstones.read(foreign, store.keys)


class RoundTrips:
    """Holds requests back until no more come, and lets them go together: counts how often that is needed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.requests = 0
        self._last = 0.0
        self._waiting = 0
        self._changed = threading.Condition()
        self._ended = threading.Event()
        send = Wire._send

        def held_back(wire: Wire, *arguments: Any, **more: Any) -> Any:
            with self._changed:
                self._last = time.monotonic()
                self._waiting += 1
                self.requests += 1
                mine = self.count
                assert self._changed.wait_for(lambda: self.count > mine, 60)
            return send(wire, *arguments, **more)

        monkeypatch.setattr(Wire, "_send", held_back)
        self._thread = threading.Thread(target=self._let_go)

    def _let_go(self) -> None:
        while not self._ended.wait(0.02):
            with self._changed:
                if self._waiting and time.monotonic() - self._last > 0.5:
                    self.count += 1
                    self._waiting = 0
                    self._changed.notify_all()

    def __enter__(self) -> RoundTrips:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_a_hundred_backups_are_listed_in_two_round_trips_and_without_their_pieces(
    s3: S3Server, backups: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = Store(backups, "default", clock=lambda: NOW)
    store.open_for_writing()
    pieces = tuple(Piece(sha256=f"{number:064x}", size=1, stored=1) for number in range(50))
    with store.bucket.parallel() as pool:
        ids = [an_id(-minute, space="default") for minute in range(100)]
        list(pool.map(lambda one: store.catalog.commit(manifest(one, pieces), None), ids))
    store.holds.hold(ids[3], by="somebody")
    store.audit.record("verify", "done", facts={"backup_id": str(ids[0]), "level": "objects"})
    store.journal.begin("restore", owner="somebody", step="building")
    assert all(entry.manifest is not None and entry.manifest.pieces() == () for entry in store.catalog.summaries())
    assert all(isinstance(entry, Manifest) and entry.pieces() == pieces for entry in store.catalog.read_all())

    place = {"FAC_BACKUP_BUCKET": f"s3://{backups.address.name}/{backups.address.prefix}", **s3.env()}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # where no matrix is
    around = surroundings(doing="list", matrix_file="", inside_actions=False, jobs=2)
    with RoundTrips(monkeypatch) as trips:
        data = listing.run(listing.ListRequest(), around).data
    assert [len(data["backups"]), data["backups"][0]["verified"]["passed"], data["backups"][3]["held"]] == [
        100, True, True,
    ]  # fmt: skip
    assert trips.count == 2
    assert trips.requests < 115


def test_a_sweep_deletes_a_thousand_at_a_time(backups: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"objects/{number:05}" for number in range(2_300)]
    with backups.parallel() as pool:
        list(pool.map(lambda key: backups.put(key, b"x"), keys))
    client, batches, together = backups.client(), list[int](), threading.Barrier(3)
    delete = client.delete_objects

    def counted(**asked: Any) -> Any:
        batches.append(len(asked["Delete"]["Objects"]))
        together.wait(30)  # all three are in flight at once, or this breaks
        return delete(**asked)

    monkeypatch.setattr(client, "delete_objects", counted)
    assert backups.delete_many(keys) == 2_300
    assert sorted(batches) == [300, 1000, 1000]
    assert not list(backups.list())


def test_a_store_of_another_format_is_refused_and_its_own_is_kept_young(backups: Bucket, store: Store) -> None:
    assert store.open_for_reading()
    before = store.bucket.head("format.json")
    store.open_for_writing()
    time.sleep(1.1)
    Store(backups, "dev", clock=lambda: NOW + timedelta(days=2)).open_for_writing()
    after = store.bucket.head("format.json")
    assert before is not None
    assert after is not None
    assert after.modified > before.modified
    store.bucket.put("format.json", b'{"format": 2}')
    with pytest.raises(FailedError, match="another format"):
        store.open_for_writing()
    store.bucket.put("format.json", b"[")
    with pytest.raises(IntegrityError):
        store.open_for_reading()
    assert not Store(backups, "empty").open_for_reading()


def test_holds_pins_audit_and_journal_keep_what_they_are_told(store: Store) -> None:
    backup_id = an_id()
    store.holds.hold(backup_id, by="me", reason="an audit")
    store.holds.hold(backup_id, by="me")
    assert store.holds.held() == {backup_id}
    store.holds.release(backup_id)
    assert store.holds.held() == frozenset()

    with store.pins.pinned(backup_id, by="staging's restore"):
        assert store.pins.active() == {backup_id}
    token = store.pins.put(backup_id, by="x", seconds=0.1)
    time.sleep(1.2)
    assert store.pins.active() == frozenset()
    assert store.pins.expired() == [f"pins/{backup_id}/{token}.json"]

    store.audit.record("backup", "done", actor="me", facts={"id": str(backup_id)})
    assert [record.result for record in store.audit.since(NOW - timedelta(days=1))] == ["done"]
    assert store.audit.since(NOW + timedelta(days=1)) == []

    entry, etag = store.journal.begin("restore", owner="me", step="checked", data={"new": "db_1"})
    moved, etag2 = store.journal.advance(entry, etag, "swapped", {"old": "db_0"})
    assert moved.data == {"new": "db_1", "old": "db_0"}
    with pytest.raises(FailedError, match="same time"):
        store.journal.advance(entry, etag, "swapped")
    assert store.journal.unfinished() == [(moved, etag2)]
    store.journal.finish(moved)
    assert store.journal.unfinished() == []


def _filled(store: Store) -> tuple[Manifest, list[str]]:
    needed = store.pieces.add(b"needed")
    store.pieces.add(b"left over")
    kept = manifest(store.catalog.reserve(an_id()), (needed,))
    killed = store.catalog.reserve(an_id(-60))
    store.bucket.put(layout.own_key(killed, "documents-uploads.jsonl.zst"), b"x")
    store.bucket.put(f"catalog/{killed}.json.sig", b"x")
    for name in ("aa1", "bb2"):
        store.bucket.put(layout.document_key("uploads", name), b"document")
    listing = Documents(label="uploads", listing="l", listing_sha256="0" * 64, listing_size=0, count=1, size=8)
    kept = kept.model_copy(update={"documents": (listing,)})
    store.catalog.commit(kept, None)
    wanted = [layout.piece_key(needed.sha256), "documents/uploads/aa/aa1", f"backups/{kept.id}/begun"]
    wanted.append(f"backups/{kept.id}/RESTORE.md")
    return kept, [*wanted, f"catalog/{kept.id}.json", "format.json"]


def test_a_sweep_removes_exactly_what_no_backup_needs_and_nothing_young(store: Store) -> None:
    kept, wanted = _filled(store)
    everything = {info.key for info in store.bucket.list()}
    found = sweep.needed(store.catalog, lambda one: ["documents/uploads/aa/aa1"] if one.id == kept.id else [])
    young = sweep.plan(store.bucket, found, store.now())
    assert (young.unneeded, young.kept_young) == ((), 5)
    with store.locks.acquire("store", "exclusive") as lease:
        chosen = sweep.plan(store.bucket, found, store.now() + timedelta(days=2))
        assert {info.key for info in store.bucket.list()} >= everything
        assert sweep.execute(store.bucket, chosen, lease) == 5
    assert {info.key for info in store.bucket.list() if not info.key.startswith("locks/")} == set(wanted)
    assert store.pieces.read(kept.pieces()[0]) == b"needed"


def test_nothing_is_swept_while_a_manifest_cannot_be_read_or_the_lock_is_lost(store: Store) -> None:
    _filled(store)
    chosen = sweep.plan(store.bucket, sweep.Needed(), store.now(), young=timedelta(0))
    before = sorted(info.key for info in store.bucket.list())
    lease = store.locks.acquire("store", "exclusive")
    store.locks.break_lock("store")
    lease.renew()
    with pytest.raises(LockedError):
        sweep.execute(store.bucket, chosen, lease)
    lease.release()
    assert {*before} <= {info.key for info in store.bucket.list()}
    store.bucket.put(layout.manifest_key(an_id(-3)), b"{")
    with pytest.raises(FailedError, match="Nothing is swept"):
        sweep.needed(store.catalog, lambda _: [])


def test_needed_objects_are_renewed_with_all_they_have_and_only_when_due(store: Store) -> None:
    kept, _ = _filled(store)
    found = sweep.needed(store.catalog, lambda _: ["documents/uploads/aa/aa1"])
    ageing = Ageing(60)
    assert sweep.plan(store.bucket, found, store.now() + timedelta(days=14), ageing=ageing).due == ()
    late = sweep.plan(store.bucket, found, store.now() + timedelta(days=31), ageing=ageing).due
    assert {info.key for info in late} >= {layout.piece_key(kept.pieces()[0].sha256), "documents/uploads/aa/aa1"}
    time.sleep(1.1)
    gone = late[0]._replace(key="objects/gone")
    assert renewal.renew(store.bucket, [*late, gone]).objects == len(late)
    before = {info.key: info.modified for info in late}
    after = {info.key: info.modified for info in store.bucket.list()}
    assert all(after[key] > before[key] for key in before)
    assert store.pieces.read(kept.pieces()[0]) == b"needed"
    assert renewal.renew_small(store.bucket, ageing, store.now() + timedelta(days=31)).objects >= 1


def test_every_error_of_a_store_is_one_of_ours(store: Store) -> None:
    nowhere = BucketAddress(store.bucket.address.name + "-no", "", store.bucket.address.credentials)
    other = Store(Bucket(nowhere, role="the backups bucket"), "dev")
    for work in (other.open_for_writing, other.catalog.read_all, other.pieces.load_known, other.holds.held):
        with pytest.raises(FacBackupError, match="does not exist") as caught:
            work()
        assert nowhere.name not in caught.value.line()
