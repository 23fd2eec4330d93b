"""What a space has to worry about."""

from __future__ import annotations

from datetime import timedelta

from fac_backup.report.notices import FRESH_SECONDS, notices
from fac_backup.report.views import Verified

from .samples import NOW, row


def texts(*rows: object, **options: object) -> list[str]:
    return [notice.text for notice in notices(rows, NOW, **options)]  # type: ignore[arg-type]


def test_a_sound_and_fresh_space_has_nothing_to_worry_about() -> None:
    assert texts(row(hours=20), row(kind="pre-deploy", hours=300), fresh={"daily": FRESH_SECONDS}) == []


def test_an_empty_space_is_serious_and_said_once() -> None:
    assert texts(fresh={"daily": FRESH_SECONDS}) == ["There is no backup that could be restored."]


def test_an_old_newest_backup_is_noticed_for_each_kind_that_must_be_fresh() -> None:
    old = row(hours=30)
    assert texts(old, fresh={"daily": FRESH_SECONDS}) == ["The newest daily backup is 30 h 0 min old."]
    assert texts(old, fresh={"hourly": 3600}) == ["There is no hourly backup."]


def test_damaged_unsigned_and_future_backups_do_not_count_as_fresh() -> None:
    for fake in (row(damaged="cut"), row(signed=False), row(hours=-5)):
        assert "The newest daily backup is 30 h 0 min old." in texts(
            fake, row(hours=30), fresh={"daily": FRESH_SECONDS}
        )


def test_failed_verification_damage_missing_signatures_and_expiring_objects_are_named() -> None:
    shown = texts(
        row(hours=1, verified=Verified(NOW, "restore", False)),
        row(hours=2, damaged="its manifest is cut"),
        row(hours=3, signed=False),
        row(hours=4, objects_expire=NOW + timedelta(days=3)),
    )
    assert [text.split(" ", 1)[1] for text in shown] == [
        "failed its verification on 2026-11-22 22:20 UTC.",
        "is damaged: its manifest is cut",
        "backup without a valid signature cannot be restored.",
        "bucket will delete objects that backups need from 2026-11-25 22:20 UTC on.",
    ]


def test_serious_notices_come_first() -> None:
    found = notices((row(hours=-5), row(hours=2, damaged="cut")), NOW)
    assert [notice.serious for notice in found] == sorted((notice.serious for notice in found), reverse=True)
