from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fac_backup.plain.backup_id import BackupId
from fac_backup.plain.errors import UsageError
from fac_backup.policy.matrix import DEFAULT, Matrix, load
from fac_backup.policy.model import Rule, Space
from fac_backup.policy.retention import CLOCK_TOLERANCE, Candidate, plan

ZONES = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Africa/Cairo",
]


def matrix(rule: Rule | None, zone: str = "UTC", kind: str = "hourly") -> Matrix:
    return Matrix(version=1, time_zone=zone, spaces={"prod": Space()}, kinds={kind: rule})


def backup(moment: datetime, kind: str = "hourly", **flags: bool) -> Candidate:
    return Candidate(BackupId.now("prod", kind, moment), **flags)


def kept(backups: Sequence[Candidate], policy: Matrix, now: datetime) -> list[str]:
    return [str(decision.id) for decision in plan(backups, policy, "prod", now) if decision.keep]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_n_days_are_the_last_n_dates_today_included():
    days = [backup(utc(f"2026-11-{day:02}T20:00")) for day in range(10, 23)]
    decisions = plan(days, matrix(Rule(keep_days=7)), "prod", utc("2026-11-22T23:59"))
    assert [d.id.time.day for d in decisions if d.keep] == [16, 17, 18, 19, 20, 21, 22]
    assert decisions[-2].expires == utc("2026-11-28")


def test_dates_are_those_of_the_matrix_not_of_utc():
    # 03:30 UTC on the 22nd is still the evening of the 21st in New York.
    old, new = backup(utc("2026-11-22T03:30")), backup(utc("2026-11-22T22:00"))
    one_day = Rule(keep_days=1)
    assert len(kept([old, new], matrix(one_day, "UTC"), utc("2026-11-22T23:00"))) == 2
    assert kept([old, new], matrix(one_day, "America/New_York"), utc("2026-11-22T23:00")) == [str(new.id)]


@pytest.mark.parametrize(
    ("made", "expires"),
    [
        ("2026-03-07T22:00", "2026-03-08T05:00"),  # the 8th has 23 hours, and begins in winter time
        ("2026-03-08T22:00", "2026-03-09T04:00"),  # the 9th begins in summer time
        ("2026-10-31T22:00", "2026-11-01T04:00"),
        ("2026-11-01T22:00", "2026-11-02T05:00"),  # after a day of 25 hours
    ],
)
def test_a_day_of_23_or_25_hours_is_one_day(made: str, expires: str):
    old, new = backup(utc(made)), backup(utc("2026-11-30T00:00"))
    policy = matrix(Rule(keep_days=1), "America/New_York")
    now = utc(expires)
    newest_of_the_time = backup(now)
    decisions = plan([old, newest_of_the_time], policy, "prod", now - timedelta(seconds=1))
    assert decisions[0].keep
    assert decisions[0].expires == now
    assert not plan([old, newest_of_the_time], policy, "prod", now)[0].keep
    assert plan([old, new], policy, "prod", utc("2026-11-30T01:00"))[1].expires is None


def test_a_midnight_that_the_clocks_skip_ends_the_day_all_the_same():
    # In Cairo summer time begins at midnight: 2026-04-24 has no 00:00.
    old, new = backup(utc("2026-04-23T12:00")), backup(utc("2026-04-23T21:00"))
    decision = plan([old, new], matrix(Rule(keep_days=1), "Africa/Cairo"), "prod", utc("2026-04-23T21:30"))[0]
    assert decision.expires == utc("2026-04-23T22:00")


def test_the_newest_stays_however_old():
    one = backup(utc("2020-01-01T00:00"))
    decision = plan([one], matrix(Rule(keep_days=1)), "prod", utc("2026-11-22T00:00"))[0]
    assert (decision.keep, decision.rule, decision.expires) == (True, "newest", None)


def test_each_kind_has_its_own_newest_and_its_own_rule():
    fac = load("version: 1\nspaces: {prod: {retention: {pre-deploy: {keep_newest: 2}, daily: {keep_days: 7}}}}")
    deploys = [backup(utc(f"2026-01-{day:02}T00:00"), "pre-deploy") for day in (1, 2, 3)]
    daily = [backup(utc("2025-12-01T00:00"), "daily")]
    decisions = plan(deploys + daily, fac, "prod", utc("2026-11-22T00:00"))
    assert [d.keep for d in decisions] == [False, True, True, True]


def test_a_held_backup_stays_and_still_counts():
    held, other = backup(utc("2026-01-02T00:00"), held=True), backup(utc("2026-01-01T00:00"))
    decisions = plan([held, other], matrix(Rule(keep_newest=1)), "prod", utc("2026-11-22T00:00"))
    assert [(d.keep, d.rule) for d in decisions] == [(True, "held"), (False, "keep the newest")]


@pytest.mark.parametrize("planted", [{"future": True}, {"signed_ok": False}])
def test_a_planted_backup_pushes_no_good_one_out_and_is_not_removed(planted: dict[str, bool]):
    good = backup(utc("2020-01-01T00:00"))
    bad = backup(utc("2026-11-21T00:00"), **planted)
    decisions = plan([good, bad], matrix(Rule(keep_newest=1)), "prod", utc("2026-11-22T00:00"))
    assert [(d.keep, d.rule) for d in decisions] == [(True, "newest"), (True, "not counted")]


