"""Text from outside cannot act: not in a log, not as Markdown, not as HTML."""

from __future__ import annotations

import html
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fac_backup.plain.text import duration, for_html, for_log, for_markdown, one_line, plural, size

HOSTILE = [
    "::error::x", "  ::set-output name=a::b", ":::", "::::", "##[error]x", "a ##[group]", "####[x",
    "\r::stop-commands::x",     "<script>alert(1)</script>", "</td></tr></table>", "![x](https://e.example/y)", "[x](javascript:alert(1))",  # noqa: E501
    "https://e.example", "www.e.example", "a@e.example", "mailto:a@e.example", "@octocat", "octo/repo#12", "a|b", "`a`",
    "**b**", "    code", "---", "===", "> q", "- [ ] t", "1. x", "&lt;b&gt;", "&#60;b&#62;", "a\\", "\u202egnp.exe",
    "\x1b[2J", "\u2028::error::", "\ud800", "$x$", ":smile:", "[x]: http://a", "''' \"\"\"",
]  # fmt: skip
any_text = st.text(max_size=300) | st.sampled_from(HOSTILE)


@given(any_text)
@example(":::")
@example("::::")
@example("####[")
def test_a_log_line_is_never_a_command_and_never_two_lines(text: str) -> None:
    line = for_log(text)
    assert "::" not in line
    assert "##[" not in line
    assert len(line.splitlines()) <= 1


@given(any_text)
def test_one_line_has_only_printable_characters_and_the_length_asked_for(text: str) -> None:
    line = one_line(text, 50)
    assert len(line) <= 50
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")]


@given(st.text(alphabet="abc xyz0123-_/.", max_size=40))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text
    assert for_log(text) == text
    assert html.unescape(for_markdown(text)) == text


def rendered_tags(markdown: str) -> set[str]:
    """The tags of what a GitHub-like renderer makes of ``markdown``; raw HTML passes through, as there."""
    page = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    return {tag.lower() for tag in re.findall(r"<\s*/?\s*([a-zA-Z!][^\s>/]*)", page)}


@given(any_text)
def test_markdown_cannot_come_of_it_in_a_table_a_list_or_a_paragraph(text: str) -> None:
    shown = for_markdown(text)
    assert rendered_tags(f"| a | b |\n| --- | --- |\n| {shown} | end |") <= {
        "table",
        "thead",
        "tr",
        "th",
        "tbody",
        "td",
    }
    assert rendered_tags(shown) <= {"p"}
    assert rendered_tags(f"1. {shown}") <= {"ol", "li"}
    assert rendered_tags(f"> {shown}") <= {"blockquote", "p"}
    assert rendered_tags(f"<code>{shown}</code>") <= {"p", "code"}


@given(any_text)
def test_a_table_keeps_its_columns(text: str) -> None:
    page = MarkdownIt("commonmark").enable("table").render(f"| a | b |\n| --- | --- |\n| {for_markdown(text)} | end |")
    assert page.count("<td>") == 2
    assert page.count("<td>end</td>") == 1


@pytest.mark.parametrize("text", ["@octocat", "octo/repo#12", "a@e.example", "xmpp:a@b.example/d"])
def test_nothing_that_is_linked_after_entities_are_decoded_survives(text: str) -> None:
    assert not re.search(r"[@#][0-9A-Za-z]", html.unescape(for_markdown(text)))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(attrs)


@given(any_text)
def test_html_cannot_come_of_it_as_text_or_as_an_attribute(text: str) -> None:
    parser = _Tags()
    parser.feed(f'<p title="{for_html(text)}">{for_html(text)}</p>')
    assert parser.tags == ["p"]
    assert parser.attributes == {"title": one_line(text, 2000)}


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_500_000_000, "1.5 GB"), (99_960_000, "100 MB"), (312, "312 B"),
     (999_600, "1 MB"), (7_000_000_000_000_000, "7000 TB")],
)  # fmt: skip
def test_sizes_read_as_on_an_invoice(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.44, "0.4 s"), (12.3, "12 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"),
     (260_000, "3 days"), (86_400, "24 h 0 min")],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_plurals() -> None:
    assert [plural(1, "document"), plural(2310, "document"), plural(0, "entry", "entries")] == [
        "1 document", "2,310 documents", "0 entries",
    ]  # fmt: skip
