from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from fac_backup.store.renewal import Ageing

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_over_months_of_daily_runs_nothing_grows_older_than_half_and_no_day_renews_everything() -> None:
    ageing = Ageing(60)
    names = [f"objects/{i:04x}" for i in range(600)]
    modified = dict.fromkeys(names, START)
    share: Counter[int] = Counter()
    for day in range(250):
        now = START + timedelta(days=day, hours=3)
        for name in names:
            if ageing.is_due(name, modified[name], now):
                modified[name] = now
                share[day] += 1
            assert now - modified[name] <= timedelta(days=31)
    assert max(share.values()) < len(names) * 0.13
    assert ageing.expires(START) == START + timedelta(days=60)
