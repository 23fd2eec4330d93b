"""The catalog page in a real browser: accessible, silent on the network, usable by keyboard, no way to inject."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from fac_backup.report import page
from fac_backup.report.notices import FRESH_SECONDS, notices
from fac_backup.report.views import BackupRow, CatalogView, Notice, SpaceView, Target, Verified
from tests.support import browser
from tests.unit.report.samples import HOSTILE, NOW, row

pytestmark = pytest.mark.skipif(
    not browser.available(), reason="Chromium or npm is missing: `make setup` installs them"
)


def space(name: str, *rows: BackupRow) -> SpaceView:
    backups = tuple(sorted(rows, key=lambda one: one.age_seconds))
    rules = (("pre-deploy", "the 2 newest"), ("daily", "a rolling 7 days"))
    return SpaceView(name, backups, notices(backups, NOW, fresh={"daily": FRESH_SECONDS}), rules, 8_900_000_000)


@pytest.fixture(scope="module")
def catalog() -> CatalogView:
    """A space with everything that a page can show, one with little, one with nothing."""
    production = space(
        "production",
        *(row(hours=2 + 24 * day, documents_bytes=4_200_000_000 - day * 60_000_000) for day in range(3)),
        row(kind="pre-deploy", hours=5, note="release 2026-11-22", expires=None, rule="newest"),
        row(kind="manual", hours=100, held=True),
        row(kind="pre-restore", hours=75, verified=Verified(NOW, "objects", False)),
        row(kind="daily", hours=200, damaged="its manifest is cut"),
        row(kind="daily", hours=210, signed=False),
        row(kind="daily", hours=-5, verified=Verified(NOW, "restore", True)),
        row(kind="daily", hours=220, objects_expire=NOW + timedelta(days=2)),
    )
    dev = space("dev", row("dev", hours=3), row("dev", hours=30))
    return CatalogView(NOW, (production, dev, space("staging")), restore_url="https://github.com/o/r/actions")


@pytest.fixture(scope="module")
def seen(catalog: CatalogView, tmp_path_factory: pytest.TempPathFactory) -> dict:  # type: ignore[type-arg]
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page.render(catalog), encoding="utf-8")
    return browser.look(path, steps=True)


def test_axe_finds_no_violation_on_phone_and_desk_in_light_and_dark(seen: dict) -> None:  # type: ignore[type-arg]
    assert [(view["name"], view["violations"]) for view in seen["views"]] == [(v.name, []) for v in browser.VIEWS]
    assert min(view["passes"] for view in seen["views"]) > 20
    assert len({view["background"] for view in seen["views"]}) == 2


def test_nothing_is_fetched_nothing_is_complained_about_and_nothing_sticks_out(seen: dict) -> None:  # type: ignore[type-arg]
    for view in seen["views"]:
        assert (view["requests"], view["messages"], view["overflow"]) == ([], [], 0), view["name"]


def test_it_is_used_by_keyboard_and_says_what_it_did(seen: dict) -> None:  # type: ignore[type-arg]
    steps = seen["steps"]
    assert steps["tabsToCopy"] < 10
    assert steps["outline"] == "solid"
    assert steps["wanted"] == "production_20261122T202000Z_daily"
    assert steps["copied"] == steps["wanted"]
    assert steps["said"] == f"Copied {steps['wanted']}"


def test_it_filters_and_jumps_from_the_timeline_to_the_entry(seen: dict) -> None:  # type: ignore[type-arg]
    steps = seen["steps"]
    assert (steps["shown"], steps["filtered"], steps["found"]) == (12, 1, "1 of 12")
    assert steps["jumpedTo"] == steps["jumpWanted"]


def hostile_catalog() -> CatalogView:
    rows = tuple(
        BackupRow(text, text, text, NOW - timedelta(hours=hour), hour * 3600.0, note=text, rule=text,
                  damaged=text if hour % 3 == 0 else None, restorable_to=(Target(text, "by hand", text),))
        for hour, text in enumerate(HOSTILE, 1)
    )  # fmt: skip
    spaces = tuple(SpaceView(text, rows, (Notice(text, True),), ((text, text),)) for text in HOSTILE[:3])
    return CatalogView(NOW, spaces, title=HOSTILE[0], restore_url="javascript:window.pwned=1")


def test_names_from_the_bucket_cannot_inject(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(page.render(hostile_catalog()), encoding="utf-8")
    for view in browser.look(path, browser.VIEWS[:1], axe=False)["views"]:
        assert (view["pwned"], view["requests"], view["messages"]) == (None, [], [])
    text = path.read_text(encoding="utf-8")
    assert text.count("<script>") == text.count("</script>") == 1
    assert not re.search(r"<(img|svg onload|iframe)", text)
    assert not re.search(r"""href=["']?\s*javascript""", text, re.IGNORECASE)


def test_what_got_in_all_the_same_would_not_run(catalog: CatalogView, tmp_path: Path) -> None:
    attack = "<script>window.pwned=1</script><img src='https://e.example/x.png' onerror='window.pwned=1'>"
    path = tmp_path / "index.html"
    path.write_text(page.render(catalog).replace("<main>", f"<main>{attack}"), encoding="utf-8")
    (view,) = browser.look(path, browser.VIEWS[:1], axe=False)["views"]
    assert view["pwned"] is None
    assert view["requests"] == []
    assert any("Content Security Policy" in message for message in view["messages"])


def test_hidden_names_are_struck_out_and_the_page_stays_whole(catalog: CatalogView) -> None:
    text = page.render(catalog, hidden=("release 2026-11-22",))
    assert "release 2026" not in text
    assert "(not shown)" in text
    assert text.rstrip().endswith("</html>")
