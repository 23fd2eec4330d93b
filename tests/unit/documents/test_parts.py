"""The small parts: merging, ordering, what a store holds, splitting, places that overlap."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import UTC, datetime
from heapq import heappop, heappush
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fac_backup.documents import known
from fac_backup.documents.known import Known
from fac_backup.documents.merge import side_by_side
from fac_backup.documents.pace import Pace
from fac_backup.documents.shards import Shards, plan
from fac_backup.documents.source import check_places
from fac_backup.documents.transfer import Room
from fac_backup.documents.window import AHEAD, Task, in_order
from fac_backup.plain.errors import IntegrityError, UsageError
from fac_backup.plain.locations import BucketAddress, S3Credentials
from fac_backup.store.bucket import ObjectInfo

KEYS = st.sets(st.text(min_size=1, max_size=5), max_size=30)


@given(KEYS, KEYS)
def test_two_streams_side_by_side_show_each_key_once_in_order(left: set[str], right: set[str]) -> None:
    pairs = list(side_by_side(sorted(left), sorted(right), lambda key: key, lambda key: key))
    assert [one or other for one, other in pairs] == sorted(left | right)
    assert {one for one, _ in pairs if one} == left
    assert {other for _, other in pairs if other} == right


def test_results_come_in_the_order_of_their_tasks_with_few_in_flight() -> None:
    begun = 0

    def steps() -> Iterator[int | Task[int]]:
        nonlocal begun
        for number in range(500):
            begun += 1
            yield number if number % 3 else Task(lambda number=number: time.sleep(0.001 * (number % 5)) or number)

    seen = 0
    for result in in_order(steps(), 4):
        assert result == seen
        seen += 1
        assert begun - seen <= 3 * AHEAD * 4 + 3
    assert seen == 500


def test_after_a_failure_nothing_begins_and_what_has_begun_is_waited_for() -> None:
    running, began = set[int](), []
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            running.add(number)
            began.append(number)
        time.sleep(0.01)
        with lock:
            running.discard(number)
        if number == 5:
            raise OSError("no")
        return number

    with pytest.raises(OSError, match="no"):
        list(in_order((Task(lambda number=number: work(number)) for number in range(1000)), 2))
    assert not running
    assert len(began) < 5 + AHEAD * 2 + 3


class Endpoint:
    """Answers after about ``wait`` seconds, ``most`` requests a second, and all above ``tired`` at a time with 503."""

    def __init__(self, wait: float, most: float = 1e9, tired: int = 10**9) -> None:
        self._wait, self._most, self._tired = wait, most, tired
        self._varying = Random(7)
        self._flying: list[tuple[float, bool]] = []
        self._last = 0.0
        self.now = 0.0
        self.slowed = 0

    def serve(self, pace: Pace, requests: int) -> list[int]:
        limits = []
        for _ in range(requests):
            while len(self._flying) < pace.limit:
                pace.__enter__()
                self._last = max(self._last + 1 / self._most, self.now)
                end = max(self._last, self.now + self._wait * self._varying.uniform(0.8, 1.2))
                heappush(self._flying, (end, len(self._flying) >= self._tired))
            self.now, refused = heappop(self._flying)
            self.slowed += refused
            pace.__exit__()
            limits.append(pace.limit)
        return limits


@pytest.mark.parametrize(
    ("endpoint", "least", "most"),
    [
        (Endpoint(0.05), 122, 128),
        (Endpoint(0.05, most=300), 16, 24),
        (Endpoint(0.05, most=1000), 36, 81),
        (Endpoint(0.05, tired=40), 18, 60),
    ],
    ids=["takes all", "busy at once", "busy later", "says so"],
)
def test_as_many_copies_are_in_flight_as_the_endpoint_takes(endpoint: Endpoint, least: int, most: int) -> None:
    pace = Pace(16, 128, lambda: endpoint.slowed, lambda: endpoint.now)
    settled = endpoint.serve(pace, 60_000)[20_000:]
    assert least <= min(settled)
    assert max(settled) <= most


def test_one_overload_that_many_requests_are_told_of_halves_once_and_the_next_one_again() -> None:
    now, slowed = 0.0, 0
    pace = Pace(128, 128, lambda: slowed, lambda: now)

    def serve(*, every: int) -> None:
        nonlocal now, slowed
        flying = pace.limit
        for _ in range(flying):
            pace.__enter__()
        for number in range(flying):
            now += 0.001
            slowed += number % every == 0
            pace.__exit__()

    for limit in (64, 32):
        serve(every=16)
        assert pace.limit == limit
        for _ in range(2):
            serve(every=10**9)
        assert pace.limit == limit


def test_whoever_waits_for_its_turn_when_all_is_over_never_begins() -> None:
    pace = Pace(1, 8, lambda: 0)
    refused = threading.Event()

    def wait() -> None:
        with pytest.raises(CancelledError), pace:
            pass
        refused.set()

    with pace:
        thread = threading.Thread(target=wait)
        thread.start()
        pace.stop()
        assert refused.wait(5)
    thread.join()


def test_documents_that_pass_through_us_share_one_room_and_a_huge_one_goes_alone() -> None:
    room, lock = Room(100), threading.Lock()
    held, most, together = 0, 0, 0

    def stream(size: int) -> None:
        nonlocal held, most, together
        with room.taken(size):
            with lock:
                held += size
                most = max(most, held)
                together += held > 500 and held != 1000
            time.sleep(0.002)
            with lock:
                held -= size

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(stream, [30, 30, 30, 1000, 40, 30, 60, 10] * 5))
    assert most == 1000
    assert together == 0


class Lister:
    """A bucket that only lists."""

    def __init__(self, *found: ObjectInfo) -> None:
        self.found = found

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        below = [one for one in self.found if one.key.startswith(prefix) and one.key > start_after]
        return iter(sorted(below, key=lambda one: one.key))


@pytest.mark.parametrize("few", [1, 2, 4, 5, 6, 7, known.FEW])
def test_known_tells_an_object_by_name_size_and_etag_however_the_store_is_listed(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "FEW", few)
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    names = [f"{number:064x}" for number in (1, 2, 1 << 255)] + ["ab" * 32]
    odd = ["documents/uploads/xx/short", "documents/uploads/00/" + "g" * 64, f"documents/uploads/ff/{names[0]}"]
    keys = [f"documents/uploads/{name[:2]}/{name}" for name in names]
    there: Any = Known(Lister(*(ObjectInfo(key, 5, '"e"', moment) for key in [*keys, *odd])), "uploads")  # type: ignore[arg-type]
    assert len(there) == 4
    for name in names:
        assert there.has(name, 5, "e")
        assert not there.has(name, 6, "e")
        assert not there.has(name, 5, "f")
        assert there.written(name) == moment
    assert not there.holds("cd" * 32)
    assert there.written("cd" * 32) is None


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)), st.integers(1, 9))
def test_shards_hold_every_key_exactly_once(keys: set[str], count: int) -> None:
    shards = Shards.from_json(plan(sorted(keys), count).to_json())
    ranges = shards.ranges()
    assert 1 <= len(ranges) <= count
    for key in keys:
        assert sum(key in one for one in ranges) == 1


def test_shards_are_about_equal_and_planned_in_little_memory() -> None:
    keys = [f"{number:06}" for number in range(50_000)]
    sizes = [sum(key in one for key in keys) for one in plan(keys, 4).ranges()]
    assert max(sizes) - min(sizes) < 50_000 * 0.01


@pytest.mark.parametrize("text", [b"", b"{}x", b'{"cuts":["b","a"]}', b'{"cuts":["a","a"]}', b'{"cuts":[""]}'])
def test_a_damaged_plan_of_shards_is_an_integrity_error(text: bytes) -> None:
    with pytest.raises(IntegrityError):
        Shards.from_json(text)


def at(text: str, endpoint: str = "") -> BucketAddress:
    return BucketAddress.parse(text, S3Credentials(endpoint=endpoint))


@pytest.mark.parametrize(
    ("labels", "store", "said"),
    [
        ([("a", "s3://one"), ("b", "s3://one")], "s3://other", "a and b overlap"),
        ([("a", "s3://one/x"), ("b", "s3://one/x/y")], "s3://other", "a and b overlap"),
        ([("a", "s3://one"), ("b", "s3://one/x")], "s3://other", "a and b overlap"),
        ([("a", "s3://one"), ("a", "s3://two")], "s3://other", "given twice"),
        ([("A b", "s3://one")], "s3://other", "lower-case"),
        ([("a", "s3://one")], "s3://one/backups", "where backups are kept"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels: list[tuple[str, str]], store: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_places([(label, at(place)) for label, place in labels], at(store))


def test_labels_side_by_side_are_fine() -> None:
    check_places([("a", at("s3://one/x")), ("b", at("s3://one/xy")), ("c", at("s3://two"))], at("s3://one/backups"))
