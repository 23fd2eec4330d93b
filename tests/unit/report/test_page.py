"""The catalog page without a browser: markup that escapes, charts of odd catalogs, what stands where."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fac_backup.plain.text import one_line
from fac_backup.report import charts, page
from fac_backup.report.markup import Html, join, tag
from fac_backup.report.views import BackupRow, CatalogView, Notice, SpaceView

from .samples import HOSTILE, NOW, row

text = st.text(max_size=200) | st.sampled_from(HOSTILE)


class Seen(HTMLParser):
    """What a browser's parser sees."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


@given(text, text)
def test_what_is_not_markup_is_escaped_wherever_it_stands(child: str, value: str) -> None:
    seen = Seen(tag("p", child, tag("b", child), title=value, data_x=value))
    assert seen.tags == ["p", "b"]
    assert seen.attributes == [("title", one_line(value, 2000)), ("data-x", one_line(value, 2000))]
    assert seen.words == one_line(child, 2000) * 2


def test_attributes_that_are_none_or_false_are_left_out() -> None:
    assert tag("input", hidden=True, disabled=False, id=None, class_="x") == '<input hidden class="x"/>'
    assert join("a", None, Html("<br/>"), "<") == "a<br/>&lt;"


def view(*rows: BackupRow) -> SpaceView:
    return SpaceView("production", rows, (), (("daily", "a rolling 7 days"),))


@pytest.mark.parametrize(
    "rows",
    [
        (), (row(),), (row(), row()), (row(hours=0), row(hours=0.0001)), (row(hours=-48),), (row(damaged="x"),) * 3,
        (row(database_bytes=0, documents_bytes=0, uploaded_bytes=0), row(hours=30, database_bytes=0)),
        tuple(row(kind=f"kind-{n}", hours=n * 400 + 1) for n in range(12)), tuple(row(hours=h) for h in range(1, 400)),
    ],
    ids=lambda rows: f"{len(rows)} backups",
)  # fmt: skip
def test_odd_catalogs_have_charts_that_are_well_formed_and_stay_inside(rows: tuple[BackupRow, ...]) -> None:
    space = view(*rows)
    for chart in (charts.timeline(space, NOW), charts.growth(space), charts.uploads(space)):
        if chart is None:
            continue
        tree = ElementTree.fromstring(chart)
        for element in tree.iter():
            for name in ("x", "x1", "x2", "cx", "y", "width", "height"):
                value = element.get(name, "0").removesuffix("%")
                assert 0 <= float(value) <= (2000 if name in ("y", "height") else 100.001), (element.tag, name, value)
        assert not re.search(r"nan|inf", chart)


def test_an_entry_has_an_anchor_that_the_timeline_jumps_to() -> None:
    source = page.render(CatalogView(NOW, (view(row(), row(hours=30)),)))
    assert set(re.findall(r'data-jump="([^"]*)"', source)) == set(re.findall(r'<li id="([^"]*)"', source))


def test_the_policy_in_the_head_names_the_styles_and_the_script_and_nothing_else() -> None:
    source = page.render(CatalogView(NOW, (view(row()),)))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', source)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert " style=" not in source
    assert not re.search(r"\son\w+=", source.split("<main>")[1].split("</main>")[0])


def test_the_status_says_how_many_things_there_are_to_look_at() -> None:
    worried = SpaceView("dev", (), (Notice("a", True), Notice("b")))
    assert "1 thing to look at" in page.render(CatalogView(NOW, (worried, view(row()))))
    assert "all well" in page.render(CatalogView(NOW, (view(row()),)))


@pytest.mark.parametrize("name", HOSTILE)
def test_template_signs_in_names_are_not_expanded(name: str) -> None:
    hostile = f"$style ${{script}} $$ {name}"
    source = page.render(CatalogView(NOW, (view(row(note=hostile)),), title=hostile))
    assert Seen(source.split("<main>")[1].split("</main>")[0]).words.count("$style ${script} $$") == 2