def test_a_backup_dated_in_the_future_counts_for_nothing():
    good, planted = backup(utc("2026-11-01T00:00")), backup(utc("2027-11-01T00:00"))
    decisions = plan([good, planted], matrix(Rule(keep_days=1)), "prod", utc("2026-11-22T00:00"))
    assert [d.rule for d in decisions] == ["newest", "not counted"]
    slightly_ahead = backup(utc("2026-11-22T00:03"))
    assert plan([slightly_ahead], matrix(Rule(keep_days=1)), "prod", utc("2026-11-22T00:00"))[0].rule == "newest"


def test_a_kind_without_a_rule_is_kept():
    backups = [backup(utc("2020-01-01T00:00"), "gone"), backup(utc("2026-01-01T00:00"), "gone")]
    assert [d.rule for d in plan(backups, DEFAULT_PROD, "prod", utc("2026-11-22T00:00"))] == ["no rule", "no rule"]


DEFAULT_PROD = Matrix(version=1, spaces={"prod": Space()})


def test_manual_and_pre_restore_are_kept_seven_days_without_a_word_in_the_matrix():
    for kind in ("manual", "pre-restore"):
        backups = [backup(utc(f"2026-11-{day:02}T12:00"), kind) for day in (15, 16, 22)]
        assert [d.keep for d in plan(backups, DEFAULT_PROD, "prod", utc("2026-11-22T13:00"))] == [False, True, True]


def test_a_space_that_the_matrix_does_not_have_and_a_foreign_backup_are_errors():
    with pytest.raises(UsageError):
        plan([], DEFAULT, "prod", utc("2026-11-22T00:00"))
    with pytest.raises(ValueError, match="another space"):
        plan([backup(utc("2026-11-22T00:00"))], DEFAULT, "default", utc("2026-11-22T00:00"))


# The rule said a second time, slowly: no sorting, no arithmetic of moments, only a calendar turned back page by page.


def oracle(backups: Sequence[Candidate], rule: Rule, zone: str, now: datetime) -> set[BackupId]:
    """The ids that go."""
    counted = [b for b in backups if b.signed_ok and not b.future and b.id.time <= now + CLOCK_TOLERANCE]
    last_dates: list[date] = []
    if rule.keep_days:
        page = now.astimezone(ZoneInfo(zone)).date()
        while len(last_dates) < rule.keep_days:
            last_dates.append(page)
            page = date.fromordinal(page.toordinal() - 1)
    gone = set()
    for one in counted:
        newer = [other for other in counted if other.id.time > one.id.time]
        if one.held or not newer:
            continue
        made = one.id.time.astimezone(ZoneInfo(zone)).date()
        stays = (
            len(newer) < rule.keep_newest
            if rule.keep_newest is not None
            else made in last_dates or made > last_dates[0]
        )
        if not stays:
            gone.add(one.id)
    return gone


NOW = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
RULES = st.one_of(
    st.integers(1, 9).map(lambda n: Rule(keep_days=n)), st.integers(1, 5).map(lambda n: Rule(keep_newest=n))
)


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[Candidate], Rule, str, datetime]:
    now = draw(NOW)
    minutes = draw(st.lists(st.integers(-60 * 24 * 12, 60 * 24), max_size=12, unique=True))
    flag = st.sampled_from([False, False, False, True])
    backups = [
        backup(now + timedelta(minutes=m), held=draw(flag), signed_ok=not draw(flag), future=draw(flag))
        for m in minutes
    ]
    return backups, draw(RULES), draw(st.sampled_from(ZONES)), now


@settings(max_examples=300, deadline=None)
@given(stores())
def test_the_plan_is_the_one_that_a_calendar_gives(store: tuple[list[Candidate], Rule, str, datetime]):
    backups, rule, zone, now = store
    gone = {d.id for d in plan(backups, matrix(rule, zone), "prod", now) if not d.keep}
    assert gone == oracle(backups, rule, zone, now)


@settings(max_examples=200, deadline=None)
@given(stores())
def test_what_holds_for_every_plan(store: tuple[list[Candidate], Rule, str, datetime]):
    backups, rule, zone, now = store
    policy = matrix(rule, zone)
    decisions = plan(backups, policy, "prod", now)
    assert [d.id for d in decisions] == [b.id for b in backups]
    assert all(d.reason.endswith(".") for d in decisions)
    counted = [b for b in backups if b.signed_ok and not b.future and b.id.time <= now + CLOCK_TOLERANCE]
    if counted:
        newest = max(counted, key=lambda b: b.id.time)
        assert next(d for d in decisions if d.id == newest.id).keep
    gone = {d.id for d in decisions if not d.keep}
    assert not gone & {b.id for b in backups if b.held}
    # Carried out, the plan has nothing more to do; and what is planted changes nothing for the others.
    rest = [b for b in backups if b.id not in gone]
    assert all(d.keep for d in plan(rest, policy, "prod", now))
    assert {d.id for d in plan(counted, policy, "prod", now) if not d.keep} == gone
    # An announced end is kept to the second.
    for decision in decisions:
        if decision.keep and decision.expires is not None:
            before = plan(backups, policy, "prod", decision.expires - timedelta(seconds=1))
            after = plan(backups, policy, "prod", decision.expires)
            assert next(d for d in before if d.id == decision.id).keep
            assert not next(d for d in after if d.id == decision.id).keep


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), st.integers(1, 5), NOW)
def test_daily_backups_and_purges_keep_exactly_n_dates(zone: str, days: int, start: datetime):
    policy, store = matrix(Rule(keep_days=days), zone), []
    for day in range(days + 3):
        now = start + timedelta(days=day)
        store.append(backup(now))
        gone = {d.id for d in plan(store, policy, "prod", now) if not d.keep}
        store = [b for b in store if b.id not in gone]
    # Every 24 hours is every date once, but where the clocks change: one more or less.
    assert abs(len(store) - days) <= 1
