from __future__ import annotations

import pytest
from rich.console import Console

from epo_jax.report.console import console_table
from epo_jax.report.tokens import join_visible, pieces, plain, visible


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" column", "·column"),
        ("a  b ", "a  b·"),
        ("   ", "···"),
        ("\n", "⏎"),
        ("\t\n", "⇥⏎"),
        ("\r\n", r"\x0d⏎"),
        ("\x00\x1b", r"\x00\x1b"),
        ("\u202eabc", r"\u202eabc"),
        ("\u200b\ufeff\u2028", r"\u200b\ufeff\u2028"),
        ("\xa0", r"\xa0"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("\u0301e", "◌\u0301e"),
        ("", "∅"),
        ("\\xe2", "\\xe2"),
        ("[bold]$x^2$", "[bold]$x^2$"),
        ("中文🙂", "中文🙂"),
    ],
)
def test_invisible_characters_are_shown(token: str, shown: str) -> None:
    assert visible(token) == shown


@pytest.mark.parametrize("mark", "·│⏎⇥∅")
def test_a_mark_in_a_token_is_not_mistaken_for_a_mark(mark: str) -> None:
    assert mark not in visible(f"a{mark}b")


def test_tokens_are_joined_with_a_boundary() -> None:
    assert join_visible(["In", " the", "\n"]) == "In│·the│⏎"


def test_pieces_keep_real_spaces_at_both_edges() -> None:
    assert [(p.kind, p.text) for p in pieces("  a b\n ")] == [
        ("space", "  "),
        ("text", "a b"),
        ("mark", "⏎"),
        ("space", " "),
    ]


def test_plain_text_keeps_white_space_and_escapes_what_would_break_a_page() -> None:
    assert plain(" a\n\tb\x00\u202e\ud800") == " a\n\tb\\x00\\u202e\\ud800"


def test_console_table_prints_markup_in_tokens_as_it_is(report) -> None:
    data = report(points=1, frontier_tokens=(("[bold]", " x[/bold]", "[/]", "\x1b[31m"),), feature="logit: [red]")
    console = Console(width=120, record=True, file=open("/dev/null", "w"), color_system="truecolor")  # noqa: SIM115
    console.print(console_table(data))
    text = console.export_text()
    assert r"[bold]│·x[/bold]│[/]│\x1b[31m" in text
    assert "logit: [red]" in text
    assert "5.62" in text
    assert "277" in text


def test_console_table_loses_no_character_where_it_folds(report) -> None:
    data = report()
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(console_table(data))
    cells = [line.split("│", 4)[4].rsplit("│", 1)[0] for line in console.export_text().splitlines() if "│" in line]
    assert "".join(cell.strip() for cell in cells) == "".join(join_visible(tokens) for tokens in data.frontier_tokens)
