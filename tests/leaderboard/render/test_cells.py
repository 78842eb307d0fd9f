"""Text in Markdown: names of other people's classes and methods are shown as they are."""

from __future__ import annotations

import pytest

from leaderboard.render.cells import literal


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("a*b", r"a\*b"),
        ("[x](y)", r"\[x\](y)"),
        ("<b>", r"\<b\>"),
        ("a|b", r"a\|b"),
        (r"$\frac$", r"\$\\frac\$"),  # GitHub would show a formula
        ("fish &amp; chips", r"fish \&amp; chips"),
        ("&#36;x&#x24;", r"\&#36;x\&#x24;"),
        ("R&D; AT&T", "R\\&D; AT&T"),
        ("left_out=0.1, _private_", r"left_out=0.1, \_private\_"),
    ],
)
def test_markup_of_markdown_is_escaped(text: str, markdown: str) -> None:
    assert literal(text) == markdown
