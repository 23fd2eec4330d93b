"""Step summaries in a real browser, laid out as GitHub does: accessible, nothing sticks out, nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from fac_backup.report import summary
from tests.support import browser, summaries
from tests.unit.report.samples import HOSTILE, NOW
from tests.unit.report.test_summary import full

pytestmark = pytest.mark.skipif(
    not browser.available(), reason="Chromium or npm is missing: `make setup` installs them"
)


def test_summaries_are_accessible_and_fit_phone_and_desk_in_light_and_dark(tmp_path: Path) -> None:
    path = tmp_path / "all.html"
    every = "\n\n".join(summary.render(outcome, NOW) for outcome in summaries.outcomes().values())
    path.write_text(summaries.shown(every), encoding="utf-8")
    for view in browser.look(path)["views"]:
        found = (view["violations"], view["requests"], view["messages"], view["overflow"])
        assert found == ([], [], [], 0), view["name"]


def test_hostile_names_do_nothing_in_a_summary_even_where_nobody_cleans_it(tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(summaries.shown("\n\n".join(summary.render(full(text), NOW) for text in HOSTILE)), encoding="utf-8")
    (view,) = browser.look(path, browser.VIEWS[:1], axe=False)["views"]
    assert (view["pwned"], view["requests"], view["messages"]) == (None, [], [])
